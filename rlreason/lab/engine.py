"""The one engine of a run, started when it is first needed, and checked after every load of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlreason.config.experiment import ExperimentConfig
from rlreason.config.updates import OnPolicyConfig
from rlreason.display import Display
from rlreason.engines.engine import Engine
from rlreason.engines.start import start_engine, takes_adapters
from rlreason.lab.weight_check import WeightCheck, limit
from rlreason.run.folder import Run


class SharedEngine:
    """The one engine of this process, started when it is first needed.

    Args:
        config: The run's experiment.
        longest_context: Tokens of the longest context that it must hold.
        engine: One that is there already; None: it is started.
        cache_tokens: As for `start_engine`.
        report: Called with one line about each engine process that is lost; None: the display shows it.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        longest_context: int,
        engine: Engine | None = None,
        cache_tokens: int | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.longest_context = longest_context
        self._config = config
        self._engine = engine
        self._cache_tokens = cache_tokens
        self._check = WeightCheck(limit(config.engine, config.model), longest_context - 1)
        self._report = report

    def loaded(self, policy: Path, run: Run, display: Display) -> Engine:
        """The engine with the weights of `policy`, as the probe has shown.

        Raises:
            UserError: The engine holds other weights.
        """
        if self._engine is None:
            with run.timed("start"):
                adapters = isinstance(self._config.algo, OnPolicyConfig) and takes_adapters(self._config.engine)
                self._engine = start_engine(
                    self._config.engine,
                    self._config.model,
                    self.longest_context,
                    self._config.seed,
                    self._config.model.lora_rank if adapters else 0,
                    self._report or display.line,
                    self._cache_tokens,
                )
                with display.status("starting the engine"):
                    self._engine.load(policy)
        with run.timed("sync"):
            self._engine.load(policy)
            self._check(self._engine, policy, run, display)
        return self._engine

    def release(self) -> None:
        """Make room for training."""
        if self._engine is not None:
            self._engine.release()
            self._check.again()

    def close(self) -> None:
        """End the engine; the next job of a sweep starts its own."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

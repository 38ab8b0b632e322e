"""Hydra's sweeper of every combination, which plans a study first and counts what failed.

Hydra loads plugins only from this namespace, at every start; so everything else is in `rlreason.sweep`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class StudySweeper(BasicSweeper):  # type: ignore[misc]
    """Runs every combination of the values that are swept over.

    Args:
        settings: What a study sets beside some of its choices, such as {"algo=sft": ["algo.epochs=4"]}.
        keywords: Of Hydra's own sweeper.
    """

    def __init__(self, settings: Mapping[str, Sequence[str]], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.settings = settings

    def setup(self, *, config: Any, **keywords: Any) -> None:
        """Make the launcher."""
        if config.hydra.launcher.get("batch_size") == "auto":
            # Joblib would batch jobs together once some are answered at once, and leave other processes idle.
            config.hydra.launcher.batch_size = "1"
        super().setup(config=config, **keywords)

    def sweep(self, arguments: list[str]) -> None:
        """Run every combination of `arguments` and of the parameters of the configuration."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from rlreason.sweep import run_sweep, with_settings

        loader = self.hydra_context.config_loader
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        combinations: Sequence[Sequence[str]] = self.split_arguments(overrides, None)[0]
        run_sweep(
            [with_settings(combination, self.settings) for combination in combinations],
            lambda combination: loader.load_sweep_config(self.config, list(combination)),
            partial(self.launcher.launch, initial_job_idx=0),
        )

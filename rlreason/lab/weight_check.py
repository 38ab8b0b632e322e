"""Whether an engine holds the weights that it was given: the probe, scored after every load.

It looks before a batch is sampled, at one text and at every checkpoint. `sampler_gap` of on-policy training looks
afterwards, at the rollouts themselves, and so sees what happens while tokens are drawn as well. Neither replaces the
other: a fault of the weights costs no batch here, and one of the sampling is seen there alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rlreason.config.sections import EngineConfig, ModelConfig
from rlreason.engines.engine import Engine
from rlreason.errors import UserError
from rlreason.models.probe import Probe, in_float32, mean_gap, probe, probe_of
from rlreason.run.folder import Run

if TYPE_CHECKING:
    from rlreason.display import Display

# Nats a token by which the trainer's answers must differ before they say that its weights have changed: well above what
# merging adapters in bfloat16 changes (docs/log.md).
MOVED = 0.02
# Nats a token by which an engine may differ from the trainer, which scores in float32 (docs/gpu.md has what was met).
FLOAT32_LIMIT, HALF_LIMIT = 0.05, 0.1
ADVICE = "the same command tries again; if that does not help, engine=transformers samples another way"


def limit(engine: EngineConfig, model: ModelConfig) -> float:
    """How far the engine may be from the trainer, in nats a token."""
    if engine.probe_limit is not None:
        return engine.probe_limit
    return FLOAT32_LIMIT if model.dtype == "float32" else HALF_LIMIT


class WeightCheck:
    """Compares what trainer and engine think of the probe.

    Args:
        limit: Mean absolute difference of log-probs that ends the run, in nats a token.
        max_tokens: The probe is cut to what fits into the engine's context.
    """

    def __init__(self, limit: float, max_tokens: int) -> None:
        self.limit = limit
        self.max_tokens = max_tokens
        self._passed: Path | None = None
        self._earlier: tuple[Probe, tuple[float, ...]] | None = None
        self._expected: dict[Path, Probe] = {}

    def __call__(self, engine: Engine, policy: Path, run: Run, display: Display) -> None:
        """Check a policy that the engine has loaded, once, and keep the difference as `probe_gap` in the run.

        Raises:
            UserError: The engine holds other weights, or broken ones.
        """
        if policy == self._passed:
            return
        trained = probe_of(policy)
        expected = trained or self._pretrained(policy, display)
        self._passed = policy
        ids = expected.token_ids[: self.max_tokens]
        expected = Probe(ids, expected.logprobs[: len(ids) - 1])
        found = engine.score(ids)
        gap = mean_gap(expected.logprobs, found)
        if not gap <= self.limit:  # a gap that is no number is no less a fault
            raise UserError(
                f"stale or broken weights in the engine: its log-probs of the probe text differ from the trainer's by "
                f"{gap:.3f} nats a token, more than engine.probe_limit={self.limit}, after loading {policy}; {ADVICE}"
            )
        if trained is not None:
            self._refuse_unmoved(policy, expected, found)
        run.note(probe_gap=gap)

    def again(self) -> None:
        """Check at the next load even if it is the same policy: the weights have been moved in between."""
        self._passed = None

    def _refuse_unmoved(self, policy: Path, expected: Probe, found: tuple[float, ...]) -> None:
        """Stale weights show before the limit: the engine answers as before, to the last bit; the trainer does not.

        What the trainer moves in small steps adds up, since the answers are compared with those of the last change.
        """
        if self._earlier is None or self._earlier[1] != found:
            self._earlier = (expected, found)
            return
        moved = mean_gap(self._earlier[0].logprobs, expected.logprobs)
        if moved > MOVED:
            raise UserError(
                f"stale weights in the engine: its log-probs of the probe text are what they were before it loaded "
                f"{policy}, but the trainer's have moved by {moved:.3f} nats a token; {ADVICE}"
            )

    def _pretrained(self, policy: Path, display: Display) -> Probe:
        """The probe as transformers scores a checkpoint that brings none, such as a pretrained one."""
        if policy not in self._expected:
            with display.status("scoring the probe, to check the engine's weights"):
                self._expected[policy] = scored_by_transformers(policy)
        return self._expected[policy]


def scored_by_transformers(checkpoint: Path) -> Probe:
    """The probe as transformers scores it in float32, on the CPU."""
    from rlreason.models.loading import load_model, load_tokenizer

    model = load_model(checkpoint, "auto")  # its weights stay in the file
    with in_float32(model):
        return probe(model, load_tokenizer(checkpoint))

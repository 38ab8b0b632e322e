"""From a batch to the sequences of one forward pass on one process, and back."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.algorithms import OnPolicyConfig
from rlreason.config.base import SupervisedConfig, require
from rlreason.config.experiment import ExperimentConfig
from rlreason.distributed.shares import micro_batch


@dataclass(frozen=True, slots=True)
class BatchArithmetic:
    """How the sequences of one optimizer step are spread: `batch = processes x micro_batch x accumulation`.

    Args:
        section: The section of the configuration that says it: algo, init or orm.
        batch: Sequences of an optimizer step, over all processes.
        micro_batch: Sequences of one forward pass on one process.
        processes: Processes that train together, on all nodes.
        accumulation: Forward passes of a process for one optimizer step.
        rollouts: Rollouts of one batch of on-policy training (questions x samples); 0 for supervised updates.
        steps_per_rollouts: Optimizer steps that learn from those, in one pass over them.
    """

    section: str
    batch: int
    micro_batch: int
    processes: int
    accumulation: int
    rollouts: int = 0
    steps_per_rollouts: int = 0

    def words(self) -> str:
        """The arithmetic in one line."""
        parts = f"{self.batch} = {self.processes} x {self.micro_batch} x {self.accumulation}"
        line = f"{parts} (optimizer step = processes x micro batch x accumulation)"
        if self.rollouts:
            line = f"{self.rollouts} rollouts a batch in {self.steps_per_rollouts} optimizer steps; {line}"
        return line


def processes(config: ExperimentConfig) -> int:
    """Processes that train together, on all nodes."""
    return config.nproc * config.launcher.nodes


def batch_arithmetic(config: ExperimentConfig, count: int | None = None) -> list[BatchArithmetic]:
    """The arithmetic of every kind of update that the experiment has.

    Args:
        config: The experiment.
        count: Processes that train together; None: as configured.

    Returns:
        One for each of the sections `algo`, `init` and `orm` that trains something.

    Raises:
        UserError: The processes do not divide a batch; the message names the nearest values that do.
    """
    found = []
    count = processes(config) if count is None else count
    algo = config.algo
    if isinstance(algo, OnPolicyConfig):
        size, rollouts = algo.minibatch_size, algo.batch_size
        found.append(_divided("algo", "minibatch_size", size, algo.micro_batch_size, count, rollouts, rollouts // size))
    supervised = {"algo": algo, "init": config.init, "orm": config.orm if trains_outcome_model(config) else None}
    for section, update in supervised.items():
        if isinstance(update, SupervisedConfig):
            found.append(_divided(section, "batch_size", update.batch_size, update.micro_batch_size, count))
    return found


def trains_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the experiment trains an outcome reward model of its own."""
    return uses_outcome_model(config) and config.orm.path is None


def uses_outcome_model(config: ExperimentConfig) -> bool:
    """Whether the experiment rewards, labels, starts a critic or reranks with the model of the section `orm`."""
    algo = config.algo
    return (
        "orm" in (algo.name, config.reward.name, getattr(algo, "labels", ""), getattr(algo, "critic_start", ""))
        or config.eval.orm == "train"
    )


def _divided(
    section: str, name: str, batch: int, largest: int, count: int, rollouts: int = 0, steps: int = 0
) -> BatchArithmetic:
    below, above = batch // count * count, (batch // count + 1) * count
    sizes = " or ".join(str(size) for size in (below, above) if size > 0)
    numbers = [number for number in range(1, batch + 1) if batch % number == 0]
    near = sorted(sorted(numbers, key=lambda number: abs(number - count))[:2])
    require(
        batch % count == 0,
        f"{count} processes do not divide {section}.{name}={batch}; use {section}.{name}={sizes}, or "
        f"{' or '.join(map(str, near))} processes",
    )
    micro = micro_batch(batch, largest, count)
    return BatchArithmetic(section, batch, micro, count, batch // (micro * count), rollouts, steps)

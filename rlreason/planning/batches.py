"""From a batch to the sequences of one forward pass on one process, and back."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.experiment import ExperimentConfig
from rlreason.distributed.shares import micro_batch
from rlreason.errors import UserError
from rlreason.planning.facts import Update
from rlreason.planning.updates import updates


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
    rollouts: int
    steps_per_rollouts: int

    def words(self) -> str:
        """The arithmetic in one line."""
        line = (
            f"{self.batch} = {self.processes} x {self.micro_batch} x {self.accumulation} "
            "(optimizer step = processes x micro batch x accumulation)"
        )
        if self.rollouts:
            line = f"{self.rollouts} rollouts a batch in {self.steps_per_rollouts} optimizer steps; {line}"
        return line


def processes(config: ExperimentConfig) -> int:
    """Processes that train together, on all nodes."""
    return config.nproc * config.launcher.nodes


def batch_arithmetic(config: ExperimentConfig, count: int | None = None) -> list[BatchArithmetic]:
    """The arithmetic of every kind of update of the experiment, in the order in which they come.

    Args:
        config: The experiment.
        count: Processes that train together; None: as configured.

    Raises:
        UserError: The processes do not divide a batch; the message names the nearest values that do.
    """
    return [divided(update, count or processes(config)) for update in updates(config)]


def divided(update: Update, count: int) -> BatchArithmetic:
    """The arithmetic of one kind of update in `count` processes; raises as `batch_arithmetic` does."""
    batch, rollouts = update.batch, update.rollouts
    if batch % count:
        name = f"{update.section}.{update.batch_key}"
        below = batch - batch % count
        sizes = " or ".join(str(size) for size in (below, below + count) if size > 0)
        divisors = [number for number in range(1, batch + 1) if batch % number == 0]
        near = sorted(sorted(divisors, key=lambda number: abs(number - count))[:2])
        raise UserError(
            f"{count} processes do not divide {name}={batch}; use {name}={sizes}, or {' or '.join(map(str, near))} "
            "processes"
        )
    micro = micro_batch(batch, update.settings.micro_batch_size, count)
    return BatchArithmetic(update.section, batch, micro, count, batch // (micro * count), rollouts, rollouts // batch)

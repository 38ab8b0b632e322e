"""From a batch to the sequences of one forward pass on one process, and back."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config import ExperimentConfig, OnPolicyConfig, SFTInitConfig, SupervisedConfig
from rlreason.errors import UserError


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


def batch_arithmetic(config: ExperimentConfig) -> list[BatchArithmetic]:
    """The arithmetic of every kind of update that the experiment has.

    Args:
        config: The experiment.

    Returns:
        One for each of the sections `algo`, `init` and `orm` that trains something.

    Raises:
        UserError: The processes do not divide a batch; the message names the nearest values that do.
    """
    found = []
    count = processes(config)
    if isinstance(config.algo, OnPolicyConfig):
        found.append(_on_policy(config.algo, count))
    elif isinstance(config.algo, SupervisedConfig):
        found.append(_supervised("algo", config.algo, count))
    if isinstance(config.init, SFTInitConfig):
        found.append(_supervised("init", config.init, count))
    if trains_outcome_model(config):
        found.append(_supervised("orm", config.orm, count))
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


def _supervised(section: str, config: SupervisedConfig, count: int) -> BatchArithmetic:
    accumulation = _accumulation(f"{section}.batch_size", config.batch_size, config.micro_batch_size, count)
    return BatchArithmetic(section, config.batch_size, config.micro_batch_size, count, accumulation)


def _on_policy(config: OnPolicyConfig, count: int) -> BatchArithmetic:
    size, micro = config.minibatch_size, config.micro_batch_size
    accumulation = _accumulation("algo.minibatch_size", size, micro, count)
    return BatchArithmetic("algo", size, micro, count, accumulation, config.batch_size, config.batch_size // size)


def _accumulation(key: str, batch: int, micro: int, count: int) -> int:
    if batch % (micro * count) == 0:
        return batch // (micro * count)
    below, above = batch // (micro * count) * micro * count, -(-batch // (micro * count)) * micro * count
    sizes = " or ".join(str(size) for size in dict.fromkeys((below, above)) if size > 0)
    options = [f"{key}={sizes}"]
    smaller = [size for size in range(1, micro) if batch % (size * count) == 0]
    if smaller:
        options.append(f"{key.split('.')[0]}.micro_batch_size={smaller[-1]}")
    fitting = [number for number in range(1, batch // micro + 1) if batch % (micro * number) == 0]
    if fitting and count > 1:
        near = sorted(fitting, key=lambda number: abs(number - count))[:2]
        options.append(f"{' or '.join(map(str, sorted(near)))} processes")
    raise UserError(
        f"{count} processes with {micro} sequences each do not divide {key}={batch}; nearest that do: "
        + ", ".join(options)
    )

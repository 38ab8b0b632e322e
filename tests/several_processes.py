"""What one process and several must do alike: every kind of update on small models."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import toy_policy
from tests_support import composed

from rlreason.algorithms.grpo import grpo_method
from rlreason.algorithms.on_policy import on_policy_update
from rlreason.algorithms.ppo import ppo_method
from rlreason.config.sections import ShardingConfig
from rlreason.distributed import ranks
from rlreason.distributed.ranks import together
from rlreason.models import loading
from rlreason.models.resolve import EMBEDDED_FOLDER
from rlreason.orm.update import LabelledSolution, outcome_update
from rlreason.training.common import NOT_SPLIT, OnlineSettings
from rlreason.training.supervised import Example, supervised_update

TINY = EMBEDDED_FOLDER / "tiny"
# 11 sequences in batches of 4: the last optimizer step has 3, so that two processes cannot share it evenly.
SEQUENCES = [tuple(range(20 + 3 * number, 30 + 5 * number)) for number in range(11)]
FSDP2 = ShardingConfig(name="fsdp2", cpu_offload=False)
PPO = replace(
    toy_policy.PPO,
    batches=2,
    epochs=2,
    minibatch_size=16,
    micro_batch_size=4,
    gap_limit=10.0,
    kl_coefficient=0.1,
    value_clip=0.2,
    kl_stop=100.0,
)
SEPARATE = replace(PPO, critic="separate", kl_in="loss")
GRPO = replace(toy_policy.GRPO, batches=2, minibatch_size=16, micro_batch_size=8, gap_limit=10.0, kl_coefficient=0.1)
LORA = replace(toy_policy.MODEL, lora_rank=2)
ON_POLICY = {  # the configuration and the model's, by the name of the case
    "ppo": (PPO, toy_policy.MODEL),
    "separate": (SEPARATE, toy_policy.MODEL),
    "separate-lora": (SEPARATE, LORA),
    "grpo": (GRPO, toy_policy.MODEL),
    "grpo-lora": (GRPO, LORA),
}


def supervised(folder: Path, sharding: ShardingConfig, checkpointing: bool = False) -> list[float]:
    config = composed("algo=sft", "algo.epochs=2", "algo.batch_size=4", "algo.micro_batch_size=2")
    examples = [Example(ids[:3], ids[3:]) for ids in SEQUENCES]
    losses: list[float] = []
    output = folder / f"supervised-{sharding.name}"
    scratch = output.with_suffix(".scratch")
    model = replace(config.model, gradient_checkpointing=checkpointing)
    arguments = (TINY, examples, config.algo, model, output, scratch, 0, math.inf, (), sharding)
    report = together(supervised_update, *arguments, progress=lambda step, steps, loss: losses.append(loss))
    return [*losses, report.loss, report.steps, report.tokens]


def outcome(folder: Path, sharding: ShardingConfig, checkpointing: bool = False) -> list[float]:
    config = composed("algo=orm", "orm.epochs=2", "orm.batch_size=4", "orm.micro_batch_size=2")
    solutions = [
        LabelledSolution(
            ids[:3], ids[3:], {2: float(number % 2), len(ids) - 4: float(number % 2)}, number % 2 == 1, 1.5
        )
        for number, ids in enumerate(SEQUENCES)
    ]
    losses: list[float] = []
    output = folder / f"outcome-{sharding.name}"
    scratch = output.with_suffix(".scratch")
    model = replace(config.model, gradient_checkpointing=checkpointing)
    arguments = (TINY, solutions, config.orm, model, output, scratch, 0, math.inf, sharding)
    report = together(outcome_update, *arguments, progress=lambda step, steps, loss: losses.append(loss))
    return [*losses, report.loss, report.steps, report.tokens]


class Batches(toy_policy.ToyBatches):
    """Gives the same rollouts whatever the policy has become."""

    def __init__(self, config: Any, folder: Path) -> None:
        super().__init__(toy_policy.policy(), config, 5, rewards)
        self.drawn = super().draw(1, None)
        self.folder = folder

    def policy_folder(self, number: int) -> AbstractContextManager[Path | None]:
        # The engine gets the weights of every batch but the last, which stands for one that is stored.
        return nullcontext(self.folder if self.config.batches > number else None)

    def draw(self, number: int, policy: Path | None) -> Any:
        return self.drawn


class Course:
    """Keeps the policy's last state and the metrics."""

    def __init__(self, folder: Path) -> None:
        self.metrics: list[dict[str, float]] = []
        self.folder = folder

    def measure(self) -> None:
        """Nothing is evaluated."""

    def due(self, batch: int) -> Path | None:
        return self.folder

    def record(self, batch: int, metrics: dict[str, float]) -> None:
        self.metrics.append(metrics)


def rewards(written: list[int]) -> list[float]:
    return [0.25 * (token == 3) for token in written[:-1]] + [float(written[0] == 4)]


def on_policy(
    folder: Path, name: str, sharding: ShardingConfig, checkpointing: bool = False, again: bool = False
) -> list[float]:
    """Losses, counts and metrics; `again` goes on from the checkpoint after the first of the two batches."""
    config, model = ON_POLICY[name]
    model = replace(model, gradient_checkpointing=checkpointing)
    start = folder / f"{name}-start"
    if not start.exists():
        toy_policy.saved(toy_policy.policy(), start)
    name = f"{name}-{sharding.name}"
    output = folder / (f"{name}-again" if again else name)
    course, batches = Course(output), Batches(config, output.with_suffix(".sync"))
    settings = OnlineSettings(folder / f"{name}-scratch", model, 5, 0.0, True, sharding)
    make = partial(ppo_method, config, start, None) if config.name == "ppo" else partial(grpo_method, config, start)
    report = together(on_policy_update, config, start, 0, settings, make, batches=batches, course=course)
    # Left out: times, and extremes over micro-batches, of which several processes have other ones.
    other = ("tokens_per", "step_time", "total_flos", "clip_ratio/high_max", "clip_ratio/low_min")
    names = sorted(key for key in course.metrics[-1] if not key.startswith(other))
    means = [float(metrics[key]) for metrics in course.metrics for key in names if key in metrics]
    return [report.loss, report.steps, report.tokens, *means]


def update(folder: Path, name: str, sharding: ShardingConfig, checkpointing: bool = False) -> list[float]:
    """Losses and counts of the update of that name."""
    if name in ON_POLICY:
        return on_policy(folder, name, sharding, checkpointing)
    return {"supervised": supervised, "outcome": outcome}[name](folder, sharding, checkpointing)


def models_alive() -> int:
    """Models of transformers that something in this process still refers to."""
    from transformers import PreTrainedModel

    return sum(isinstance(item, PreTrainedModel) for item in gc.get_objects())


def cases(folder: Path, names: Iterable[str], checkpointing: bool = False) -> dict[str, list[float]]:
    """The losses and counts of the updates of those names; weights are in `folder`."""
    found = {}
    for sharding in (NOT_SPLIT, FSDP2) if ranks.size() > 1 else (NOT_SPLIT,):
        for name in names:
            found[f"{name} {sharding.name}"] = update(folder, name, sharding, checkpointing)
            if name == "separate":
                on_policy(folder, name, sharding, checkpointing, again=True)
    return found


def one_of_several(folder: str, names: str, how: str) -> None:
    """What each of the processes does: the first leads, and writes what was found."""
    torch.set_num_threads(1)
    loading.bfloat16_is_fast = lambda: False  # its rounding would hide what is compared
    target = Path(folder)
    if ranks.rank() > 0:
        ranks.serve()
    else:
        with ranks.leading():
            found = cases(target, names.split(), how == "checkpointing")
        (target / "found.json").write_text(json.dumps(found))
    (target / f"alive-{ranks.rank()}.json").write_text(json.dumps(models_alive()))

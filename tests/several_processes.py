"""What one process and several must do alike: every kind of update on small models. Run by torchrun, or imported."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import toy_policy
from tests_support import composed

from rlreason.algorithms.base import OnlineSettings
from rlreason.algorithms.on_policy import on_policy_update
from rlreason.config.sections import ShardingConfig
from rlreason.distributed import ranks
from rlreason.distributed.ranks import together
from rlreason.models import loading
from rlreason.models.resolve import EMBEDDED_FOLDER
from rlreason.orm.update import LabelledSolution, outcome_update
from rlreason.training.common import NOT_SPLIT
from rlreason.training.grpo import group_trainer
from rlreason.training.ppo import ppo_trainer
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


def supervised(folder: Path, sharding: ShardingConfig) -> list[float]:
    config = composed("algo=sft", "algo.epochs=2", "algo.batch_size=4", "algo.micro_batch_size=2")
    examples = [Example(ids[:3], ids[3:]) for ids in SEQUENCES]
    losses: list[float] = []
    output = folder / f"sft-{sharding.name}"
    scratch = output.with_suffix(".scratch")
    arguments = (TINY, examples, config.algo, config.model, output, scratch, 0, math.inf, (), sharding)
    report = together(supervised_update, *arguments, progress=lambda step, steps, loss: losses.append(loss))
    return [*losses, report.loss, report.steps, report.tokens]


def outcome(folder: Path, sharding: ShardingConfig) -> list[float]:
    config = composed("algo=orm", "orm.epochs=2", "orm.batch_size=4", "orm.micro_batch_size=2")
    solutions = [
        LabelledSolution(
            ids[:3], ids[3:], {2: float(number % 2), len(ids) - 4: float(number % 2)}, number % 2 == 1, 1.5
        )
        for number, ids in enumerate(SEQUENCES)
    ]
    losses: list[float] = []
    output = folder / f"orm-{sharding.name}"
    scratch = output.with_suffix(".scratch")
    arguments = (TINY, solutions, config.orm, config.model, output, scratch, 0, math.inf, sharding)
    report = together(outcome_update, *arguments, progress=lambda step, steps, loss: losses.append(loss))
    return [*losses, report.loss, report.steps, report.tokens]


class Course:
    """Gives the same rollouts whatever the policy has become, and keeps its last state and the metrics."""

    def __init__(self, config: Any, start: Path, folder: Path) -> None:
        self.config = config
        self.metrics: list[dict[str, float]] = []
        self.stages = SimpleNamespace(online=SimpleNamespace(record=self.record))
        self.folder = folder
        model = toy_policy.policy()
        self.drawn = toy_policy.loop(folder, model, config, 5, rewards).draw(1, model)

    def measure(self) -> None:
        """Nothing is evaluated."""

    def draw(self, number: int, save: Any) -> Any:
        if self.config.batches > number:  # the engine gets the weights of every batch
            save(self.folder.with_suffix(".sync"))
        return self.drawn

    def finished(self, batch: int, save: Any) -> None:
        save(self.folder)

    def record(self, batch: int, metrics: dict[str, float], seen: int) -> None:
        self.metrics.append(metrics)


def rewards(written: list[int]) -> list[float]:
    return [0.25 * (token == 3) for token in written[:-1]] + [float(written[0] == 4)]


def on_policy(folder: Path, name: str, sharding: ShardingConfig, again: bool = False) -> list[float]:
    """Losses, counts and metrics; `again` goes on from the checkpoint after the first of the two batches."""
    config, model = ON_POLICY[name]
    start = folder / f"{name}-start"
    if not start.exists():
        toy_policy.saved(toy_policy.policy(), start)
    name = f"{name}-{sharding.name}"
    course = Course(config, start, folder / (f"{name}-again" if again else name))
    settings = OnlineSettings(folder / f"{name}-scratch", model, 5, 0.0, True, sharding)
    trainer = partial(ppo_trainer, config, start, None) if config.name == "ppo" else partial(group_trainer, config)
    report = together(on_policy_update, config, start, 0, settings, trainer, course=course)
    # Left out: times, and extremes over micro-batches, of which several processes have other ones.
    other = ("tokens_per", "step_time", "total_flos", "clip_ratio/high_max", "clip_ratio/low_min")
    names = sorted(key for key in course.metrics[-1] if not key.startswith(other))
    means = [float(metrics[key]) for metrics in course.metrics for key in names if key in metrics]
    return [report.loss, report.steps, report.tokens, *means]


def cases(folder: Path) -> dict[str, list[float]]:
    """The losses and counts of every update; the trained weights are in `folder`."""
    torch.set_num_threads(1)
    found = {}
    for sharding in (NOT_SPLIT, FSDP2) if ranks.size() > 1 else (NOT_SPLIT,):
        found[f"supervised {sharding.name}"] = supervised(folder, sharding)
        found[f"outcome {sharding.name}"] = outcome(folder, sharding)
        for name in ON_POLICY:
            found[f"{name} {sharding.name}"] = on_policy(folder, name, sharding)
        on_policy(folder, "separate", sharding, again=True)
    return found


if __name__ == "__main__":
    loading.bfloat16_is_fast = lambda: False  # its rounding would hide what is compared
    if ranks.rank() > 0:
        ranks.serve()
    else:
        target = Path(sys.argv[1])
        with ranks.conducting():
            found = cases(target)
        (target / "found.json").write_text(json.dumps(found))

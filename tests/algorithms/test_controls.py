"""A reward that says nothing teaches nothing: the toy policy under a coin, beside the same under a real reward."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_policy import GRPO, WORDS, ToyBatches, chances, policy, trainer

from rlreason.algorithms.grpo import GRPOMethod
from rlreason.evaluation.statistics import crossed_estimate
from rlreason.rewards.controls import RandomRewardConfig, random_reward
from rlreason.types import Asked, Rollout, Step

RIGHT = WORDS.index("a")
COIN = RandomRewardConfig(
    name="random", probability=0.5, threshold=1.0, function=None, function_weight=1.0, function_seconds=60.0
)
CONFIG = replace(GRPO, batches=12)
SEEDS, QUESTIONS = 3, 200


class CoinBatches(ToyBatches):
    """Toy batches whose rewards are coins, those of each run its own."""

    run = 0

    def draw(self, number: int, policy: Path | None) -> tuple[list[Asked], list[Rollout]]:
        asked, rollouts = super().draw(number, policy)
        step = (Step(0, 1, "#### a", "answer"),)
        seeded = [
            replace(item, seed=10**6 * self.run + 1000 * number + row, steps=step) for row, item in enumerate(rollouts)
        ]
        paid = random_reward(seeded, COIN)
        return asked, [replace(item, rewards=earned) for item, earned in zip(seeded, paid, strict=True)]


def answered(model: object, seed: int) -> torch.Tensor:
    """Whether each of some questions is answered rightly; shape `(questions,)`."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(QUESTIONS, generator=generator) < chances(model)[RIGHT]).float()


def gains(folder: Path, kind: type[ToyBatches]) -> list[list[float]]:
    found = []
    for seed in range(SEEDS):
        model = policy(seed)
        before = answered(model, seed)
        batches = kind(model, CONFIG, 1, lambda written: [float(written[0] == RIGHT)])
        batches.run = seed  # seeds that threw the same coins would be one seed
        method = GRPOMethod(CONFIG, 1, None)
        trainer(folder / f"{kind.__name__}{seed}", method, model, CONFIG, 1, batches).train()
        found.append((answered(model, seed) - before).tolist())
    return found


@pytest.mark.engine
def test_nothing_is_found_under_random_rewards_that_a_real_reward_teaches(tmp_path: Path) -> None:
    control = crossed_estimate(gains(tmp_path, CoinBatches), kind="difference")
    real = crossed_estimate(gains(tmp_path, ToyBatches), kind="difference")
    assert control.low <= 0 <= control.high
    assert real.low > 0.2

"""GRPO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlreason.algorithms.base import Algorithm, Questions, Trained, needs_none
from rlreason.algorithms.on_policy import for_budget, rollouts_at_most
from rlreason.config.algorithms import GRPOConfig

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


def grpo(settings: GRPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    from rlreason.training import grpo as trainer

    return trainer.grpo(settings, start, questions, seed, lab)


GRPO = Algorithm(
    settings=GRPOConfig,
    train=grpo,
    title="GRPO",
    method="GRPO",
    color="#CC79A7",
    marker="D",
    learns_from_rewards=True,
    trains_policy=True,
    uses_reward=True,
    needs_solutions=False,
    repeats_init=None,
    completion_factor=1,
    needs_outcome_model=needs_none,
    rollouts=rollouts_at_most,
    for_budget=for_budget,
)

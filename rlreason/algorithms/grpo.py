"""GRPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlreason.algorithms.base import Algorithm, Questions, Trained, needs_none
from rlreason.algorithms.on_policy import for_budget, planned_on_policy, rollouts_at_most
from rlreason.config.base import setting
from rlreason.config.updates import OnPolicyConfig
from rlreason.planning.facts import AlgorithmFacts

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(OnPolicyConfig):
    """GRPO: clipped policy gradient with the other solutions of a question in the place of a critic."""

    name: str = setting("grpo")
    advantage: str = setting(
        "group (return minus the group's mean, over its deviation), dr_grpo (no deviation), rloo (mean of the others)",
        choices=("group", "dr_grpo", "rloo"),
    )


def grpo(settings: GRPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    from rlreason.training import grpo as trainer

    return trainer.grpo(settings, start, questions, seed, lab)


def planned(settings: GRPOConfig) -> AlgorithmFacts:
    """GRPO: on-policy, without a critic."""
    return planned_on_policy(settings, "", "whole")


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
    plan=planned,
    for_budget=for_budget,
)

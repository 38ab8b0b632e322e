"""PPO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlreason.algorithms.base import Algorithm, Questions, Trained
from rlreason.algorithms.on_policy import for_budget, rollouts_at_most
from rlreason.config.algorithms import PPOConfig

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


def ppo(settings: PPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    from rlreason.training import ppo as trainer

    return trainer.ppo(settings, start, questions, seed, lab)


def needs_outcome_model(settings: PPOConfig) -> bool:
    """Whether the critic starts as an outcome reward model."""
    return settings.critic_start == "orm"


PPO = Algorithm(
    settings=PPOConfig,
    train=ppo,
    title="PPO",
    method="PPO",
    color="#D55E00",
    marker="s",
    learns_from_rewards=True,
    trains_policy=True,
    uses_reward=True,
    needs_solutions=False,
    repeats_init=None,
    completion_factor=1,
    needs_outcome_model=needs_outcome_model,
    rollouts=rollouts_at_most,
    for_budget=for_budget,
)

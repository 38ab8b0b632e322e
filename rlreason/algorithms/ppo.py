"""PPO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlreason.algorithms.base import Algorithm, Questions, Trained
from rlreason.algorithms.on_policy import for_budget, planned_on_policy, rollouts_at_most
from rlreason.config.base import require, setting
from rlreason.config.updates import OnPolicyConfig
from rlreason.planning.facts import AlgorithmFacts

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


@dataclass(frozen=True, kw_only=True)
class PPOConfig(OnPolicyConfig):
    """PPO: clipped policy gradient with a critic, rewards and a KL penalty at every token."""

    name: str = setting("ppo")
    gamma: float = setting("discount per token", at_least=0, at_most=1)
    gae_lambda: float = setting(
        "generalised advantage estimation: 0 trusts the critic, 1 the sampled return", at_least=0, at_most=1
    )
    whiten: bool = setting("shift and scale advantages to mean 0 and variance 1 over the tokens of a batch")
    truncated: str = setting(
        "a completion cut at its limit: bootstrap (critic's value), zero, or mask (no loss)",
        choices=("bootstrap", "zero", "mask"),
    )
    critic: str = setting("a head on the policy's trunk, or a separate model", choices=("shared", "separate"))
    critic_start: str = setting(
        "separate critic starts as: policy (init checkpoint) or orm (outcome reward model)", choices=("policy", "orm")
    )
    critic_learning_rate: float = setting("peak learning rate of the critic's head, or of the separate critic", above=0)
    value_coefficient: float = setting("weight of the value loss beside the policy's", above=0)
    value_clip: float | None = setting("values move at most this far per batch; null: no clipping", above=0)
    value_warmup: int = setting("first batches in which only the critic learns", at_least=0)
    kl_in: str = setting(
        "the KL penalty is part of the reward of each token, or of the loss", choices=("reward", "loss")
    )
    kl_target: float | None = setting(
        "KL per completion that an adaptive coefficient holds; null: fixed coefficient", above=0
    )
    kl_stop: float | None = setting(
        "mean KL between the policies before and after a step at which a batch's epochs end; null: never", above=0
    )

    @property
    def fewest_batches(self) -> tuple[int, str]:
        """The fewest batches that the other settings allow, and the setting that decides."""
        return max(super().fewest_batches, (self.value_warmup + 1, f"algo.value_warmup={self.value_warmup}"))

    def check(self) -> None:
        """Refuse a shared critic with a start of its own, a warm-up of all batches, and a target without a penalty."""
        super().check()
        require(
            self.critic_start == "policy" or self.critic == "separate",
            "algo.critic_start=orm needs algo.critic=separate: a shared critic has the policy's trunk",
        )
        require(
            self.value_warmup < self.batches,
            f"algo.value_warmup={self.value_warmup} must be below algo.batches={self.batches}",
        )
        require(
            self.kl_target is None or self.kl_coefficient > 0,
            "algo.kl_target adapts algo.kl_coefficient, which must start above 0",
        )


def ppo(settings: PPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    from rlreason.training import ppo as trainer

    return trainer.ppo(settings, start, questions, seed, lab)


def needs_outcome_model(settings: PPOConfig) -> bool:
    """Whether the critic starts as an outcome reward model."""
    return settings.critic_start == "orm"


def planned(settings: PPOConfig) -> AlgorithmFacts:
    """PPO: on-policy, with a critic."""
    critic = {"policy": "policy", "orm": "whole"}[settings.critic_start] if settings.critic == "separate" else ""
    return planned_on_policy(settings, critic, "split")


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
    plan=planned,
    for_budget=for_budget,
)

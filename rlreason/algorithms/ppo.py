"""PPO (Schulman et al. 2017; for reasoning, Havrilla et al. 2024, section on PPO), token by token.

The state is the question and what has been written, the action is the next token. Rewards are received at the tokens
that end steps; the KL to the initial policy is subtracted at every token, or added to the loss. The critic's values
and generalised advantage estimation turn rewards into advantages; a clipped surrogate updates the policy, and a
clipped squared error the critic. The loop around it, which GRPO shares, is `OnPolicyTrainer`.

Open in the paper and our choices: the critic shares the policy's trunk, advantages are whitened over the batch, and
what follows a cut completion is worth nothing: the token limit is part of the task, under which policies are measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.algorithms.base import Algorithm, Questions, Trained
from rlreason.algorithms.on_policy import for_budget, on_policy, planned_on_policy, reference_model, rollouts_at_most
from rlreason.algorithms.own import own_loss
from rlreason.algorithms.ppo_math import (
    adapted_coefficient,
    explained_variance,
    generalised_advantages,
    importance_weights,
    kl_loss_term,
    kl_penalty,
    masked_mean,
    policy_loss,
    terminal_values,
    token_rewards,
    value_loss,
    whiten,
)
from rlreason.algorithms.space import LEARNING_RATE, ON_POLICY, Among
from rlreason.config.base import require, setting
from rlreason.config.updates import OnPolicyConfig
from rlreason.distributed import ranks
from rlreason.planning.facts import AlgorithmFacts
from rlreason.rewards.base import RewardConfig
from rlreason.rewards.registry import REWARDS
from rlreason.training.method import Method
from rlreason.types import Rollout

if TYPE_CHECKING:
    import torch

    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab
    from rlreason.models.critic import Critic
    from rlreason.training.common import OnlineSettings
    from rlreason.training.forward_pass import Outputs
    from rlreason.training.minibatches import Batch

STATE_FILE = "ppo.json"


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
        "a completion cut at its limit: zero (nothing follows), bootstrap (the critic's value of going on, unless an "
        "answer was stated), or mask (no loss)",
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


def check_with(settings: PPOConfig, reward: RewardConfig) -> None:
    """Refuse rewards that would be counted twice, or that the critic could not hold.

    Raises:
        UserError: The two do not go together.
    """
    model = REWARDS[reward.name].needs_outcome_model
    require(
        settings.truncated != "bootstrap" or not model,
        f"algo.truncated=bootstrap counts a cut completion twice with reward={reward.name}, whose score is already the "
        "value of going on; use algo.truncated=zero or mask",
    )
    if settings.critic_start == "orm":
        penalty = settings.kl_coefficient > 0 and settings.kl_in == "reward"
        require(
            not penalty,
            "algo.critic_start=orm is a probability, which holds no returns below 0, as the KL penalty in the reward "
            "makes them; use algo.kl_in=loss or algo.kl_coefficient=0",
        )
        require(
            reward.from_zero_to_one,
            f"algo.critic_start=orm is a probability, which cannot hold what reward={reward.name} still pays after "
            "every token, if that can be below 0 or above 1; use reward=sparse, or reward=orm with reward.at=end, "
            "without reward.function",
        )


def ppo(settings: PPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    judge = None
    if settings.critic_start == "orm":
        judge = (lab.outcome_model.folder, lab.outcome_model.card.likelihood)
    return on_policy(settings, start, questions, seed, lab, partial(ppo_method, settings, start.init, judge))


def advantages(
    rollouts: Sequence[Rollout],
    batch: Batch,
    values: torch.Tensor,
    reference_logprobs: torch.Tensor | None,
    kl_coefficient: float,
    settings: PPOConfig,
) -> tuple[Batch, dict[str, float]]:
    """From rewards to what the loss of a batch needs.

    Args:
        rollouts: A batch.
        batch: The same as tensors of shape `(batch, time)`, see `Method.advantages`.
        values: The critic's, of every state and of the one after the last token; shape `(batch, time + 1)`.
        reference_logprobs: Log-probs of the initial policy, in nats; shape `(batch, time)`.
            None where there is no KL penalty.
        kl_coefficient: Weight of the KL penalty in the reward of each token.
        settings: Of PPO.

    Returns:
        Tensors of shape `(batch, time)`: `advantages`, corrected for the sampler's numerics; `returns`, which values
        are to become; `old_values`; `mask`, of the tokens that are learned from; and `reference_logprobs` where they
        are given. And the metrics of the batch.
    """
    mask = batch["mask"]
    policy_logprobs, sampler_logprobs = batch["old_logprobs"], batch["sampler_logprobs"]
    cut = mask.new_tensor([item.finish_reason == "length" for item in rollouts]).bool()
    # After a stated answer nothing counts, and the answer has been paid for: there is nothing to go on to.
    open_ended = cut & mask.new_tensor([item.answer is None for item in rollouts]).bool()
    if settings.truncated == "mask":
        mask = mask * ~cut.unsqueeze(1)
    found = {"mask": mask}
    metrics: dict[str, float] = {}

    credits = [[(reward.end - 1, reward.value) for reward in item.rewards] for item in rollouts]
    rewards = token_rewards(credits, mask.shape[1]).to(mask.device)
    if reference_logprobs is not None:
        found["reference_logprobs"] = reference_logprobs
        penalty = kl_penalty(policy_logprobs, reference_logprobs, mask)
        metrics |= {"kl": penalty.sum(1).mean().item(), "kl_coefficient": kl_coefficient}
        if settings.kl_in == "reward":
            rewards = rewards - kl_coefficient * penalty

    lengths = batch["completion_mask"].sum(1)
    values = terminal_values(values, lengths, open_ended & (settings.truncated == "bootstrap"))
    found["old_values"] = values[:, :-1]
    advantages = generalised_advantages(rewards, values, mask, settings.gamma, settings.gae_lambda)
    found["returns"] = advantages + values[:, :-1]
    metrics |= {
        "explained_variance": explained_variance(values[:, :-1], found["returns"], mask).item(),
        "value_mean": masked_mean(values[:, :-1], mask).item(),
        "advantage_mean": masked_mean(advantages, mask).item(),
        "advantage_deviation": masked_mean((advantages - masked_mean(advantages, mask)) ** 2, mask).sqrt().item(),
    }
    if settings.whiten:
        advantages = whiten(advantages, mask)
    if settings.importance_cap is not None:
        advantages = advantages * importance_weights(policy_logprobs, sampler_logprobs, mask, settings.importance_cap)
    found["advantages"] = advantages
    return found, metrics


def ppo_loss(
    now: Outputs, batch: Batch, kl_coefficient: float, critic_only: bool, settings: PPOConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    """Policy loss + value coefficient x value loss (+ KL) (- entropy), each the mean over a minibatch's tokens.

    Args:
        now: The forward pass over a micro-batch.
        batch: The micro-batch, with what `advantages` gave.
        kl_coefficient: Weight of the KL in the loss, where it belongs there.
        critic_only: Whether the critic learns alone.
        settings: Of PPO.

    Returns:
        The micro-batch's part of the minibatch's loss, and metrics, which are means over the micro-batch's tokens.
    """
    mask, old_logprobs = batch["mask"], batch["old_logprobs"]
    if settings.loss is not None:
        policy = own_loss(settings.loss, now.logprobs, batch)
    else:
        policy = policy_loss(now.logprobs, old_logprobs, batch["advantages"], settings.ratio_range)
        if settings.kl_coefficient > 0 and settings.kl_in == "loss":
            policy = policy + kl_coefficient * kl_loss_term(now.logprobs, batch["reference_logprobs"])
    policy = policy - settings.entropy_coefficient * now.entropies
    assert now.values is not None  # PPO has a critic
    value = value_loss(now.values[:, :-1], batch["old_values"], batch["returns"], settings.value_clip)
    per_token = (0.0 if critic_only else 1.0) * policy + settings.value_coefficient * value
    loss = (per_token * mask).sum() / batch["minibatch_tokens"]

    log_ratio = (now.logprobs.detach() - old_logprobs) * mask
    low, high = settings.ratio_range
    clipped = (log_ratio.exp() < low) | (log_ratio.exp() > high)
    return loss, {
        "policy_loss": masked_mean(policy, mask).item(),
        "value_loss": masked_mean(value, mask).item(),
        "entropy": masked_mean(now.entropies, mask).item(),
        "clip_fraction": masked_mean(clipped.float(), mask).item(),
        "approximate_kl": masked_mean(log_ratio.exp() - 1 - log_ratio, mask).item(),
    }


def ppo_method(
    settings: PPOConfig, start: Path, judge: tuple[Path, bool] | None, policy: Any, run: OnlineSettings
) -> PPOMethod:
    """PPO for a policy, with its critic and reference model.

    Args:
        settings: Of PPO.
        start: Folder of the initial policy.
        judge: Folder of the outcome reward model that the critic starts from, and whether that reads likelihoods.
        policy: The policy's language model.
        run: LoRA and precision.
    """
    from rlreason.models.critic import new_critic
    from rlreason.training.common import lora

    critic = new_critic(settings.critic, policy, start, run.model, lora(run.model, "CAUSAL_LM"), judge, run.sharding)
    return PPOMethod(settings, critic, reference_model(settings, start, run))


class PPOMethod(Method):
    """What PPO keeps from batch to batch: the critic, the reference model, the KL coefficient.

    Args:
        settings: Of PPO.
        critic: Values of states.
        reference: See `Method`.
    """

    def __init__(self, settings: PPOConfig, critic: Critic, reference: Any) -> None:
        super().__init__(reference)
        self.settings = settings
        self.critic = critic
        self.kl_coefficient = settings.kl_coefficient
        self.step_kl = 0.0  # between the policies before and after the batch's steps so far, of this process's share

    def critic_only(self, number: int) -> bool:
        """Whether only the critic learns from batch `number`."""
        return number <= self.settings.value_warmup

    def values(
        self, number: int, states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """The critic's values, see `Method`; while it learns alone, a shared trunk is left as it is."""
        states = states.detach() if self.critic_only(number) else states
        found: torch.Tensor = self.critic(states, input_ids, attention_mask)
        return found

    def advantages(
        self,
        number: int,
        rollouts: Sequence[Rollout],
        batch: Batch,
        values: torch.Tensor | None,
        reference_logprobs: torch.Tensor | None,
    ) -> tuple[Batch, dict[str, float]]:
        """`advantages` of a batch, see `Method`; afterwards an adaptive KL coefficient follows the batch's KL."""
        assert values is not None  # of `values` above
        settings = self.settings
        found, metrics = advantages(rollouts, batch, values, reference_logprobs, self.kl_coefficient, settings)
        if settings.kl_target is not None:
            self.kl_coefficient = adapted_coefficient(
                self.kl_coefficient, metrics["kl"], settings.kl_target, len(rollouts)
            )
        return found, metrics

    def loss(self, number: int, epoch: int, now: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """`ppo_loss` of a micro-batch, see `Method`."""
        loss, metrics = ppo_loss(now, batch, self.kl_coefficient, self.critic_only(number), self.settings)
        kl = metrics["approximate_kl"]
        self.step_kl += (batch["mask"].sum() / batch["minibatch_tokens"] * kl).item()
        return loss, {**metrics, f"approximate_kl_epoch_{epoch + 1}": kl}

    def modules(self) -> list[torch.nn.Module]:
        """The critic, and the reference model where there is one."""
        return [self.critic, *super().modules()]

    def prepare(self, optimizer: Any, arguments: dict[str, Any]) -> None:
        """Give the critic an optimizer like the policy's, with a learning rate of its own."""
        from rlreason.training.critic_update import CriticUpdate

        settings = self.settings
        own = {"lr": settings.critic_learning_rate, "weight_decay": settings.weight_decay}
        self.critic_update = CriticUpdate(self.critic, optimizer, settings.max_grad_norm, **{**arguments, **own})

    def weights(self) -> list[torch.nn.Parameter]:
        """The critic's."""
        return self.critic_update.weights

    def step(self, share: float) -> bool:
        """Update the critic; whether the policy has moved too far from the one that sampled the batch."""
        self.critic_update.step(share)
        kl, self.step_kl = self.step_kl, 0.0
        return self.settings.kl_stop is not None and ranks.total(kl) > self.settings.kl_stop

    def save(self, folder: Path) -> None:
        """Save the critic, its optimizer and the KL coefficient."""
        self.critic_update.save(folder)
        if ranks.rank() == 0:
            (folder / STATE_FILE).write_text(json.dumps({"kl_coefficient": self.kl_coefficient}))

    def load(self, folder: Path) -> None:
        """Go on with them."""
        self.critic_update.load(folder)
        self.kl_coefficient = json.loads((folder / STATE_FILE).read_text())["kl_coefficient"]


def needs_outcome_model(settings: PPOConfig) -> bool:
    """Whether the critic starts as an outcome reward model."""
    return settings.critic_start == "orm"


def planned(settings: PPOConfig) -> AlgorithmFacts:
    """PPO: on-policy, with a critic."""
    critic = {"policy": "policy", "orm": "whole"}[settings.critic_start] if settings.critic == "separate" else ""
    return planned_on_policy(settings, critic)


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
    space={**ON_POLICY, "gae_lambda": Among((0.9, 0.95, 1.0)), "critic_learning_rate": LEARNING_RATE},
)

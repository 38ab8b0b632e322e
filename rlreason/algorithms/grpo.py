"""GRPO's advantages (Shao et al. 2024), or those of Dr. GRPO or RLOO, with a loss over the tokens of the batch.

The advantage of every token of a solution is its return against the other solutions of its question: minus the group's
mean, over the group's standard deviation (GRPO); without the deviation (Liu et al. 2025, Dr. GRPO); or minus the mean
of the others (Ahmadian et al. 2024, RLOO). The loss is the mean over all tokens of a batch (Yu et al. 2025, DAPO), for
Dr. GRPO their sum over a constant. Shao et al. take the mean over the tokens of each solution first, by which a wrong
solution costs less for each of its tokens the longer it is; neither of the two here does that. It is PPO's clipped
surrogate, with the KL to the initial policy beside it, corrected as in DeepSeek-V3.2 for tokens that the policy before
the step has written: to the last bit what TRL's GRPOTrainer computes. The loop around it, which PPO shares, is
`OnPolicyTrainer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.algorithms.base import Algorithm, Questions, Trained, needs_none
from rlreason.algorithms.on_policy import for_budget, on_policy, planned_on_policy, reference_model, rollouts_at_most
from rlreason.algorithms.own import own_advantages, own_loss
from rlreason.algorithms.ppo_math import deviation, importance_weights, kl_loss_term, masked_mean
from rlreason.algorithms.space import ON_POLICY, Among
from rlreason.config.base import setting
from rlreason.config.updates import OnPolicyConfig
from rlreason.own import names_own
from rlreason.planning.facts import AlgorithmFacts
from rlreason.training.method import Method
from rlreason.types import Rollout

if TYPE_CHECKING:
    import torch

    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab
    from rlreason.training.common import OnlineSettings
    from rlreason.training.forward_pass import Outputs
    from rlreason.training.minibatches import Batch


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(OnPolicyConfig):
    """GRPO: clipped policy gradient with the other solutions of a question in the place of a critic."""

    name: str = setting("grpo")
    advantage: str = setting(
        "group (return minus the group's mean, over its deviation), dr_grpo (no deviation), rloo (mean of the others)",
        choices=("group", "dr_grpo", "rloo"),
        own=True,
    )
    ratio: str = setting(
        "the probability ratio is that of each token, or of each solution: the geometric mean over its tokens (GSPO)",
        choices=("token", "sequence"),
    )
    truncated: str = setting(
        "a completion cut at its limit is learned from like others, or mask (no loss)", choices=("learn", "mask")
    )


def grpo(settings: GRPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    return on_policy(settings, start, questions, seed, lab, partial(grpo_method, settings, start.init))


def group_advantages(returns: torch.Tensor, kind: str) -> torch.Tensor:
    """The advantage of each solution over the others of its question.

    Args:
        returns: Shape `(questions, samples)`.
        kind: "group", "dr_grpo", "rloo", or a function of the user's own.

    Returns:
        Shape `(questions, samples)`.
    """
    if names_own(kind):
        return own_advantages(kind, returns)
    samples = returns.shape[1]
    advantages = returns - returns.mean(1, keepdim=True)
    if kind == "group":
        return advantages / (deviation(returns).unsqueeze(1) + 1e-4)
    if kind == "rloo":  # r - mean of the others = (r - mean of all) K / (K - 1)
        return advantages * samples / (samples - 1)
    return advantages


def advantages(rollouts: Sequence[Rollout], batch: Batch, settings: GRPOConfig) -> torch.Tensor:
    """The advantage of every token, corrected for the sampler's numerics.

    Args:
        rollouts: A batch, the solutions of each question one after the other.
        batch: The same as tensors of shape `(batch, time)`, see `Method.advantages`.
        settings: Of GRPO.

    Returns:
        Shape `(batch, time)`, or `(batch, 1)` where nothing is corrected.
    """
    policy_logprobs, cap = batch["old_logprobs"], settings.importance_cap
    returns = policy_logprobs.new_tensor([item.total_reward for item in rollouts])
    found = group_advantages(returns.view(-1, settings.samples), settings.advantage).reshape(-1, 1)
    if cap is None:
        return found
    return found * importance_weights(policy_logprobs, batch["sampler_logprobs"], batch["mask"], cap)


def grpo_loss(
    now: Outputs, batch: Batch, max_completion_tokens: int, settings: GRPOConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    """Policy loss (+ KL) (- entropy) of a micro-batch.

    The sum over tokens is divided by the tokens of an average minibatch of the batch; for Dr. GRPO by what a minibatch
    could have at the most.

    Args:
        now: The forward pass over a micro-batch.
        batch: The micro-batch, with `advantages` and `tokens_per_minibatch`.
        max_completion_tokens: Limit of a completion.
        settings: Of GRPO.

    Returns:
        The micro-batch's part of the minibatch's loss, and metrics, which are means over the micro-batch's tokens.
    """
    mask, old_logprobs, advantages = batch["mask"], batch["old_logprobs"], batch["advantages"]
    micro_batches = settings.minibatch_size // len(mask)
    metrics = {"entropy": masked_mean(now.entropies, mask).item()}
    log_ratio = now.logprobs - old_logprobs
    if settings.ratio == "sequence":
        log_ratio = ((log_ratio * mask).sum(1) / mask.sum(1).clamp(min=1)).unsqueeze(1).expand_as(mask)
    ratio, (lowest, highest) = log_ratio.exp(), settings.ratio_range
    kl = None  # stands before the surrogate, so that their gradients add up in TRL's order
    if settings.kl_coefficient > 0:  # tokens are of the old policy; weighted by the ratio, their mean is the KL of now
        kl = kl_loss_term(now.logprobs, batch["reference_logprobs"]) * ratio
        metrics["kl"] = masked_mean(kl, mask).item()
    if settings.loss is not None:
        per_token = own_loss(settings.loss, now.logprobs, batch)
    else:
        per_token = -(ratio * advantages).minimum(ratio.clamp(lowest, highest) * advantages)
        if kl is not None:
            per_token = per_token + settings.kl_coefficient * kl
    total = (per_token * mask).sum()
    if settings.advantage == "dr_grpo":
        mean = total / (len(mask) * max_completion_tokens)
        loss = mean / micro_batches
    else:
        loss = mean = total / batch["tokens_per_minibatch"]
    if settings.entropy_coefficient > 0:
        metrics["policy_loss"] = mean.item()
        loss = loss - settings.entropy_coefficient * (masked_mean(now.entropies, mask) / micro_batches)

    low = ((ratio < lowest) & (advantages < 0)).float()
    high = ((ratio > highest) & (advantages > 0)).float()
    metrics |= {
        "clip_ratio/low_mean": masked_mean(low, mask).item(),
        "clip_ratio/high_mean": masked_mean(high, mask).item(),
        "clip_ratio/region_mean": masked_mean(low + high, mask).item(),
    }
    written = mask.sum(1)
    if written.any():
        rows = written > 0
        metrics["clip_ratio/low_min"] = ((low * mask).sum(1)[rows] / written[rows]).min().item()
        metrics["clip_ratio/high_max"] = ((high * mask).sum(1)[rows] / written[rows]).max().item()
    return loss, metrics


def grpo_method(settings: GRPOConfig, start: Path, policy: Any, run: OnlineSettings) -> GRPOMethod:
    """GRPO with its reference model.

    Args:
        settings: Of GRPO.
        start: Folder of the initial policy.
        policy: The policy's language model, which is not needed.
        run: LoRA, precision, and the limit of a completion.
    """
    del policy
    return GRPOMethod(settings, run.max_completion_tokens, reference_model(settings, start, run))


class GRPOMethod(Method):
    """GRPO keeps nothing from batch to batch but the reference model.

    Args:
        settings: Of GRPO.
        max_completion_tokens: Limit of a completion.
        reference: See `Method`.
    """

    def __init__(self, settings: GRPOConfig, max_completion_tokens: int, reference: Any) -> None:
        super().__init__(reference)
        self.settings = settings
        self.max_completion_tokens = max_completion_tokens

    def advantages(
        self,
        number: int,
        rollouts: Sequence[Rollout],
        batch: Batch,
        values: torch.Tensor | None,
        reference_logprobs: torch.Tensor | None,
    ) -> tuple[Batch, dict[str, float]]:
        """`advantages` of a batch, what is learned from, and the tokens of an average minibatch, see `Method`."""
        del number, values
        mask = batch["mask"]
        if self.settings.truncated == "mask":
            cut = mask.new_tensor([item.finish_reason == "length" for item in rollouts]).bool()
            mask = mask * ~cut.unsqueeze(1)
        minibatches = self.settings.batch_size // self.settings.minibatch_size
        found = {
            "advantages": advantages(rollouts, batch, self.settings),
            "mask": mask,
            "tokens_per_minibatch": mask.sum().clamp(min=1) / minibatches,
        }
        if reference_logprobs is not None:
            found["reference_logprobs"] = reference_logprobs
        return found, {}

    def loss(self, number: int, epoch: int, now: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """`grpo_loss` of a micro-batch, see `Method`."""
        del number, epoch
        return grpo_loss(now, batch, self.max_completion_tokens, self.settings)


def planned(settings: GRPOConfig) -> AlgorithmFacts:
    """GRPO: on-policy, without a critic."""
    return planned_on_policy(settings)


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
    space={**ON_POLICY, "advantage": Among(("group", "dr_grpo", "rloo"))},
)

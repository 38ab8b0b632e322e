"""PPO's arithmetic as functions of tensors: rewards per token, advantages, losses.

State t of a completion is the prompt and its first t tokens; action t is token t. All tensors are `(batch, time)` over
completion tokens, padded on the right; `mask` is 1 where a token was written by the policy and 0 elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Samples over which an adaptive KL coefficient changes by about 20 % at the most; as in the code of Ziegler et al. 2019
# (openai/lm-human-preferences).
KL_HORIZON = 10_000


def token_rewards(rewards: list[list[tuple[int, float]]], time: int) -> torch.Tensor:
    """Rewards laid out over tokens.

    Args:
        rewards: For every completion, pairs of the index of the token that ends a step and the step's reward.
        time: Number of tokens of the longest completion.

    Returns:
        Shape `(batch, time)`.
    """
    import torch

    laid_out = torch.zeros(len(rewards), time)
    for row, credits in enumerate(rewards):
        for position, value in credits:
            laid_out[row, position] += value
    return laid_out


def kl_penalty(policy_logprobs: torch.Tensor, reference_logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The one-sample estimate of KL(policy || reference) that PPO subtracts from the reward of each token.

    `log p_policy(a_t) - log p_reference(a_t)` (Ziegler et al. 2019, equation 2); its mean under the policy is the KL.
    """
    return (policy_logprobs - reference_logprobs) * mask


def kl_loss_term(policy_logprobs: torch.Tensor, reference_logprobs: torch.Tensor) -> torch.Tensor:
    """An estimate of the same KL for the loss: `exp(d) - d - 1` with d = log p_reference - log p_policy, never < 0.

    Its mean over the policy's own samples is KL(policy || reference). The gradient of that mean, the samples being held
    fixed as they are in a loss, is the gradient of KL(reference || policy); weighted by the ratio of the policy to the
    one that sampled, as in GRPO, it is that of KL(policy || reference).
    """
    difference = reference_logprobs - policy_logprobs
    return difference.exp() - difference - 1


def generalised_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, gae_lambda: float
) -> torch.Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16).

    `A_t = delta_t + gamma lambda A_(t+1)` with `delta_t = r_t + gamma V(s_(t+1)) - V(s_t)`.

    Args:
        rewards: Shape `(batch, time)`.
        values: V of every state, the one after the last token included; shape `(batch, time + 1)`. The value after a
            completion's last token is what the caller says it is: 0 for a text that ended, V for one to bootstrap.
        mask: Shape `(batch, time)`. Tokens that the policy did not write belong to the state: they take no time.
        gamma: Discount per token.
        gae_lambda: 0 is the one-step error of the critic, 1 the return minus the critic's value.

    Returns:
        Shape `(batch, time)`; 0 outside the mask.
    """
    import torch

    advantages = torch.zeros_like(rewards)
    later = torch.zeros_like(rewards[:, 0])
    following = values[:, -1]
    received = torch.zeros_like(later)
    for time in range(rewards.shape[1] - 1, -1, -1):
        acted = mask[:, time].bool()
        reward = rewards[:, time] + received
        delta = reward + gamma * following - values[:, time]
        advantage = delta + gamma * gae_lambda * later
        advantages[:, time] = torch.where(acted, advantage, torch.zeros_like(advantage))
        later = torch.where(acted, advantage, later)
        following = torch.where(acted, values[:, time], following)
        received = torch.where(acted, torch.zeros_like(received), reward)
    return advantages


def terminal_values(values: torch.Tensor, lengths: torch.Tensor, bootstrap: torch.Tensor) -> torch.Tensor:
    """Values with those after the last token settled: kept where `bootstrap`, else 0, and repeated over the padding.

    Args:
        values: Shape `(batch, time + 1)`.
        lengths: Tokens of each completion; shape `(batch,)`.
        bootstrap: Whether the text was cut and would have gone on; shape `(batch,)`.
    """
    import torch

    rows = torch.arange(len(values), device=values.device)
    last = values[rows, lengths] * bootstrap
    after = torch.arange(values.shape[1], device=values.device) >= lengths.unsqueeze(1)
    return torch.where(after, last.unsqueeze(1), values)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the mask; 0 where it is empty."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def deviation(values: torch.Tensor) -> torch.Tensor:
    """The sample standard deviation, with n - 1, over the last dimension."""
    count = values.shape[-1]
    squares = (values - values.mean(-1, keepdim=True)) ** 2
    return (squares.mean(-1) * (count / (count - 1))).sqrt()


def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Shift and scale to mean 0 and variance 1 over the mask; 0 outside."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * (variance + 1e-8).rsqrt() * mask


def importance_weights(
    policy_logprobs: torch.Tensor, sampler_logprobs: torch.Tensor, mask: torch.Tensor, cap: float
) -> torch.Tensor:
    """min(p_trainer(a_t) / p_sampler(a_t), cap): what the sampler's numerics changed, corrected (Yao et al. 2025).

    1 outside the mask, and where the sampler gave no number.
    """
    difference = ((policy_logprobs - sampler_logprobs) * mask).nan_to_num(nan=0.0)
    return difference.exp().clamp(max=cap)


def policy_loss(
    logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor, ratio_range: tuple[float, float]
) -> torch.Tensor:
    """The clipped surrogate, token by token: `-min(ratio A, clip(ratio, low, high) A)`.

    Schulman et al. 2017, equation 7, with its sign turned to a loss; low and high are 1 - clip and 1 + clip there, and
    the upper side may be wider (Yu et al. 2025, DAPO).
    """
    ratio = (logprobs - old_logprobs).exp()
    return -(ratio * advantages).minimum(ratio.clamp(*ratio_range) * advantages)


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, clip: float | None
) -> torch.Tensor:
    """Half the squared error, token by token; clipped like the policy's where `clip` is given.

    The larger of the errors of the value and of the value kept within `clip` of the old one, as in OpenAI's baselines.
    """
    error = (values - returns) ** 2
    if clip is not None:
        kept = old_values + (values - old_values).clamp(-clip, clip)
        error = error.maximum((kept - returns) ** 2)
    return 0.5 * error


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 - Var(returns - values) / Var(returns) over the mask; 0 where the returns do not vary."""

    def variance(x: torch.Tensor) -> torch.Tensor:
        return masked_mean((x - masked_mean(x, mask)) ** 2, mask)

    total = variance(returns)
    return (1 - variance(returns - values) / total.clamp(min=1e-12)).where(total > 1e-12, 0.0)


def adapted_coefficient(coefficient: float, kl: float, target: float, samples: int) -> float:
    """The KL coefficient after a batch, moved toward a target KL (Ziegler et al. 2019, equation 4).

    Args:
        coefficient: The current one.
        kl: Mean KL to the reference per completion, in nats.
        target: The KL to hold.
        samples: Completions of the batch.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * samples / KL_HORIZON)

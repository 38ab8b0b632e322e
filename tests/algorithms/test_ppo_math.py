"""PPO's arithmetic against slow loops in double precision, and its gradients against autograd on the plain formulas."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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

SHARES = st.sampled_from([0.0, 0.3, 0.95, 1.0])


def looped_advantages(
    rewards: list[float], values: list[float], gamma: float, gae_lambda: float
) -> tuple[list[float], list[float]]:
    """Advantages by the definition: the exponentially weighted sum of all later errors of the critic.

    Args:
        rewards: Of each action.
        values: Of each state and of the one after the last action.
    """
    errors = [reward + gamma * values[t + 1] - values[t] for t, reward in enumerate(rewards)]
    advantages = [
        math.fsum((gamma * gae_lambda) ** (later - t) * errors[later] for later in range(t, len(errors)))
        for t in range(len(errors))
    ]
    return advantages, [advantage + value for advantage, value in zip(advantages, values[:-1], strict=True)]


def padded(rows: list[list[float]], time: int) -> torch.Tensor:
    return torch.tensor([row + [0.0] * (time - len(row)) for row in rows], dtype=torch.float64)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), SHARES, SHARES, st.integers(0, 3), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_advantages_of_any_lengths_padding_and_truncation(
    lengths: list[int], gamma: float, gae_lambda: float, padding: int, seed: int
) -> None:
    rng = random.Random(seed)
    time = max(lengths) + padding
    rewards = [[rng.gauss(0, 1) for _ in range(length)] for length in lengths]
    values = [[rng.gauss(0, 1) for _ in range(length + 1)] for length in lengths]
    cut = [rng.random() < 0.5 for _ in lengths]
    noise = [row + [rng.gauss(0, 1) for _ in range(time + 1 - len(row))] for row in values]  # padding holds anything
    mask = padded([[1.0] * length for length in lengths], time)
    settled = terminal_values(
        torch.tensor(noise, dtype=torch.float64), torch.tensor(lengths), torch.tensor(cut, dtype=torch.bool)
    )
    found = generalised_advantages(padded(rewards, time), settled, mask, gamma, gae_lambda)
    for row, length in enumerate(lengths):
        end = values[row][-1] if cut[row] else 0.0
        expected, _ = looped_advantages(rewards[row], [*values[row][:-1], end], gamma, gae_lambda)
        assert found[row, :length].tolist() == pytest.approx(expected, abs=1e-10)
        assert found[row, length:].tolist() == [0.0] * (time - length)


def test_advantages_by_hand() -> None:
    # Two tokens, reward 1 at the second, values 0.5 and 0.25, gamma 1, lambda 0.5:
    # delta_1 = 1 - 0.25 = 0.75; delta_0 = 0.25 - 0.5 = -0.25; A_0 = -0.25 + 0.5 * 0.75 = 0.125.
    found = generalised_advantages(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25, 0.0]]), torch.ones(1, 2), 1.0, 0.5
    )
    assert found.tolist() == [[0.125, 0.75]]


def test_given_tokens_are_part_of_the_state() -> None:
    """A completion that begins with two given tokens has the advantages of the same completion without them."""
    rewards, values = torch.tensor([[0.0, 0.0, 0.2, 1.0]]), torch.tensor([[9.0, 9.0, 0.3, 0.6, 0.0]])
    mask = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    found = generalised_advantages(rewards, values, mask, 0.9, 0.8)
    alone = generalised_advantages(rewards[:, 2:], values[:, 2:], mask[:, 2:], 0.9, 0.8)
    assert found[:, 2:].tolist() == alone.tolist()
    assert found[:, :2].tolist() == [[0.0, 0.0]]


def test_lambda_one_without_a_critic_is_the_return_that_follows() -> None:
    rewards = torch.tensor([[0.5, 0.0, 1.0]], dtype=torch.float64)
    found = generalised_advantages(rewards, torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 3), 0.9, 1.0)
    assert found[0].tolist() == pytest.approx([0.5 + 0.81, 0.9, 1.0])


def test_rewards_are_received_at_the_tokens_that_end_steps() -> None:
    assert token_rewards([[(1, 0.5), (3, 1.0)], [], [(0, 0.25), (0, 0.25)]], 4).tolist() == [
        [0.0, 0.5, 0.0, 1.0],
        [0.0] * 4,
        [0.5, 0.0, 0.0, 0.0],
    ]


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=5), st.integers(0, 2**15 - 1))
@settings(max_examples=100, deadline=None)
def test_whitening(rows: list[list[float]], bits: int) -> None:
    values = torch.tensor(rows, dtype=torch.float64)
    mask = torch.tensor([[float(bits >> (3 * row + column) & 1) for column in range(3)] for row in range(len(rows))])
    chosen = [value for value, kept in zip(values.flatten().tolist(), mask.flatten().tolist(), strict=True) if kept]
    found = whiten(values, mask)
    assert (found * (1 - mask)).abs().sum() == 0
    if chosen:
        mean = math.fsum(chosen) / len(chosen)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in chosen) / len(chosen) + 1e-8)
        expected = [(value - mean) / deviation for value in chosen]
        assert found[mask.bool()].tolist() == pytest.approx(expected, abs=1e-6)


def test_policy_loss_and_its_gradient() -> None:
    torch.manual_seed(0)
    logprobs = (-torch.rand(4, 5, dtype=torch.float64) * 2).requires_grad_()
    old = -torch.rand(4, 5, dtype=torch.float64) * 2
    advantages = torch.randn(4, 5, dtype=torch.float64)
    found = policy_loss(logprobs, old, advantages, (0.8, 1.2))
    for row in range(4):
        for column in range(5):
            ratio = math.exp(logprobs[row, column].item() - old[row, column].item())
            advantage = advantages[row, column].item()
            clipped = min(max(ratio, 0.8), 1.2)
            assert found[row, column].item() == pytest.approx(-min(ratio * advantage, clipped * advantage))
            # By hand: the gradient is that of -ratio A, or 0 where the clipped term is the smaller one.
            moves = (advantage > 0 and ratio < 1.2) or (advantage < 0 and ratio > 0.8)
            (gradient,) = torch.autograd.grad(found[row, column], logprobs, retain_graph=True)
            assert gradient[row, column].item() == pytest.approx(-ratio * advantage if moves else 0.0)
            assert gradient.count_nonzero() <= 1


def test_on_the_sampling_policy_the_gradient_is_that_of_reinforce() -> None:
    torch.manual_seed(1)
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    actions = torch.tensor([0, 1, 2, 2, 1, 0])
    returns = torch.randn(6, dtype=torch.float64)
    logprobs = logits.log_softmax(-1).gather(1, actions.unsqueeze(1)).squeeze(1)
    (found,) = torch.autograd.grad(
        policy_loss(logprobs, logprobs.detach(), returns, (0.8, 1.2)).mean(), logits, retain_graph=True
    )
    (reinforce,) = torch.autograd.grad(-(returns * logprobs).mean(), logits)
    assert torch.allclose(found, reinforce)


@pytest.mark.parametrize("clip", [None, 0.2])
def test_value_loss(clip: float | None) -> None:
    values, old, returns = torch.randn(3, 20, dtype=torch.float64).unbind()
    found = value_loss(values, old, returns, clip)
    for value, before, target, loss in zip(*(x.tolist() for x in (values, old, returns, found)), strict=True):
        error = (value - target) ** 2
        if clip is not None:
            error = max(error, (before + min(max(value - before, -clip), clip) - target) ** 2)
        assert loss == pytest.approx(0.5 * error)


def test_kl_estimates() -> None:
    """Both estimates average to the KL of two distributions that are known."""
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    reference = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    exact = (policy * (policy / reference).log()).sum().item()
    penalty = kl_penalty(policy.log().unsqueeze(0), reference.log().unsqueeze(0), torch.ones(1, 3))
    assert (policy * penalty[0]).sum().item() == pytest.approx(exact)
    in_loss = kl_loss_term(policy.log(), reference.log())
    assert (policy * in_loss).sum().item() == pytest.approx(exact)
    assert (in_loss >= 0).all()


def test_importance_weights_are_capped_and_survive_missing_numbers() -> None:
    policy = torch.tensor([[math.log(0.5), math.log(0.9), -1.0, -1.0]])
    sampler = torch.tensor([[math.log(0.25), math.log(0.1), float("nan"), 5.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert importance_weights(policy, sampler, mask, 2.5)[0].tolist() == pytest.approx([2.0, 2.5, 1.0, 1.0])


def test_explained_variance() -> None:
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    assert explained_variance(returns + 5, returns, mask).item() == pytest.approx(1.0)
    assert explained_variance(torch.zeros(1, 4), returns, mask).item() == pytest.approx(0.0)
    assert explained_variance(torch.zeros(1, 4), torch.ones(1, 4), mask).item() == 0.0


def test_padding_and_order_change_no_mean() -> None:
    values, mask = torch.randn(4, 6), (torch.rand(4, 6) < 0.6).float()
    wider = torch.nn.functional.pad(values, (0, 3), value=7.0), torch.nn.functional.pad(mask, (0, 3))
    order = torch.tensor([2, 0, 3, 1])
    assert masked_mean(*wider).item() == pytest.approx(masked_mean(values, mask).item())
    assert masked_mean(values[order], mask[order]).item() == pytest.approx(masked_mean(values, mask).item())
    assert masked_mean(values, torch.zeros_like(mask)).item() == 0.0


def test_the_coefficient_follows_the_target() -> None:
    # Ziegler et al. 2019: the error is bounded to 20 %, and 256 of 10,000 samples move by 0.0256 of it.
    assert adapted_coefficient(0.1, 20.0, 10.0, 256) == pytest.approx(0.1 * (1 + 0.2 * 0.0256))
    assert adapted_coefficient(0.1, 1.0, 10.0, 256) == pytest.approx(0.1 * (1 - 0.2 * 0.0256))
    assert adapted_coefficient(0.1, 10.5, 10.0, 256) == pytest.approx(0.1 * (1 + 0.05 * 0.0256))
    assert adapted_coefficient(0.1, 10.0, 10.0, 256) == 0.1

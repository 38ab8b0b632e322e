"""A batch of rollouts as tensors, what is logged of it, and its minibatches and micro-batches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from rlreason.algorithms.ppo_math import deviation
from rlreason.training.shared_prompts import neighbours
from rlreason.types import Rollout

Batch = dict[str, torch.Tensor]


def collated(rollouts: Sequence[Rollout], given: Mapping[str, int], end: int, padding: int) -> Batch:
    """Rollouts as tensors, one row each.

    Args:
        rollouts: A batch.
        given: How many tokens the completions of a problem were begun with, by its id.
        end: The end-of-text token, which stands in for a completion without tokens.
        padding: The padding token.

    Returns:
        `prompt_ids` and `prompt_mask`, padded on the left, shape `(batch, columns)`. All others are padded on the
        right, shape `(batch, time)`: `completion_ids`; `completion_mask`, 1 for each of their tokens; `mask`, 1 for
        each token that the policy wrote, so that it is learned from; and `sampler_logprobs`, in nats, NaN where the
        sampler gave none.
    """
    prompts = [torch.tensor(item.prompt_ids) for item in rollouts]
    completions = [torch.tensor(item.completion_ids or (end,)) for item in rollouts]
    logprobs = [torch.tensor(item.sampler_logprobs or (math.nan,)) for item in rollouts]
    written = [
        (torch.arange(len(ids)) >= given[item.problem.id]).long() * bool(item.completion_ids)
        for item, ids in zip(rollouts, completions, strict=True)
    ]

    def padded(rows: list[torch.Tensor], value: float, side: str = "right") -> torch.Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)

    return {
        "prompt_ids": padded(prompts, padding, "left"),
        "prompt_mask": padded([torch.ones_like(ids) for ids in prompts], 0, "left"),
        "completion_ids": padded(completions, padding),
        "completion_mask": padded([torch.ones_like(ids) for ids in completions], 0),
        "mask": padded(written, 0),
        "sampler_logprobs": padded(logprobs, 0.0),
    }


def described(rollouts: Sequence[Rollout], batch: Batch, samples: int) -> dict[str, float]:
    """What is logged of a batch before it is learned from: lengths in tokens, returns.

    Args:
        rollouts: A batch, the `samples` of each question one after the other.
        batch: The same as tensors.
        samples: Of each question, at least 2.
    """
    lengths = batch["mask"].sum(1).float()
    cut = torch.tensor([item.finish_reason == "length" for item in rollouts], device=lengths.device)
    ended = lengths[~cut] if not cut.all() else lengths.new_zeros(1)
    returns = torch.tensor([item.total_reward for item in rollouts], dtype=torch.float32)
    mean, spread = returns.mean().item(), deviation(returns).item()
    undecided = deviation(returns.view(-1, samples)).isclose(torch.zeros(1))
    return {
        "completions/mean_length": lengths.mean().item(),
        "completions/min_length": lengths.min().item(),
        "completions/max_length": lengths.max().item(),
        "completions/clipped_ratio": cut.float().mean().item(),
        "completions/mean_terminated_length": ended.mean().item(),
        "completions/min_terminated_length": ended.min().item(),
        "completions/max_terminated_length": ended.max().item(),
        "rewards/total_return/mean": mean,
        "rewards/total_return/std": spread,
        "reward": mean,
        "reward_std": spread,
        "frac_reward_zero_std": undecided.float().mean().item(),
    }


def arranged(batch: Batch, minibatch_size: int, micro_batch_size: int, seed: int) -> list[Batch]:
    """A batch in a new random order of its questions, cut into micro-batches.

    Within a minibatch, the rows of a question and questions of similar length come together, which changes nothing but
    the time it takes, because losses are means over a minibatch's tokens.

    Args:
        batch: Tensors with one row for every rollout, and others that all micro-batches receive as they are.
        minibatch_size: Rows per optimizer step.
        micro_batch_size: Rows per forward pass.
        seed: The seed of the order.

    Returns:
        Micro-batches in order, each with `minibatch_tokens`, the tokens of its whole minibatch that are learned from.
    """
    mask = batch["mask"]
    rows = len(mask)
    micro_batches = []
    prompts, lengths = batch["prompt_ids"] * batch["prompt_mask"], batch["completion_mask"].sum(1)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).to(mask.device)
    for minibatch in neighbours(prompts, lengths, order).split(minibatch_size):
        tokens = mask[minibatch].sum().clamp(min=1)
        by_length = minibatch[neighbours(prompts[minibatch], lengths[minibatch])]
        for chosen in by_length.split(micro_batch_size):
            part = {name: value[chosen] if value.shape[:1] == (rows,) else value for name, value in batch.items()}
            micro_batches.append({**part, "minibatch_tokens": tokens})
    return micro_batches


def columns(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, int]:
    """A batch as `forward_pass` takes it: token ids, attention mask, columns of completions."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    return ids, torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1), batch["completion_ids"].shape[1]

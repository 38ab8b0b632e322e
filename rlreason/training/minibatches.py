"""A batch of rollouts as tensors, cut into minibatches and micro-batches."""

from __future__ import annotations

from typing import Any

import torch

from rlreason.training.shared_prompts import neighbours


def arranged(
    batch: dict[str, Any], minibatch_size: int, micro_batch_size: int, rows: int, seed: int
) -> list[dict[str, Any]]:
    """A batch in a new random order of its questions, cut into micro-batches.

    Within a minibatch, the rows of a question and questions of similar length come together, which changes nothing but
    the time it takes, because losses are means over a minibatch's tokens.

    Args:
        batch: Tensors of `rows` rows, and others that all micro-batches receive as they are.
        minibatch_size: Rows per optimizer step.
        micro_batch_size: Rows per forward pass.
        rows: Of the batch.
        seed: Of the order.

    Returns:
        Micro-batches in order, each with `minibatch_tokens`, the completion tokens of its whole minibatch.
    """
    mask = batch["completion_mask"] * batch.get("tool_mask", 1)
    micro_batches = []
    prompts, lengths = batch["prompt_ids"] * batch["prompt_mask"], batch["completion_mask"].sum(1)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).to(mask.device)
    for minibatch in neighbours(prompts, lengths, order).split(minibatch_size):
        tokens = mask[minibatch].sum().clamp(min=1)
        by_length = minibatch[neighbours(prompts[minibatch], lengths[minibatch])]
        for chosen in by_length.split(micro_batch_size):
            part = {name: value[chosen] if has_rows(value, rows) else value for name, value in batch.items()}
            micro_batches.append({**part, "minibatch_tokens": tokens})
    return micro_batches


def columns(batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """A batch as `OnPolicyTrainer.outputs` takes it: token ids, attention mask, columns of completions."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    return ids, torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1), batch["completion_ids"].shape[1]


def has_rows(value: Any, rows: int) -> bool:
    """Whether a part of a batch is a tensor with one row per rollout."""
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == rows

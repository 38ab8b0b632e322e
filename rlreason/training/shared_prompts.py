"""A prompt is computed once for all its completions.

The K samples of a question are put behind their prompt in one row: each completion's positions go on from the prompt's
end, and its tokens see the prompt and themselves, not each other. Hidden states are those of separate rows; K - 1
passes over the prompt are saved.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Packed(NamedTuple):
    """Prompts with their completions, as a model reads them.

    Args:
        ids: Token ids, padded on the right; shape `(groups, length)`.
        positions: Position of each token in its own solution; shape `(groups, length)`.
        mask: Which tokens each token sees; shape `(groups, 1, length, length)`. None where causal attention is all that
            is needed.
        group: The row of `ids` that holds each solution; shape `(batch, 1)`.
        states: Where the state before each completion token stands in it, and the one after the last; shape
            `(batch, time + 1)`.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor | None
    group: torch.Tensor
    states: torch.Tensor


def packed(input_ids: torch.Tensor, attention_mask: torch.Tensor, time: int, share: bool) -> Packed:
    """Put neighbouring rows of equal prompts together.

    Args:
        input_ids: Prompts padded on the left, completions on the right; shape `(batch, columns)`.
        attention_mask: Shape `(batch, columns)`.
        time: Columns of completions.
        share: Whether prompts may be shared; otherwise every row stays alone, without padding on the left.
    """
    device = input_ids.device
    prompts, completions = (input_ids * attention_mask).split([input_ids.shape[1] - time, time], dim=1)
    prompt_lengths = attention_mask[:, :-time].sum(1)
    lengths = attention_mask[:, -time:].sum(1)
    new = torch.ones(len(prompts), dtype=torch.bool, device=device)
    if share:
        new[1:] = (prompts[1:] != prompts[:-1]).any(1) | (prompt_lengths[1:] != prompt_lengths[:-1])
    group = new.cumsum(0) - 1
    before = lengths.cumsum(0) - lengths
    offsets = prompt_lengths + before - before[new][group]
    total = prompt_lengths[new].index_add(0, group, lengths)

    shape = (len(total), int(total.max()))
    ids = torch.zeros(shape, dtype=input_ids.dtype, device=device)
    positions, owner = torch.zeros_like(ids), torch.full_like(ids, -1)  # the solution of each token; 0 for a prompt's
    rows, columns = attention_mask[:, :-time].bool().nonzero(as_tuple=True)
    rows, columns = rows[new[rows]], columns[new[rows]]
    place = columns - (prompts.shape[1] - prompt_lengths[rows])
    ids[group[rows], place], positions[group[rows], place] = prompts[rows, columns], place
    owner[group[rows], place] = 0
    rows, columns = attention_mask[:, -time:].bool().nonzero(as_tuple=True)
    place = offsets[rows] + columns
    ids[group[rows], place], positions[group[rows], place] = completions[rows, columns], prompt_lengths[rows] + columns
    owner[group[rows], place] = rows + 1

    mask = None
    if len(total) < len(prompts):
        allowed = (owner.unsqueeze(1) == 0) | (owner.unsqueeze(1) == owner.unsqueeze(2))
        allowed &= torch.ones(shape[1], shape[1], dtype=torch.bool, device=device).tril()
        mask = allowed.unsqueeze(1)
    steps = torch.arange(time + 1, device=device).minimum(lengths.unsqueeze(1))
    states = torch.where(steps > 0, offsets.unsqueeze(1) + steps - 1, prompt_lengths.unsqueeze(1) - 1)
    return Packed(ids, positions, mask, group.unsqueeze(1), states)


def can_share(language_model: Any, attention_mask: torch.Tensor, time: int) -> bool:
    """Whether sharing prompts is right for a model and worth while: prompts are longer than completions.

    Beyond the length of the prompt, what the longer rows cost in attention eats up what is saved.
    """
    worth_while = bool(attention_mask[:, :-time].sum() > attention_mask[:, -time:].sum())
    return can_join(language_model) and worth_while


def can_join(language_model: Any) -> bool:
    """Whether sequences may stand in one row: attention is full and takes a mask, and positions are rotations."""
    config = language_model.config.get_text_config()
    full = set(getattr(config, "layer_types", None) or ("full_attention",)) == {"full_attention"}
    masked = getattr(config, "_attn_implementation", "") == "sdpa"
    return full and masked and hasattr(language_model.base_model, "rotary_emb")


def neighbours(prompt_ids: torch.Tensor, lengths: torch.Tensor, order: torch.Tensor | None = None) -> torch.Tensor:
    """An order of rows in which those of one prompt follow each other.

    Args:
        prompt_ids: Prompts padded on the left; shape `(batch, columns)`.
        lengths: Completion tokens of each row; shape `(batch,)`.
        order: An order of rows whose first rows decide the order of prompts; None: by their longest completion, so that
            rows of similar length come together.

    Returns:
        Indices of rows; shape `(batch,)`.
    """
    _, prompt = torch.unique(prompt_ids, dim=0, return_inverse=True)
    rank = torch.zeros(len(prompt_ids), dtype=torch.long, device=prompt_ids.device)
    if order is None:
        rank.scatter_reduce_(0, prompt, lengths, "amax")
        rank = rank * len(prompt_ids) + torch.arange(len(rank), device=rank.device)  # prompts of one length stay apart
    else:
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        rank.scatter_reduce_(0, prompt, place, "amin", include_self=False)
    return rank[prompt].argsort(stable=True)

"""The forward pass over completions: log-probs, entropies and a critic's values, with only what is needed computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from rlreason.models.logprobs import token_distributions
from rlreason.models.sharding import as_forward_pass
from rlreason.training.shared_prompts import can_share, neighbours, packed

Values = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor | None]


class Outputs(NamedTuple):
    """What one forward pass says about completions.

    Args:
        logprobs: Log-probability of each token, in nats; shape `(batch, time)`.
        entropies: Entropy of each token's distribution, in nats; shape `(batch, time)`.
        values: The critic's value of every state, the one after the last token included; shape `(batch, time + 1)`.
            None without a critic.
    """

    logprobs: torch.Tensor
    entropies: torch.Tensor
    values: torch.Tensor | None


def forward_pass(
    accelerator: Any,
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    time: int,
    temperature: float,
    values: Values | None = None,
    entropy_gradient: bool = False,
) -> Outputs:
    """Log-probs, entropies and values of the last `time` columns.

    No padded prompt is computed, a prompt that is longer than its completions only once for all of them, and the
    output layer reads completion tokens only.

    Args:
        accelerator: The trainer's accelerator.
        model: The policy or the reference model, as the accelerator prepared it.
        input_ids: Prompts padded on the left, completions on the right; shape `(batch, columns)`.
        attention_mask: Shape `(batch, columns)`.
        time: Columns of completions.
        temperature: Logits are divided by it.
        values: Gives the critic's values of the last hidden states `(batch, time + 1, hidden)`, ids and mask.
        entropy_gradient: Whether entropies are to be learned from.
    """
    module = accelerator.unwrap_model(model)
    language_model = module.get_base_model() if hasattr(module, "peft_config") else module
    share = can_share(language_model, attention_mask, time)
    rows = packed(input_ids, attention_mask, time, share)
    written = attention_mask[:, -time:].bool()

    def states_logprobs_and_entropies() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with accelerator.autocast():
            hidden = language_model.base_model(
                input_ids=rows.ids, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
            ).last_hidden_state
        states = hidden[rows.group, rows.states]
        head = language_model.get_output_embeddings()
        read = states[:, :-1][written].to(head.weight.dtype)
        return states, *token_distributions(head, read, input_ids[:, -time:][written], temperature, entropy_gradient)

    states, chosen, entropies = as_forward_pass(module, states_logprobs_and_entropies)
    empty = states.new_zeros(written.shape, dtype=torch.float32)
    return Outputs(
        empty.masked_scatter(written, chosen),
        empty.masked_scatter(written, entropies),
        None if values is None else values(states, input_ids, attention_mask),
    )


def in_micro_batches(
    rows_at_once: int,
    accelerator: Any,
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    time: int,
    temperature: float,
    values: Values | None = None,
) -> Outputs:
    """`forward_pass` of any number of rows, at most `rows_at_once` of similar length at a time."""
    prompts = (input_ids * attention_mask)[:, :-time]
    order = neighbours(prompts, attention_mask[:, -time:].sum(1))
    parts = [
        forward_pass(accelerator, model, input_ids[rows], attention_mask[rows], time, temperature, values)
        for rows in order.split(rows_at_once)
    ]
    back = order.argsort()
    return Outputs(*(None if part[0] is None else torch.cat(part)[back] for part in zip(*parts, strict=True)))

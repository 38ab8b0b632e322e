"""Log-probabilities of tokens from last hidden states, in as much memory for a large vocabulary as for a small one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Logits that are in memory together: 441 tokens of a vocabulary of 151,936. More are made piece by piece, and once more
# for their gradients.
LOGITS_AT_ONCE = 2**26


def token_logprobs(head: Any, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token in nats and float32; shape `(tokens,)`. Arguments as for `token_distributions`."""
    (logprobs,) = _piece_by_piece(_logprobs, head, states, tokens)
    return logprobs


def token_distributions(
    head: Any, states: torch.Tensor, tokens: torch.Tensor, temperature: float, entropy_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token and entropy of its distribution, in nats and float32; both of shape `(tokens,)`.

    Args:
        head: The output layer.
        states: Last hidden state before each token, in the precision that the output layer is to read; shape
            `(tokens, hidden)`.
        tokens: Token ids; shape `(tokens,)`.
        temperature: Logits are divided by it.
        entropy_gradient: Whether entropies are to be learned from.
    """
    logprobs, entropies = _piece_by_piece(_distributions, head, states, tokens, temperature, entropy_gradient)
    return logprobs, entropies


def _piece_by_piece(
    function: Callable[..., tuple[torch.Tensor, ...]], head: Any, states: torch.Tensor, tokens: torch.Tensor, *rest: Any
) -> tuple[torch.Tensor, ...]:
    """What `function` gives, of so many tokens at a time that their logits are not too many."""
    import torch
    from torch.utils.checkpoint import checkpoint

    rows = max(1, LOGITS_AT_ONCE // head.weight.shape[0])
    if len(states) <= rows:
        return function(head, states, tokens, *rest)
    again = partial(checkpoint, function, use_reentrant=False) if torch.is_grad_enabled() else function
    pieces = zip(states.split(rows), tokens.split(rows), strict=True)
    found = [again(head, some_states, some_tokens, *rest) for some_states, some_tokens in pieces]
    return tuple(map(torch.cat, zip(*found, strict=True)))


def _logprobs(head: Any, states: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor]:
    logprobs = head(states).float().log_softmax(-1)
    return (logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1),)


def _distributions(
    head: Any, states: torch.Tensor, tokens: torch.Tensor, temperature: float, entropy_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    logprobs = (head(states).float() / temperature).log_softmax(-1)
    chosen = logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and entropy_gradient):
        entropies = -(logprobs.exp() * logprobs).sum(-1)
    return chosen, entropies

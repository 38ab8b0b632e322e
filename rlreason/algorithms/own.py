"""Advantages and losses of the user's own: pure functions of tensors, tried on a small batch before a run begins.

An advantage takes `returns` of shape `(questions, samples)` and gives advantages of that shape. A loss takes

    logprobs             of the policy that learns, with a gradient
    old_logprobs         of the policy that wrote the batch
    reference_logprobs   of the initial policy; None where algo.kl_coefficient is 0
    advantages           of every token
    mask                 1 where the policy wrote a token that is learned from, else 0

each of shape `(batch, time)`, log-probs in nats, and gives a loss for every token, of that shape. What stands outside
the mask counts for nothing; the mean over tokens is taken as for the shipped losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlreason.errors import UserError
from rlreason.own import check_call, imported, raised

if TYPE_CHECKING:
    import torch

ADVANTAGE, LOSS = "algo.advantage", "algo.loss"
LOSS_ARGUMENTS = ("logprobs", "old_logprobs", "reference_logprobs", "advantages", "mask")


def own_advantages(path: str, returns: torch.Tensor) -> torch.Tensor:
    """The advantages that a function of the user's own gives the solutions of each question.

    Args:
        path: Names the function.
        returns: Shape `(questions, samples)`.

    Raises:
        UserError: It fails, or gives something other than finite advantages of that shape.
    """
    found = _called(ADVANTAGE, path, {"returns": returns}, returns)
    if not found.isfinite().all():
        raise UserError(
            f"{ADVANTAGE}={path} gives an advantage that is no finite number, for the returns "
            f"{returns[~found.isfinite().all(1)][0].tolist()} of one question; mend the function"
        )
    return found.detach()


def own_loss(path: str, logprobs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The loss of every token that a function of the user's own gives a micro-batch.

    Args:
        path: Names the function.
        logprobs: Of the policy, in nats; shape `(batch, time)`.
        batch: The micro-batch.

    Raises:
        UserError: It fails, or gives something other than a tensor of that shape.
    """
    arguments: dict[str, Any] = {name: batch.get(name) for name in LOSS_ARGUMENTS} | {"logprobs": logprobs}
    arguments["advantages"] = batch["advantages"].expand_as(logprobs)
    return _called(LOSS, path, arguments, logprobs)


def check_advantage(path: str) -> None:
    """Try an advantage on the returns of a few questions, of which one has equal ones.

    Raises:
        UserError: As `own_advantages`, or it takes other arguments.
    """
    import torch

    check_call(ADVANTAGE, path, "(returns)", returns=None)
    own_advantages(path, torch.tensor([[1.0, 0.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]))


def check_loss(path: str, with_reference: bool) -> None:
    """Try a loss on a small batch.

    Args:
        path: Names the function.
        with_reference: Whether the log-probs of the initial policy are there.

    Raises:
        UserError: As `own_loss`, it takes other arguments, is not finite, or has no gradient.
    """
    import torch

    check_call(LOSS, path, f"({', '.join(LOSS_ARGUMENTS)})", **dict.fromkeys(LOSS_ARGUMENTS))
    generator = torch.Generator().manual_seed(0)
    old, reference = (-torch.rand(4, 6, generator=generator) - 0.1 for _ in range(2))
    logprobs = (old + 0.02 * torch.randn(4, 6, generator=generator)).requires_grad_()
    mask = torch.tensor([[1.0] * 6, [1.0] * 3 + [0.0] * 3, [0.0] + [1.0] * 4 + [0.0], [1.0] + [0.0] * 5])
    advantages = torch.randn(4, 6, generator=generator) * mask
    batch = {"old_logprobs": old, "advantages": advantages, "mask": mask}
    loss = own_loss(path, logprobs, {**batch, "reference_logprobs": reference} if with_reference else batch)
    if not loss[mask.bool()].isfinite().all():
        raise UserError(f"{LOSS}={path} gives a loss that is no finite number on a small batch; mend the function")
    if not loss.requires_grad:
        raise UserError(f"{LOSS}={path} gives a loss without a gradient: it must be computed from logprobs by torch")
    (gradient,) = torch.autograd.grad((loss * mask).sum(), logprobs, allow_unused=True)
    if gradient is None or not gradient.any():
        raise UserError(f"{LOSS}={path} gives a loss whose gradient with respect to logprobs is 0; mend the function")
    if not gradient.isfinite().all():
        raise UserError(f"{LOSS}={path} gives a loss whose gradient is no finite number; mend the function")


def _called(key: str, path: str, arguments: Mapping[str, Any], like: torch.Tensor) -> torch.Tensor:
    """What a function gives, which must be a tensor of numbers shaped as `like`."""
    import torch

    try:
        found = imported(key, path).value(**arguments)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UserError(f"{key}={path} raised {raised(error)}; mend the function") from error
    if not isinstance(found, torch.Tensor) or found.shape != like.shape or not found.is_floating_point():
        what = f"{tuple(found.shape)} of {found.dtype}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"{key}={path} must give a tensor of numbers of shape {tuple(like.shape)}; it gives {what}")
    return found

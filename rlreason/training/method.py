"""What PPO and GRPO each add to the loop that they share, `OnPolicyTrainer`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.types import Rollout

if TYPE_CHECKING:
    import torch

    from rlreason.training.forward_pass import Outputs
    from rlreason.training.minibatches import Batch


class Method:
    """Advantages, a loss, and what is kept from one batch to the next; every process has one.

    Args:
        reference: The initial policy, which does not learn. None where there is no KL penalty, and with LoRA, whose
            adapters are switched off instead.
    """

    def __init__(self, reference: Any) -> None:
        self.reference = None if reference is None else reference.requires_grad_(False).eval()

    def advantages(
        self,
        number: int,
        rollouts: Sequence[Rollout],
        batch: Batch,
        values: torch.Tensor | None,
        reference_logprobs: torch.Tensor | None,
    ) -> tuple[Batch, dict[str, float]]:
        """What the loss needs besides, computed once for each batch.

        Args:
            number: The batch's number, from 1.
            rollouts: The batch.
            batch: The same as tensors, see `collated`, with `old_logprobs` of the policy before the batch, in nats;
                shape `(batch, time)`.
            values: The critic's values of all states; shape `(batch, time + 1)`.
            reference_logprobs: Log-probs of the initial policy, in nats; shape `(batch, time)`.

        Returns:
            Tensors to add to the batch, and metrics.
        """
        raise NotImplementedError

    def loss(self, number: int, epoch: int, now: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a micro-batch, and metrics.

        Args:
            number: The batch's number, from 1.
            epoch: Over the batch, from 0.
            now: The policy's forward pass over the micro-batch.
            batch: The micro-batch, see `arranged`.

        Returns:
            The micro-batches' losses add up to the loss of their minibatch.
        """
        raise NotImplementedError

    def values(
        self, number: int, states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor | None:
        """The critic's values; none without a critic.

        Args:
            number: The batch's number, from 1.
            states: The policy's last hidden states; shape `(batch, time + 1, hidden)`.
            input_ids: Prompts padded on the left, completions on the right; shape `(batch, columns)`.
            attention_mask: Shape `(batch, columns)`.

        Returns:
            Shape `(batch, time + 1)`.
        """
        del number, states, input_ids, attention_mask
        return None

    def modules(self) -> list[torch.nn.Module]:
        """The models besides the policy that compute where the policy does."""
        return [] if self.reference is None else [self.reference]

    def prepare(self, optimizer: Any, arguments: dict[str, Any]) -> None:
        """Called once the modules are in place, with the class and the arguments of the policy's optimizer."""

    def weights(self) -> list[torch.nn.Parameter]:
        """What learns besides the policy."""
        return []

    def step(self, share: float) -> bool:
        """Called when all gradients of an optimizer step are there.

        Args:
            share: The share of the highest learning rate, as the schedule has it now.

        Returns:
            Whether the batch has been learned from enough, so that its other minibatches are left out.
        """
        del share
        return False

    def save(self, folder: Path) -> None:
        """Add to a resumable checkpoint what `load` will need; every process calls it, and rank 0 writes."""

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""

"""GRPOTrainer whose processes share a batch, and learn from it what one process would.

Every process holds the whole batch and takes its share of each minibatch. Weights that are split over the processes
have their gradients summed by FSDP2; those of all others are averaged here, before each optimizer step. DDP is left
out: its reducer waits for a forward pass through its own wrapper, and the forward pass here reads the language model's
parts.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from trl import GRPOTrainer

from rlreason.config.sections import ShardingConfig
from rlreason.distributed import ranks
from rlreason.models.sharding import assert_sharded, split
from rlreason.training.minibatches import has_rows


class Diverged(Exception):
    """Training cannot go on; the message says why."""


class DividedTrainer(GRPOTrainer):  # type: ignore[misc]
    """What several processes need beyond GRPOTrainer; with one process it changes nothing."""

    old_values: torch.Tensor | None = None
    sharding: ShardingConfig

    def in_chunks(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, time: int) -> Any:
        """What a forward pass says about completions; its `logprobs` have the shape `(batch, time)`."""
        raise NotImplementedError

    def divided(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, time: int) -> torch.Tensor:
        """Log-probs of a whole batch, of which each process computes its share; shape `(batch, time)`."""
        share = len(input_ids) // ranks.size()
        mine = slice(ranks.rank() * share, (ranks.rank() + 1) * share)
        logprobs = self.in_chunks(model, input_ids[mine], attention_mask[mine], time).logprobs
        whole: torch.Tensor = self.accelerator.gather(logprobs)
        return whole

    def gathered(self, batch: dict[str, Any], rows: int) -> dict[str, Any]:
        """The batch of all processes, in every process; its first `rows` were here."""
        if ranks.size() == 1:
            return batch

        def gather(tensor: torch.Tensor, left: bool) -> torch.Tensor:
            if tensor.dim() > 1:
                tensor = self.accelerator.pad_across_processes(tensor.contiguous(), dim=1, pad_first=left)
            whole: torch.Tensor = self.accelerator.gather(tensor.contiguous())
            return whole

        if self.old_values is not None:
            self.old_values = gather(self.old_values, False)
        return {
            name: gather(value, name.startswith("prompt")) if has_rows(value, rows) else value
            for name, value in batch.items()
        }

    def place(self, module: torch.nn.Module) -> None:
        """Bring a further model to where this process computes, split as the policy is if it has layers."""
        if self.sharding.name != "none" and hasattr(module, "_no_split_modules"):
            assert_sharded(split(self.accelerator, module), self.sharding)
        else:
            module.to(self.accelerator.device)

    def trained(self) -> list[torch.nn.Parameter]:
        """The weights that learn."""
        return [weights for weights in self.model.parameters() if weights.requires_grad]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A micro-batch; after the last of an optimizer step, all processes have the same gradients."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients and ranks.size() > 1:
            weights = [weight for weight in self.trained() if not isinstance(weight, DTensor)]
            for weight in weights:
                if weight.grad is None:  # no completion of this process needed it
                    weight.grad = torch.zeros_like(weight)
            ranks.average([weight.grad for weight in weights])
        return loss

    def _prepare_for_training(self, *arguments: Any) -> Any:
        """TRL's preparation without DDP; `training_step` averages the gradients instead.

        Raises:
            RuntimeError: The policy is not split as it was asked for.
        """
        if ranks.size() == 1 or self.sharding.name != "none":
            prepared = super()._prepare_for_training(*arguments)
            assert_sharded(self.model_wrapped, self.sharding)
            return prepared
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        try:
            return super()._prepare_for_training(*arguments)
        finally:
            del self.accelerator.prepare_model

    def compute_loss(self, model: Any, inputs: Any, **keywords: Any) -> torch.Tensor:
        """The loss, which must be a number in every process."""
        loss: torch.Tensor = super().compute_loss(model, inputs, **keywords)
        if ranks.total(float(not torch.isfinite(loss))):
            raise Diverged("the loss is not finite")
        return loss

    def average_metrics(self) -> None:
        """Metrics of this batch as means over the processes; only rank 0 shows them."""
        if ranks.size() == 1:
            return
        metrics = self._metrics["train"]
        names = ranks.shared(sorted(metrics))
        means = torch.tensor([sum(metrics[name]) / max(1, len(metrics[name])) for name in names], dtype=torch.float64)
        means = means.to(self.accelerator.device)
        ranks.average([means])
        metrics.update({name: [mean] for name, mean in zip(names, means.tolist(), strict=True)})

"""PPO's critic: the value of every state of a completion, from the policy's trunk or from a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlreason.config.sections import ModelConfig, ShardingConfig
from rlreason.models.loading import load_beside_training, load_for_training
from rlreason.models.scalar_head import ScalarHeadModel, load_scalar_head_model, new_scalar_head_model


class SharedCritic(nn.Module):  # type: ignore[misc]
    """A linear head on the policy's last hidden states; starts at 0."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Values of states, in float32; shape `(batch, time + 1)`.

        Args:
            states: The policy's last hidden states; shape `(batch, time + 1, hidden)`.
            input_ids: Unused.
            attention_mask: Unused.
        """
        values: torch.Tensor = self.head(states.float()).squeeze(-1)
        return values


class SeparateCritic(nn.Module):  # type: ignore[misc]
    """A language model with a scalar head, whose logit is that of a `probability` in an outcome reward model."""

    def __init__(self, model: ScalarHeadModel, probability: bool) -> None:
        super().__init__()
        self.model = model
        self.probability = probability

    @property
    def _no_split_modules(self) -> Any:
        """Classes of the layers that FSDP takes as units, as models of transformers say it."""
        return self.model._no_split_modules

    def forward(self, states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Values of states, in float32; shape `(batch, time + 1)`.

        Args:
            states: The policy's, of which only the shape is used; shape `(batch, time + 1, hidden)`.
            input_ids: Prompts padded on the left, completions on the right; shape `(batch, columns)`.
            attention_mask: Shape `(batch, columns)`.
        """
        time = states.shape[1] - 1
        left = (attention_mask.cumsum(1) == 0).sum(1, keepdim=True)
        longest = int(attention_mask.sum(1).max())
        columns = torch.arange(longest, device=input_ids.device) + left
        ids = input_ids.gather(1, columns.clamp(max=input_ids.shape[1] - 1))
        prompt_lengths = attention_mask[:, :-time].sum(1, keepdim=True)
        positions = prompt_lengths - 1 + torch.arange(time + 1, device=input_ids.device)
        logits = self.model(ids, prompt_lengths.squeeze(1)).logits.gather(1, positions.clamp(max=longest - 1))
        return logits.sigmoid() if self.probability else logits


Critic = SharedCritic | SeparateCritic


def new_critic(
    kind: str,
    policy: Any,
    start: Path,
    config: ModelConfig,
    adapters: Any,
    judge: tuple[Path, bool] | None,
    sharding: ShardingConfig,
) -> Critic:
    """The critic that the configuration asks for.

    Args:
        kind: "shared" or "separate".
        policy: The policy's language model.
        start: Folder of the checkpoint that a separate critic starts from.
        config: Section `model`.
        adapters: PEFT's configuration of a separate critic's adapters; None trains all weights.
        judge: Folder of the outcome reward model that it starts from instead, and whether that reads likelihoods.
        sharding: How processes split it.
    """
    if kind == "shared":
        return SharedCritic(policy.config.get_text_config().hidden_size)
    if judge is not None:
        trained = load_scalar_head_model(*judge, load_beside_training(judge[0], "float32", sharding))
        return SeparateCritic(trained.train(), probability=True)
    language_model = load_for_training(start, config, sharding)
    model = new_scalar_head_model(language_model, config, likelihood=False, adapters=adapters)
    nn.init.zeros_(model.head.weight)
    return SeparateCritic(model.train(), probability=False)  # transformers checkpoints gradients in this mode only

"""A language model with a one-logit head on every token: the outcome reward model, and PPO's critic.

The head reads the last hidden state of a token. It may also read how likely the language model itself finds the
completion so far (mean and lowest log-probability of its tokens): a causal model cannot see at a token what it had
predicted there, so a small trunk learns to check a written result far slower than it can be told. Such a head starts
as that likelihood, and training improves on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlreason.config.sections import ModelConfig
from rlreason.models.logprobs import token_logprobs
from rlreason.models.sharding import full_weights, whole

HEAD_FILE = "scalar_head.safetensors"
LOWEST_LOGPROB = -10.0  # nats; below, a token is simply impossible, and the head stays in its range
# Of the mean and the lowest log-probability: what a logistic regression on the tiny model's solutions came to, rounded.
LIKELIHOOD_WEIGHTS = (3.0, 1.0)


@dataclass
class ScalarHeadOutput:
    """What a forward pass gives; both of shape `(batch, time)`, in float32."""

    logits: torch.Tensor
    logprobs: torch.Tensor | None  # of every completion token, 0 elsewhere; None without `likelihood`


class ScalarHeadModel(nn.Module):  # type: ignore[misc]
    """Language model (with LoRA adapters or without) and scalar head, which may read the `likelihood` as well."""

    # Trainer asks for it when a resumed checkpoint lacks a name, here that of a tied output layer.
    _keys_to_ignore_on_save = None

    def __init__(self, language_model: Any, likelihood: bool) -> None:
        super().__init__()
        self.language_model = language_model
        self.likelihood = likelihood
        self.head = nn.Linear(language_model.config.hidden_size + len(LIKELIHOOD_WEIGHTS) * likelihood, 1)
        nn.init.zeros_(self.head.bias)
        if likelihood:
            nn.init.zeros_(self.head.weight)
            self.head.weight.data[0, -len(LIKELIHOOD_WEIGHTS) :] = torch.tensor(LIKELIHOOD_WEIGHTS)
        else:
            nn.init.normal_(self.head.weight, std=0.02)
        self.register_state_dict_post_hook(_drop_shared_output_layer)

    @property
    def _no_split_modules(self) -> Any:
        """Classes of the layers that FSDP takes as units, as models of transformers say it."""
        return self.language_model._no_split_modules

    def forward(self, input_ids: torch.Tensor, completion_starts: torch.Tensor) -> ScalarHeadOutput:
        """One logit per token.

        Args:
            input_ids: Prompts and completions, padded on the right; shape `(batch, time)`. Causal attention never
                looks at the padding.
            completion_starts: Index of each completion's first token; shape `(batch,)`.
        """
        adapted = hasattr(self.language_model, "peft_config")
        plain = self.language_model.get_base_model() if adapted else self.language_model
        states = plain.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
        features, logprobs = states.float(), None
        if self.likelihood:
            logprobs = completion_logprobs(plain.get_output_embeddings(), states, input_ids, completion_starts)
            features = torch.cat([features, likelihood_features(logprobs, completion_starts)], dim=-1)
        with torch.autocast(features.device.type, enabled=False):
            # FSDP2 may hand out its weights in bfloat16.
            weight, bias = self.head.weight.float(), self.head.bias.float()
            logits: torch.Tensor = nn.functional.linear(features, weight, bias).squeeze(-1)
        return ScalarHeadOutput(logits, logprobs)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors, LoRA merged) to `folder`; where they are split, every process has to call it."""
        from safetensors.torch import save_file

        model, head = whole(self.language_model), full_weights(self.head)
        if model is None:
            return
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        model.save_pretrained(folder)
        save_file(head, folder / HEAD_FILE)


def completion_logprobs(
    head: Any, states: torch.Tensor, input_ids: torch.Tensor, completion_starts: torch.Tensor
) -> torch.Tensor:
    """Log-probability of every completion token in nats, 0 before the completion; shape `(batch, time)`.

    Args:
        head: The output layer.
        states: Last hidden states; shape `(batch, time, hidden)`.
        input_ids: Shape `(batch, time)`.
        completion_starts: Shape `(batch,)`, each at least 1.
    """
    inside = _inside(input_ids.shape[1], completion_starts)
    chosen = token_logprobs(head, states[:, :-1][inside[:, 1:]], input_ids[inside])
    return states.new_zeros(input_ids.shape, dtype=torch.float32).masked_scatter(inside, chosen)


def likelihood_features(logprobs: torch.Tensor, completion_starts: torch.Tensor) -> torch.Tensor:
    """Mean and lowest log-probability of the completion up to each token; shape `(batch, time, 2)`.

    In nats, at least `LOWEST_LOGPROB`, 0 before the completion.

    Args:
        logprobs: Nats, 0 before the completion; shape `(batch, time)`.
        completion_starts: Shape `(batch,)`.
    """
    bounded = logprobs.clamp(min=LOWEST_LOGPROB)
    count = _inside(logprobs.shape[1], completion_starts).cumsum(1)
    return torch.stack([bounded.cumsum(1) / count.clamp(min=1), bounded.cummin(1).values], dim=-1)


def _inside(time: int, completion_starts: torch.Tensor) -> torch.Tensor:
    """Which positions are of the completion (or the padding after it); shape `(batch, time)`."""
    return torch.arange(time, device=completion_starts.device) >= completion_starts.unsqueeze(1)


def load_scalar_head_model(folder: Path, likelihood: bool, language_model: Any) -> ScalarHeadModel:
    """A trained model from its folder, in evaluation mode, with the language model that was loaded from there."""
    from safetensors.torch import load_file

    model = ScalarHeadModel(language_model, likelihood)
    model.head.load_state_dict(load_file(folder / HEAD_FILE))
    model.eval()
    return model


def new_scalar_head_model(language_model: Any, config: ModelConfig, likelihood: bool, adapters: Any) -> ScalarHeadModel:
    """A model for training on a language model, its head untrained, with LoRA where it is asked for."""
    if adapters is not None:
        from peft import get_peft_model

        language_model = get_peft_model(language_model, adapters)
    if config.gradient_checkpointing:
        language_model.gradient_checkpointing_enable()
        language_model.enable_input_require_grads()
    return ScalarHeadModel(language_model, likelihood)


def _drop_shared_output_layer(module: Any, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Keep one of two names of the same matrix: safetensors refuses tensors that share memory."""
    seen: dict[int, str] = {}
    for name in [name for name in state if name.startswith(prefix)]:
        held = state[name].to_local() if hasattr(state[name], "to_local") else state[name]
        pointer = held.data_ptr()
        if pointer == 0:
            continue  # on the meta device, or an empty part of a split weight
        if pointer in seen and state[name].shape == state[seen[pointer]].shape:
            del state[name]
        else:
            seen[pointer] = name

"""A language model with a one-logit head on every token: the outcome reward model, and PPO's critic.

The head reads the last hidden state of a token. It may also read how likely the language model itself found the
completion so far (mean and lowest log-probability of its tokens): a causal model cannot see at a token what it had
predicted there, so a small trunk learns to check a written result far slower than it can be told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlreason.config import ModelConfig

HEAD_FILE = "scalar_head.safetensors"
LOWEST_LOGPROB = -10.0  # nats; below, a token is simply impossible, and the head stays in its range
LIKELIHOOD_FEATURES = 2


class ScalarHeadModel(nn.Module):
    """Language model and scalar head.

    Args:
        language_model: A causal language model of transformers, or one with LoRA adapters.
        likelihood: Whether the head reads the likelihood of the completion too.
    """

    def __init__(self, language_model: Any, likelihood: bool) -> None:
        super().__init__()
        self.language_model = language_model
        self.likelihood = likelihood
        self.head = nn.Linear(language_model.config.hidden_size + LIKELIHOOD_FEATURES * likelihood, 1)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.register_state_dict_post_hook(_drop_shared_output_layer)

    def forward(self, input_ids: torch.Tensor, completion_starts: torch.Tensor) -> torch.Tensor:
        """One logit per token.

        Args:
            input_ids: Prompts and completions, padded on the right; shape `(batch, time)`. Causal attention never
                looks at the padding.
            completion_starts: Index of each completion's first token; shape `(batch,)`.

        Returns:
            Logits in float32; shape `(batch, time)`.
        """
        output = self.language_model(
            input_ids=input_ids, output_hidden_states=True, logits_to_keep=0 if self.likelihood else 1, use_cache=False
        )
        features = output.hidden_states[-1].float()
        if self.likelihood:
            likelihood = likelihood_features(output.logits.detach(), input_ids, completion_starts)
            features = torch.cat([features, likelihood], dim=-1)
        with torch.autocast(features.device.type, enabled=False):
            logits: torch.Tensor = self.head(features).squeeze(-1)
        return logits

    def save(self, folder: Path) -> None:
        """Write weights (safetensors, LoRA merged) to `folder`."""
        from safetensors.torch import save_file

        model = self.language_model
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        model.save_pretrained(folder)
        save_file(self.head.state_dict(), folder / HEAD_FILE)


def likelihood_features(
    logits: torch.Tensor, input_ids: torch.Tensor, completion_starts: torch.Tensor
) -> torch.Tensor:
    """Mean and lowest log-probability of the completion's tokens up to each token.

    Args:
        logits: Of the next token; shape `(batch, time, vocabulary)`.
        input_ids: Shape `(batch, time)`.
        completion_starts: Shape `(batch,)`.

    Returns:
        Nats, at least `LOWEST_LOGPROB`, 0 before the completion; shape `(batch, time, 2)`.
    """
    chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, input_ids[:, 1:].unsqueeze(-1)).squeeze(-1)
    logprobs = nn.functional.pad(chosen, (1, 0)).clamp(min=LOWEST_LOGPROB)
    inside = torch.arange(input_ids.shape[1], device=input_ids.device) >= completion_starts.unsqueeze(1)
    logprobs = logprobs * inside
    mean = logprobs.cumsum(1) / inside.cumsum(1).clamp(min=1)
    return torch.stack([mean, logprobs.cummin(1).values], dim=-1)


def load_scalar_head_model(folder: Path, likelihood: bool) -> ScalarHeadModel:
    """A trained model from its folder, in evaluation mode."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    language_model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    model = ScalarHeadModel(language_model, likelihood)
    model.head.load_state_dict(load_file(folder / HEAD_FILE))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def new_scalar_head_model(folder: Path, config: ModelConfig, likelihood: bool, adapters: Any) -> ScalarHeadModel:
    """A model for training on the language model in `folder`, its head untrained, with LoRA where it is asked for."""
    from rlreason.models.loading import load_for_training

    language_model = load_for_training(folder, config)
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
        pointer = state[name].data_ptr()
        if pointer in seen and state[name].shape == state[seen[pointer]].shape:
            del state[name]
        else:
            seen[pointer] = name

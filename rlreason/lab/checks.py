"""What is looked at before any work: prompts that fit, weights that are the model's; and libraries that keep quiet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlreason.config.context import longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import PromptConfig
from rlreason.data.prompts import build_prompts
from rlreason.display import Display, plain_list
from rlreason.distributed.shares import check_heads
from rlreason.errors import UserError
from rlreason.models.architecture import check_weights
from rlreason.types import Problem, Prompt


def fit_prompts(
    config: ExperimentConfig,
    prompt: PromptConfig,
    tokenizer: Any,
    training: Sequence[Problem],
    splits: Mapping[str, Sequence[Problem]],
    display: Display,
) -> tuple[dict[str, Prompt], list[str]]:
    """The prompts that fit, by problem id, and the ids of those that do not, which are reported.

    Args:
        config: The experiment.
        prompt: How they are made.
        tokenizer: The model's.
        training: Questions that may be shown as solved examples.
        splits: What is asked, by the name of its split.
        display: Says how many are left out.

    Raises:
        UserError: No prompt of a split fits, or prompts cannot be made.
    """
    problems = [problem for asked in splits.values() for problem in asked]
    prompts, too_long = build_prompts(
        problems,
        training,
        prompt,
        tokenizer,
        config.data.seed,
        config.data.max_prompt_tokens,
        config.model.thinking,
    )
    found = {one.problem_id: one for one in prompts}
    under = "" if prompt == config.prompt else f" under eval.second_prompt={prompt.name}"
    for split, asked in splits.items():
        if asked and not any(problem.id in found for problem in asked):
            raise UserError(
                f"data.max_prompt_tokens={config.data.max_prompt_tokens}: the prompts of all {len(asked):,} {split} "
                "questions are longer; raise it"
            )
    if too_long:
        display.line(
            f"left out {len(too_long):,} of {len(problems):,} questions{under}: their prompts are longer than "
            f"data.max_prompt_tokens={config.data.max_prompt_tokens} ({plain_list(too_long)})"
        )
    return found, too_long


def check_shape(config: ExperimentConfig, folder: Path) -> None:
    """Refuse what does not go with the model in `folder`.

    Raises:
        UserError: The weights are not those of the model that `config.json` describes, the longest context has more
            tokens than the model has positions, or its heads cannot be divided between `engine.tensor_parallel_size`
            GPUs.
    """
    check_weights(folder)
    shape = json.loads((folder / "config.json").read_text())
    shape = shape.get("text_config", shape)
    if heads := shape.get("num_attention_heads"):
        of_keys = shape.get("num_key_value_heads") or heads
        check_heads(heads, of_keys, config.engine.tensor_parallel_size, config.model.name)
    positions = shape.get("max_position_embeddings")
    longest = longest_context(config)
    if positions is not None and longest > positions:
        raise UserError(
            f"prompts and completions of up to {longest:,} tokens do not fit into the model's {positions:,} positions; "
            "lower data.max_completion_tokens or data.max_prompt_tokens"
        )

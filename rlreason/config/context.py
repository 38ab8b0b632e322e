"""How long a sequence can become: one definition for the engine, the check of the model and the plan."""

from __future__ import annotations

from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import DataConfig


def longest_context(data: DataConfig, completion_factor: int) -> int:
    """Tokens of the longest context: a prompt, and a completion with all that is inserted into it.

    Args:
        data: Says where prompts and completions end.
        completion_factor: How many times `data.max_completion_tokens` a completion may take, see `completion_factor`.
    """
    return data.max_prompt_tokens + data.max_completion_tokens * completion_factor


def completion_factor(config: ExperimentConfig) -> int:
    """How many times `data.max_completion_tokens` a completion may take.

    2 for return-conditioned RL, which inserts tags: at most as many tokens again. 1 otherwise.
    """
    return 2 if config.algo.name == "rcrl" else 1

"""How long a context may become: the one definition that the engine and the plan share."""

from __future__ import annotations

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig


def longest_context(config: ExperimentConfig) -> int:
    """Tokens of the longest context: a prompt, a completion, and as much again for inserted return tags."""
    data, factor = config.data, ALGORITHMS[config.algo.name].completion_factor
    return data.max_prompt_tokens + data.max_completion_tokens * factor

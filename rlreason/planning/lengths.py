"""How many questions a data set has and how long they are, without reading it.

Counted with the tokeniser of SmolLM2 (the embedded one for wordproblems) on the training questions; other tokenisers
differ by some ten percent. Finished runs on the same data and model say better, see `workload`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.experiment import ExperimentConfig
from rlreason.data.base import GENERATED_TEST_SIZE, GENERATED_TRAIN_SIZE
from rlreason.data.registry import DATASETS

TEMPLATE = 8  # tokens of "Question: ", "Answer:" and line ends
CHAT = 30  # tokens of a chat template and its instruction


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of prompts and completions.

    Args:
        prompt: Mean of a prompt.
        longest_prompt: Of the longest that is asked.
        completion: Mean of a completion.
        longest_completion: Where a sampled one is cut.
        reference: Of the longest reference solution.
        steps: Mean lines of a solution.
    """

    prompt: float
    longest_prompt: int
    completion: float
    longest_completion: int
    reference: int
    steps: float


def lengths(config: ExperimentConfig) -> Lengths:
    """What to expect of the prompts and completions of an experiment."""
    facts, data, prompt = DATASETS[config.data.name].facts, config.data, config.prompt
    around = TEMPLATE + CHAT * prompt.chat
    examples = prompt.examples * (facts.question + facts.solution + around)
    return Lengths(
        prompt=min(examples + facts.question + around, data.max_prompt_tokens),
        longest_prompt=int(min(examples + facts.longest_question + around, data.max_prompt_tokens)),
        completion=min(facts.solution, data.max_completion_tokens),
        longest_completion=data.max_completion_tokens,
        reference=facts.longest_solution,
        steps=facts.steps,
    )


def question_counts(config: ExperimentConfig) -> tuple[int, int, int]:
    """Training, validation and measured questions of an experiment."""
    facts, data = DATASETS[config.data.name].facts, config.data
    training = facts.training - data.validation_size if facts.training else GENERATED_TRAIN_SIZE
    training = training if data.train_size is None else data.train_size
    test = data.test_size or facts.test or GENERATED_TEST_SIZE
    measured = data.validation_size if config.eval.split == "validation" else test
    return max(1, training), data.validation_size, measured

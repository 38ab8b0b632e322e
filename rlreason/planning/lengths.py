"""How many questions a data set has and how long they are, without reading it.

Counted with the tokeniser of SmolLM2 (the embedded one for wordproblems) on the training questions; other tokenisers
differ by some ten percent.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.experiment import ExperimentConfig
from rlreason.data.splits import GENERATED_TEST_SIZE, GENERATED_TRAIN_SIZE
from rlreason.planning.facts import Sizes

TEMPLATE = 8  # tokens of "Question: ", "Answer:" and line ends
CHAT = 30  # tokens of a chat template and its instruction


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known about a data set.

    Args:
        training: Training questions, validation included; 0 for generated data.
        test: Test questions; 0 for generated data.
        question: Mean tokens of a question.
        longest_question: Tokens of the longest.
        solution: Mean tokens of a reference solution; of svamp, which has none, those of gsm_symbolic.
        longest_solution: Tokens of the longest.
        steps: Mean lines of a solution, the answer's not included.
    """

    training: int
    test: int
    question: float
    longest_question: int
    solution: float
    longest_solution: int
    steps: float


FACTS = {
    "gsm8k": DataFacts(7473, 1319, 60.2, 223, 124.4, 454, 3.57),
    "svamp": DataFacts(700, 300, 42.0, 76, 95.1, 260, 3.57),
    "gsm_symbolic": DataFacts(0, 0, 74.9, 155, 95.1, 260, 3.57),
    "wordproblems": DataFacts(0, 0, 45.7, 69, 27.0, 40, 3.0),
}


def known_sizes(config: ExperimentConfig) -> Sizes | None:
    """What to expect of the questions, prompts and completions of an experiment; None for unknown data."""
    facts, data, prompt = FACTS.get(config.data.name), config.data, config.prompt
    if facts is None:
        return None
    around = TEMPLATE + CHAT * prompt.chat
    examples = prompt.examples * (facts.question + facts.solution + around)
    there = facts.training - data.validation_size if facts.training else GENERATED_TRAIN_SIZE
    test = data.test_size or facts.test or GENERATED_TEST_SIZE
    return Sizes(
        training=max(1, there if data.train_size is None else data.train_size),
        validation=data.validation_size,
        measured=data.validation_size if config.eval.split == "validation" else test,
        prompt=min(examples + facts.question + around, data.max_prompt_tokens),
        longest_prompt=int(min(examples + facts.longest_question + around, data.max_prompt_tokens)),
        completion=min(facts.solution, data.max_completion_tokens),
        longest_completion=data.max_completion_tokens,
        reference=facts.longest_solution,
        steps=facts.steps,
    )

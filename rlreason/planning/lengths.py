"""How many questions a data set has and how long they are, without reading it.

Counted with the tokeniser of SmolLM2 (the embedded one for wordproblems) on the training questions; other tokenisers
differ by some ten percent.
"""

from __future__ import annotations

from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import AutoPromptConfig
from rlreason.data.base import GENERATED_TEST_SIZE, held_out, training_questions
from rlreason.data.registry import DATASETS
from rlreason.planning.facts import Sizes

TEMPLATE = 8  # tokens of "Question: ", "Answer:" and line ends
CHAT = 30  # tokens of a chat template and its instruction


def known_sizes(config: ExperimentConfig) -> Sizes | None:
    """What to expect of the questions, prompts and completions of an experiment; None for unknown data."""
    facts, data, prompt = DATASETS[config.data.name].facts, config.data, config.prompt
    if isinstance(prompt, AutoPromptConfig):  # examples are the longest that it can come to
        prompt = prompt.of("base")
    if facts is None:
        return None
    around = TEMPLATE + CHAT * prompt.chat
    examples = prompt.examples * (facts.question + facts.solution + around)
    validation, test = held_out(data), data.test_size or facts.test or GENERATED_TEST_SIZE
    return Sizes(
        training=max(1, training_questions(data, DATASETS[data.name]) or 0),
        validation=validation,
        measured=validation if config.eval.split == "validation" else test,
        prompt=min(examples + facts.question + around, data.max_prompt_tokens),
        examples=min(examples, data.max_prompt_tokens),
        longest_prompt=int(min(examples + facts.longest_question + around, data.max_prompt_tokens)),
        completion=min(facts.solution, data.max_completion_tokens),
        longest_completion=data.max_completion_tokens,
        reference=facts.longest_solution,
        steps=facts.steps,
    )

"""From a question to what the model reads, and from a reference solution to what it should have written."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox

from rlreason.answers.extraction import final_answer_line
from rlreason.config.sections import PromptConfig
from rlreason.errors import UserError
from rlreason.models.tokens import encoded_prompts
from rlreason.types import Problem, Prompt

# What an expression inside a template can raise besides jinja2's own errors, such as {{ 1 / 0 }} or {{ question + 1 }}.
EXPRESSION_ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


def solution_text(problem: Problem, config: PromptConfig) -> str:
    """The reference solution as a completion of its prompt: its steps, then the line of the final answer.

    It stands behind a space where the prompt does not end with one, or with a line, as in "Answer: 18".
    """
    space = "" if config.chat or config.template[-1:].isspace() else " "
    return space + "\n".join([*problem.steps, final_answer_line(problem.answer, config.answer)])


def build_prompts(
    problems: Sequence[Problem],
    training: Sequence[Problem],
    config: PromptConfig,
    tokenizer: Any,
    seed: int,
    max_prompt_tokens: int,
    thinking: bool | None = None,
) -> tuple[list[Prompt], list[str]]:
    """Render and encode the prompt of every problem.

    Solved examples are drawn by the seed from the training questions with solutions. With `drawn=once` all problems see
    the same ones; a problem that is one of them sees the next in the seeded order in its place. With `drawn=anew` the
    seed and its id decide which ones a problem sees. Prompts of more than `max_prompt_tokens` are
    left out. `thinking`: what a chat template is told that leaves the choice; None: nothing.

    Returns:
        The prompts that fit, in the order of `problems`, and the ids of the problems whose prompts do not.

    Raises:
        UserError: The template is wrong, there are too few solved examples, or the tokeniser has no chat template.
    """
    template = _template(config.template)
    if config.chat and not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"prompt={config.name}: the tokeniser of this model has no chat template; use prompt=auto or "
            "prompt=few_shot, or an instruction-tuned model"
        )
    if config.chat and thinking is not None and "enable_thinking" not in str(tokenizer.chat_template):
        raise UserError(
            f"model.thinking={str(thinking).lower()}: the chat template of this model leaves no choice whether to "
            "think; use model.thinking=null"
        )
    options = {} if thinking is None else {"enable_thinking": thinking}
    solved = _solved(training, config)
    candidates = _candidates(solved, config, f"{seed}/examples")
    texts = []
    for problem in problems:
        if config.drawn == "anew":
            candidates = _candidates(solved, config, f"{seed}/examples/{problem.id}")
        examples = _examples_for(problem, candidates, config)
        texts.append(_prompt_text(problem, examples, config, template, tokenizer, options))
    prompts: list[Prompt] = []
    too_long: list[str] = []
    # A chat template writes the special tokens itself; adding them again would double the BOS token.
    encoded = encoded_prompts(tokenizer, texts, special=not config.chat)
    for problem, text, ids in zip(problems, texts, encoded, strict=True):
        if len(ids) > max_prompt_tokens:
            too_long.append(problem.id)
        else:
            prompts.append(Prompt(problem.id, text, tuple(ids)))
    return prompts, too_long


def _template(source: str) -> jinja2.Template:
    # By default jinja2 drops a template's last newline, which would join "Answer:" and the completion.
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        used = jinja2.meta.find_undeclared_variables(environment.parse(source))
        template = environment.from_string(source)
    except jinja2.TemplateError as error:
        raise UserError(f"prompt.template={source!r} is not a valid jinja2 template: {error.message}") from error
    if "question" not in used:
        raise UserError(f"prompt.template={source!r} never uses {{{{ question }}}}; put it where the question goes")
    return template


def _render(template: jinja2.Template, problem: Problem, config: PromptConfig) -> str:
    try:
        return template.render(question=problem.question)
    except (jinja2.TemplateError, *EXPRESSION_ERRORS) as error:
        raise UserError(
            f"prompt.template={config.template!r} cannot be rendered: {error}; its only variable is {{{{ question }}}}"
        ) from error


def _solved(training: Sequence[Problem], config: PromptConfig) -> list[Problem]:
    """The training problems that may be shown; none where none is to be."""
    if config.examples == 0:
        return []
    solved = [problem for problem in training if problem.steps]
    if not solved:
        raise UserError(
            f"prompt.examples={config.examples} needs training questions with worked solutions and this data set has "
            "none; use prompt=plain or prompt.examples=0"
        )
    return solved


def _candidates(solved: Sequence[Problem], config: PromptConfig, seed: str) -> list[Problem]:
    """Those that are shown, in order of preference: one more than needed, as a spare."""
    return random.Random(seed).sample(solved, min(config.examples + 1, len(solved)))


def _examples_for(problem: Problem, candidates: Sequence[Problem], config: PromptConfig) -> list[Problem]:
    others = [example for example in candidates if example.id != problem.id]
    if len(others) < config.examples:
        raise UserError(
            f"prompt.examples={config.examples}: the question {problem.id} has only {len(others)} other training "
            "questions with worked solutions; lower it, or raise data.train_size"
        )
    return others[: config.examples]


def _prompt_text(
    problem: Problem,
    examples: Sequence[Problem],
    config: PromptConfig,
    template: jinja2.Template,
    tokenizer: Any,
    options: Mapping[str, Any],
) -> str:
    question = _render(template, problem, config)
    shown = [(_render(template, example, config), solution_text(example, config)) for example in examples]
    if not config.chat:
        return "".join(f"{asked}{solved}{config.separator}" for asked, solved in shown) + question
    messages = [] if config.system is None else [{"role": "system", "content": config.system}]
    messages += [
        message
        for asked, solved in shown
        for message in ({"role": "user", "content": asked}, {"role": "assistant", "content": solved})
    ]
    messages.append({"role": "user", "content": question})
    try:
        text: str = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)
    except jinja2.TemplateError as error:
        raise UserError(
            f"prompt={config.name}: the tokeniser's chat template refuses these messages: {error}; use prompt=plain"
        ) from error
    return text

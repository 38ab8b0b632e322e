"""Rendered prompts, compared with what a person would write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rlreason.answers.equality import verdicts
from rlreason.answers.extraction import EXTRACTIONS, final_answer_line
from rlreason.config.sections import PromptConfig
from rlreason.data.prompts import build_prompts, solution_text
from rlreason.errors import UserError
from rlreason.types import Problem

SHIPPED = Path(__file__).parents[2] / "conf" / "prompt"
CHAT_TEMPLATE = (
    "<s>{% for message in messages %}[{{ message.role }}]{{ message.content }}[/]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
PROBLEM = Problem("p", "How many?", "3", ("1+2=3",))
TRAINING = [Problem(f"t{n}", f"Question {n}?", str(n), (f"{n}+0={n}", "Done.")) for n in range(10)]


def shipped(name: str, **changes: Any) -> PromptConfig:
    config = PromptConfig(**yaml.safe_load((SHIPPED / f"{name}.yaml").read_text()))
    return replace(config, **changes)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, after a BOS token, as Llama's tokeniser adds it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *alphabet])}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def chat_tokenizer(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> PreTrainedTokenizerFast:
    monkeypatch.setattr(tokenizer, "chat_template", CHAT_TEMPLATE)
    return tokenizer


def text_of(config: PromptConfig, tokenizer: Any, problem: Problem = PROBLEM, seed: int = 0) -> str:
    prompts, too_long = build_prompts([problem], TRAINING, config, tokenizer, seed, 10_000)
    assert too_long == []
    return prompts[0].text


def test_a_chat_template_that_leaves_the_choice_is_told_whether_to_think(chat_tokenizer, monkeypatch):
    asked = text_of(shipped("chat", template="{{ question }}"), chat_tokenizer)
    closed = "{% if add_generation_prompt and enable_thinking is false %}<think></think>{% endif %}"
    for template, thinking, ending in ((closed, False, "<think></think>"), (closed, True, ""), (closed, None, "")):
        monkeypatch.setattr(chat_tokenizer, "chat_template", CHAT_TEMPLATE + template)
        config = shipped("chat", template="{{ question }}")
        (prompt,), _ = build_prompts([PROBLEM], TRAINING, config, chat_tokenizer, 0, 10_000, thinking)
        assert prompt.text == asked + ending
    monkeypatch.setattr(chat_tokenizer, "chat_template", CHAT_TEMPLATE)
    with pytest.raises(UserError, match=r"model.thinking=false: .* leaves no choice .*; use model.thinking=null"):
        build_prompts([PROBLEM], TRAINING, shipped("chat"), chat_tokenizer, 0, 10_000, thinking=False)


def refusal(config: PromptConfig, tokenizer: Any, training: list[Problem] = TRAINING) -> str:
    with pytest.raises(UserError) as caught:
        build_prompts([PROBLEM, *training], training, config, tokenizer, 0, 10_000)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_solution_text() -> None:
    plain = shipped("plain")
    assert solution_text(TRAINING[4], plain) == "4+0=4\nDone.\n#### 4"
    assert solution_text(Problem("p", "?", "3"), plain) == "#### 3"
    assert solution_text(TRAINING[4], shipped("boxed")) == "4+0=4\nDone.\nThe final answer is \\boxed{4}."
    assert solution_text(TRAINING[4], shipped("lm_eval_cot")) == " 4+0=4\nDone.\nThe answer is 4."


def test_plain(tokenizer: PreTrainedTokenizerFast) -> None:
    prompts, too_long = build_prompts([PROBLEM], [], shipped("plain"), tokenizer, 0, 100)
    assert too_long == []
    assert prompts[0].problem_id == "p"
    assert prompts[0].text == "Question: How many?\nAnswer:\n"
    assert prompts[0].token_ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(prompts[0].token_ids[1:]) == prompts[0].text
    assert tokenizer.bos_token_id not in prompts[0].token_ids[1:]


def test_few_shot_shows_solved_training_questions_in_the_same_form(tokenizer: PreTrainedTokenizerFast) -> None:
    text = text_of(shipped("few_shot", examples=2), tokenizer)
    *examples, question = text.split("\n\n")
    assert question == "Question: How many?\nAnswer:\n"
    shown = {f"Question: {item.question}\nAnswer:\n{solution_text(item, shipped('few_shot'))}" for item in TRAINING}
    assert len(examples) == len(set(examples)) == 2
    assert set(examples) <= shown


def test_few_shot_follows_the_seed(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [text_of(shipped("few_shot"), tokenizer, seed=seed) for seed in (0, 0, 1, 2)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_a_training_question_never_sees_itself(tokenizer: PreTrainedTokenizerFast) -> None:
    config = shipped("few_shot")
    prompts, _ = build_prompts([PROBLEM, *TRAINING], TRAINING, config, tokenizer, 0, 10_000)
    common = prompts[0].text.split("\n\n")[:-1]
    replaced = 0
    for problem, prompt in zip(TRAINING, prompts[1:], strict=True):
        *examples, question = prompt.text.split("\n\n")
        assert problem.question in question
        assert not any(problem.question in example for example in examples)
        assert len(set(examples)) == config.examples
        replaced += examples != common
        assert len(set(examples) & set(common)) >= config.examples - 1
    assert replaced == config.examples


def test_few_shot_passes_over_questions_without_steps(tokenizer: PreTrainedTokenizerFast) -> None:
    training = [*TRAINING[:2], *(Problem(f"u{n}", f"Unsolved {n}?", "1") for n in range(50))]
    prompts, _ = build_prompts([PROBLEM], training, shipped("few_shot", examples=2), tokenizer, 0, 10_000)
    assert "Unsolved" not in prompts[0].text


def test_chat(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    prompts, _ = build_prompts([PROBLEM], [], shipped("chat"), chat_tokenizer, 0, 10_000)
    assert prompts[0].text == (
        "<s>[user]How many?\n\nReason step by step, one step per line. "
        "Write the final answer on the last line, in the form: #### <number>[/][assistant]"
    )
    assert prompts[0].token_ids.count(chat_tokenizer.bos_token_id) == 1


def test_chat_with_examples_alternates(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    config = shipped("chat", examples=1, template="{{ question }}")
    text = text_of(config, chat_tokenizer)
    possible = [
        f"<s>[user]{item.question}[/][assistant]{solution_text(item, config)}[/][user]How many?[/][assistant]"
        for item in TRAINING
    ]
    assert text in possible


def test_long_prompts_are_left_out_and_named(tokenizer: PreTrainedTokenizerFast) -> None:
    longer = Problem("long", "How many more?", "3")
    length = len(build_prompts([PROBLEM], [], shipped("plain"), tokenizer, 0, 10_000)[0][0].token_ids)
    prompts, too_long = build_prompts([longer, PROBLEM], [], shipped("plain"), tokenizer, 0, length)
    assert [prompt.problem_id for prompt in prompts] == ["p"]
    assert too_long == ["long"]
    assert build_prompts([PROBLEM], [], shipped("plain"), tokenizer, 0, length - 1)[1] == ["p"]


def test_more_prompts_than_one_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    problems = [Problem(str(number), f"What is {number}?", "1") for number in range(600)]
    prompts, _ = build_prompts(problems, [], shipped("plain"), tokenizer, 0, 100)
    assert [prompt.problem_id for prompt in prompts] == [problem.id for problem in problems]
    assert all(f"What is {prompt.problem_id}?" in tokenizer.decode(prompt.token_ids) for prompt in prompts)


def test_questions_are_data_not_templates(tokenizer: PreTrainedTokenizerFast) -> None:
    problem = Problem("p", "Is {{ 1 + 1 }} <b>two</b> & more?", "2")
    assert text_of(shipped("plain"), tokenizer, problem) == "Question: Is {{ 1 + 1 }} <b>two</b> & more?\nAnswer:\n"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ question", "is not a valid jinja2 template: "),
        ("{{ question | shout }}", "is not a valid jinja2 template: No filter named 'shout'."),
        (
            "{{ question }} {{ answer }}",
            "cannot be rendered: 'answer' is undefined; its only variable is {{ question }}",
        ),
        ("{{ question + 1 }}", "cannot be rendered: can only concatenate str"),
        ("{{ question }}{{ 1 / 0 }}", "cannot be rendered: division by zero"),
        ("{{ question.__class__.__mro__ }}", "cannot be rendered: access to attribute '__class__'"),
        ("The question:", "never uses {{ question }}; put it where the question goes"),
    ],
)
def test_wrong_templates(tokenizer: PreTrainedTokenizerFast, template: str, complaint: str) -> None:
    message = refusal(shipped("plain", template=template), tokenizer)
    assert message.startswith(f"prompt.template={template!r} {complaint}")


def test_few_shot_without_solutions(tokenizer: PreTrainedTokenizerFast) -> None:
    assert refusal(shipped("few_shot"), tokenizer, [Problem("u", "?", "1")]) == (
        "prompt.examples=4 needs training questions with worked solutions and this data set has none; "
        "use prompt=plain or prompt.examples=0"
    )


def test_few_shot_with_too_few_solutions(tokenizer: PreTrainedTokenizerFast) -> None:
    assert refusal(shipped("few_shot"), tokenizer, TRAINING[:3]).startswith(
        "prompt.examples=4: the question p has only 3 other training questions with worked solutions; lower it"
    )
    assert "has only 3 other training questions" in refusal(shipped("few_shot"), tokenizer, TRAINING[:4])


def test_chat_without_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    assert refusal(shipped("chat"), tokenizer) == (
        "prompt=chat: the tokeniser of this model has no chat template; use prompt=auto or prompt=few_shot, "
        "or an instruction-tuned model"
    )


def test_chat_template_that_refuses(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('no system message') }}")
    assert refusal(shipped("chat"), tokenizer) == (
        "prompt=chat: the tokeniser's chat template refuses these messages: no system message; use prompt=plain"
    )


PRESETS = sorted(path.stem for path in SHIPPED.glob("*.yaml") if path.stem != "auto")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_renders_and_reads_the_answer_that_it_shows(name, tokenizer, monkeypatch) -> None:
    config = shipped(name)
    if config.chat:
        assert refusal(config, tokenizer).startswith(f"prompt={name}: the tokeniser of this model has no chat template")
        monkeypatch.setattr(tokenizer, "chat_template", CHAT_TEMPLATE)
    text = text_of(config, tokenizer)
    assert text.count("How many?") == 1
    assert text.endswith("[/][assistant]") if config.chat else text.endswith(config.template.rpartition("}}")[2])
    assert text.count(final_answer_line("@", config.answer).partition("@")[0]) >= config.examples
    if config.examples:
        assert sum(f"{solution_text(item, config)}{config.separator}" in text for item in TRAINING) == config.examples
    found = EXTRACTIONS[config.extraction]
    solution = solution_text(PROBLEM, config)
    assert found.answer(solution) == PROBLEM.answer
    assert verdicts([solution], [PROBLEM.answer], found.answer)[0].correct


def test_examples_that_are_drawn_anew_are_those_of_the_question_whatever_else_is_asked(tokenizer) -> None:
    config = shipped("lm_eval")
    both, _ = build_prompts([PROBLEM, *TRAINING], TRAINING, config, tokenizer, 0, 10_000)
    alone = [text_of(config, tokenizer, problem) for problem in (PROBLEM, *TRAINING)]
    assert [prompt.text for prompt in both] == alone
    assert len({text.rpartition("\n\n")[0] for text in alone}) == len(alone)
    assert all(text.count(problem.question) == 1 for text, problem in zip(alone, (PROBLEM, *TRAINING), strict=True))
    assert alone[0].startswith("Question: Question ") and "?\nAnswer: " in alone[0]
    assert alone[0] != text_of(config, tokenizer, seed=1)


def test_a_system_message_stands_first(chat_tokenizer) -> None:
    text = text_of(shipped("qwen_boxed"), chat_tokenizer)
    assert text.startswith("<s>[system]You are a helpful assistant.[/][user]How many?\nPlease reason step by step")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "chat",
            {"extraction": "boxed"},
            "prompt.extraction=boxed does not read '#### 18', which prompt.template asks",
        ),
        ("boxed", {"extraction": "last_marker"}, "last_marker does not read 'The final answer is"),
        ("few_shot", {"extraction": "answer_is"}, "answer_is does not read '#### 18', which prompt.answer asks for"),
        ("few_shot", {"answer": "answer_is", "extraction": "first_marker"}, "does not read 'The answer is 18.'"),
        ("lm_eval_cot", {"extraction": "boxed"}, "boxed does not read 'The answer is 18.'"),
        ("plain", {"system": "Be brief."}, "prompt.system='Be brief.' needs prompt.chat=true"),
    ],
)
def test_an_answer_that_is_asked_for_and_not_read_is_refused(name, changes, message) -> None:
    with pytest.raises(UserError, match=message):
        shipped(name, **changes)

"""What is looked at before any work: prompts that are too long."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from tests_support import composed

from rlreason.display import Display
from rlreason.errors import UserError
from rlreason.lab.checks import fit_prompts
from rlreason.types import Problem


def words(texts, add_special_tokens):
    return {"input_ids": [text.split() for text in texts]}


def problems(name, *lengths):
    return [Problem(f"{name}-{length}", " ".join(["word"] * length), "1") for length in lengths]


def fitted(limit, **splits):
    config = composed()
    config = replace(config, data=replace(config.data, max_prompt_tokens=limit))
    shown = io.StringIO()
    found, too_long = fit_prompts(config, config.prompt, words, (), splits, Display(Console(file=shown, width=200)))
    return set(found), too_long, shown.getvalue()


def test_prompts_that_are_too_long_are_left_out_and_said():
    found, too_long, shown = fitted(7, training=problems("a", 3, 9), test=problems("b", 4, 5), elsewhere=[])
    assert found == {"a-3", "b-4", "b-5"}
    assert too_long == ["a-9"]
    assert "left out 1 of 4 questions: their prompts are longer than data.max_prompt_tokens=7 (a-9)" in shown


@pytest.mark.parametrize("split", ["training", "validation", "test", "out-of-distribution"])
def test_a_split_of_which_no_prompt_fits_is_one_line(split):
    others = {name: problems(name, 3) for name in ("training", "test") if name != split}
    with pytest.raises(UserError) as caught:
        fitted(7, **others, **{split: problems("long", 8, 9)})
    assert str(caught.value) == (
        f"data.max_prompt_tokens=7: the prompts of all 2 {split} questions are longer; raise it"
    )

"""Where the final answer of a solution stands, and how a reference solution is taken apart and put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.answers.extraction import (
    EXTRACTIONS,
    FORMS,
    answer_line,
    extract_answer,
    final_answer_line,
    reasoning_of,
    split_solution,
)

EXTRACTED = [
    ("She pays 2 * 9 = <<2*9=18>>18 dollars.\n#### 18", "18"),
    ("#### 18\nQuestion: And twice as many?\n#### 36", "18"),
    ("#### 18 #### 36", "18"),
    ("#### $18$.", "18"),
    ("#### Step 1: add 3 and 4\nIt is 7.\n#### 7", "7"),
    ("#### 1. Add the pens\n3 + 4 = 7\n#### 7", "7"),
    ("####\nThe answer is 5.", "5"),
    ("#### 4\nSo \\boxed{5}.", "5"),
    ("#### \\boxed{4}", "4"),
    ("#### The answer is 4", "4"),
    ("#### Paris", "Paris"),
    ("#### 18<|endoftext|>", "18"),
    ("#### 18 because 9 * 2 = 18", "18"),
    (r"First \boxed{3}, then \boxed{4}.", "4"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{4}. The answer is 5.", "4"),
    ("The answer is not 3. The answer is 4.", "4"),
    ("the final answer is: $18$.", "18"),
    ("**Answer:** 18", "18"),
    ("The answer is **18**.", "18"),
    ("The answer is:\n\n18", "18"),
    ("The answer is 18. I hope it is correct.", "18"),
    ("The answer is 18, since both are even.", "18"),
    ("The answer is 3.\nA: 4", "3"),
    ("To answer: first we add.\nA: 4", "4"),
    ("They walk 9 miles.\nA: 18", "18"),
    ("A: 3\nSo it goes on.", None),
    ("  -2.5 ", "-2.5"),
    ("$x + 1$", "x + 1"),
    ("There are 18 apples in 2 baskets", None),
    ("She needs to pay 5 * 1", None),
    (r"\boxed{18", None),
    ("####", None),
]


@pytest.mark.parametrize(("text", "answer"), EXTRACTED)
def test_the_answer_is_found(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("line", "states"),
    [
        ("#### 18", True),
        ("so it is #### 18 apples", True),
        ("##### 18", True),
        ("####", False),
        ("#### Step 1", False),
        ("#### 1. Add", False),
        ("The answer is 18.", False),
        ("### 18", False),
    ],
)
def test_a_line_states_the_final_answer_by_the_marker_alone(line: str, states: bool) -> None:
    assert (answer_line(line) is not None) is states


def test_a_reference_solution_is_split_at_its_first_marker() -> None:
    text = "Half: 2/2=<<2/2=1>>1. \n\n  All: 1,200\n#### 1,200 \n#### 7\n"
    assert split_solution(text) == (("Half: 2/2=<<2/2=1>>1.", "  All: 1,200"), "1,200 \n#### 7")
    assert split_solution("no answer\n") == (("no answer",), "")
    assert split_solution("") == ((), "")
    assert reasoning_of("a #### 1 #### 2") == "a "
    assert reasoning_of("a") == "a"


@given(st.lists(st.from_regex(r"[a-z0-9 =+]{1,9}[a-z0-9]", fullmatch=True)), st.integers())
def test_a_solution_that_is_put_together_is_split_and_read_again(steps: list[str], answer: int) -> None:
    text = "\n".join([*steps, final_answer_line(str(answer))])
    assert split_solution(text) == (tuple(steps), str(answer))
    assert extract_answer(text) == str(answer)
    assert answer_line(text.split("\n")[-1]) == 0


SOLUTION = "1+2=3\n#### 3\nWait.\n#### 4\nThe answer is 5.\nSo \\boxed{6}, of 7 in all."
BY_NAME = {
    "standard": ("6", None),
    "first_marker": ("3", 1),
    "last_marker": ("4", 3),
    "boxed": ("6", None),
    "answer_is": ("5", None),
    "last_number": ("7", None),
}


@pytest.mark.parametrize("name", EXTRACTIONS)
def test_each_extraction_reads_what_it_is_named_after_and_knows_the_line(name: str) -> None:
    found = EXTRACTIONS[name]
    assert (found.answer(SOLUTION), found.line(SOLUTION)) == BY_NAME[name]
    assert found.answer("") is None
    assert found.line("") is None


@pytest.mark.parametrize("name", sorted(EXTRACTIONS.keys() - {"standard"}))
def test_no_extraction_reads_what_was_thought_or_the_next_question(name: str) -> None:
    other = SOLUTION.translate(str.maketrans("34567", "88888"))
    text = f"<think>{other}</think>{SOLUTION}\n\nQuestion: And then?\n{other}"
    answer, line = BY_NAME[name]
    assert EXTRACTIONS[name].answer(text) == answer
    assert EXTRACTIONS[name].line(text) == (None if line is None else line + other.count("\n"))


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("first_marker", "#### $18", None),
        ("first_marker", "####18", None),
        ("first_marker", "#### -1,800.50.", "-1,800.50"),
        ("last_marker", "\\boxed{18}", None),
        ("last_marker", "#### .", None),
        ("boxed", "#### 18", None),
        ("boxed", "\\boxed{18", None),
        ("boxed", "\\boxed{\\frac{1}{2}} and <b>", "\\frac{1}{2}"),
        ("boxed", "<answer>18</answer>", "18"),
        ("answer_is", "The answer is $18 dollars.", "$18 dollars"),
        ("answer_is", "#### 18", None),
        ("last_number", "She has 1,800 left, of 2,000.", "2,000"),
        ("last_number", "None.", None),
    ],
)
def test_an_extraction_reads_its_own_form_alone(name: str, text: str, answer: str | None) -> None:
    assert EXTRACTIONS[name].answer(text) == answer


@given(
    st.lists(st.from_regex(r"[a-z0-9 =+]{1,9}[a-z0-9]", fullmatch=True)), st.integers(), st.sampled_from(list(FORMS))
)
def test_every_form_of_the_last_line_is_read_by_the_extraction_of_its_kind(steps, answer, form) -> None:
    text = "\n".join([*steps, final_answer_line(str(answer), form)])
    kinds = {"marker": ("first_marker", "last_marker"), "boxed": ("boxed",), "answer_is": ("answer_is",)}
    for name in ("standard", "last_number", *kinds[form]):
        assert EXTRACTIONS[name].answer(text) == str(answer), name

"""Where the final answer of a solution stands, and how a reference solution is taken apart and put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.answers.extraction import (
    extract_answer,
    final_answer_line,
    reasoning_of,
    split_solution,
    states_final_answer,
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
    assert states_final_answer(line) is states


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
    assert states_final_answer(text.split("\n")[-1])

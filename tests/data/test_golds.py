"""Gold answers: thousands separators go and nothing else does; worked solutions end with their answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.data.golds import gold, solution_steps, without_thousands


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("1,234", "1234"),
        ("-1,234,567", "-1234567"),
        ("$1,234.50", "$1234.50"),
        ("1,234 apples", "1234 apples"),
        ("\\$12,000", "\\$12000"),
        ("1,234%", "1234%"),
        ("1,234.", "1234."),
        ("10,\\!080", "10080"),
        ("1{,}234", "1234"),
    ],
)
def test_thousands_separators_go(written: str, answer: str) -> None:
    assert without_thousands(written) == answer


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "1,5",
            "(1, 2)",
            "12,34",
            "1,2,3",
            "(1,234)",
            "[1,234]",
            "{1,234}",
            "1,234, 5",
            "1,234,5",
            "1,2345",
            "0.1,234",
        ),
        *("1, 234", "x,y", "1,234 and 5,678", "1,234,567,8", "1234,567", "1.234,567", ",234", "(1,234,567)"),
    ],
)
def test_other_commas_stay(answer: str) -> None:
    assert without_thousands(answer) == answer


@given(st.integers(-(10**12), 10**12))
def test_every_number_with_separators_is_the_number(number: int) -> None:
    assert without_thousands(f"{number:,}") == str(number)


@pytest.mark.parametrize(
    ("value", "steps", "answer"),
    [
        (8.0, (), "8"),
        (8, (), "8"),
        (-0.0, (), "0"),
        (0.5, (), "0.5"),
        (1e22, (), "10000000000000000000000"),
        (2.5e-7, (), "0.00000025"),
        (Decimal("3.50"), (), "3.5"),
        ("8.0", (), "8"),
        (" +1,234.50 ", (), "1234.5"),
        ("1,5", (), "1,5"),
        ("(1, 2)", (), "(1, 2)"),
        ("Paris", (), "Paris"),
        ("x + 1", (), "x + 1"),
        ("1/2", (), "1/2"),
        ("50%", (), "50%"),
        ("$42$", (), "42"),
        ("\\boxed{\\frac{1}{2}}", (), "\\frac{1}{2}"),
        ("#### 18", (), "18"),
        ("1+1=2\n\n2*9=18\n#### 1,800", ("1+1=2", "2*9=18"), "1800"),
        ("One and one.\nThe answer is 2.", ("One and one.",), "2"),
        ("So we have $x=3$,\nhence \\boxed{3}.", ("So we have $x=3$,",), "3"),
        ("We get $\\boxed{3}$ apples.", ("We get $\\boxed{3}$ apples.",), "3"),
    ],
)
def test_a_gold_answer(value: Any, steps: tuple[str, ...], answer: str) -> None:
    assert gold(value) == (steps, answer)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["5"], "is neither a number nor text"),
        ({"x": 1}, "is neither a number nor text"),
        (True, "is neither a number nor text"),
        (float("nan"), "is no finite number"),
        (float("-inf"), "is no finite number"),
        (Decimal("NaN"), "is no finite number"),
        ("  ", "is empty"),
        ("First this.\nThen that.", "is a long text that states no answer"),
        ("word " * 100, "is a long text that states no answer"),
        ("It is 1.\n####", "does not end with one line '#### ANSWER'"),
        ("#### 1\nand more", "does not end with one line '#### ANSWER'"),
    ],
)
def test_what_is_no_gold_answer_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        gold(value)


def test_lines_that_only_state_the_answer_are_no_steps() -> None:
    assert solution_steps("2+3=5\n5*2=10\nTherefore, the final answer is \\boxed{10}.", "10") == ("2+3=5", "5*2=10")
    assert solution_steps("2+3=5\n\n10\n#### 10", "10") == ("2+3=5",)
    assert solution_steps("It is 10 because 5*2=10.", "10") == ("It is 10 because 5*2=10.",)
    assert solution_steps("10", "10") == ()

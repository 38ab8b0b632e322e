"""What a number is, how it is spelt and what it is worth."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.answers.numbers import DECIMAL, MAX_ANSWER_CHARACTERS, answer_number, canonical, value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234.50", ["1,234.50"]),
        ("12,34", ["12", "34"]),
        ("1,2345", ["1", "2345"]),
        ("18. Then .5", ["18.", ".5"]),
        ("1.2.3", ["1.2", ".3"]),
        ("-3x", ["3"]),
        ("none, or ٣", []),
    ],
)
def test_the_numbers_of_a_text_are_found(text: str, found: list[str]) -> None:
    assert re.findall(DECIMAL, text) == found


@pytest.mark.parametrize(
    ("number", "short"),
    [
        ("1,234.50", "1234.5"),
        ("18.00", "18"),
        ("18.", "18"),
        (".50", "0.5"),
        ("100", "100"),
        ("0.0", "0"),
        ("-5", "-5"),
    ],
)
def test_a_number_has_one_canonical_spelling(number: str, short: str) -> None:
    assert canonical(number) == short
    assert value(number) == Fraction(short)


@given(st.integers(0, 10**12), st.integers(0, 999))
def test_the_spelling_does_not_change_the_value(whole: int, thousandths: int) -> None:
    for spelt in (
        f"{whole:,}.{thousandths:03}",
        f"{whole}.{thousandths:03}000",
        canonical(f"{whole}.{thousandths:03}"),
    ):
        assert re.fullmatch(DECIMAL, spelt)
        assert value(spelt) == Fraction(1000 * whole + thousandths, 1000)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("18", (18, False)),
        ("-$1,234.50 per month", (Fraction("-1234.5"), False)),
        ("17 1/2 apples", (Fraction(35, 2), False)),
        (r"\frac{1}{-4}", (Fraction(-1, 4), False)),
        ("50 %", (50, True)),
        ("1/0", None),
        ("18x", None),
        ("18 or 19", None),
        ("eighteen", None),
        ("", None),
        ("9" * (MAX_ANSWER_CHARACTERS + 1), None),
    ],
)
def test_an_answer_is_a_number_or_is_not(answer: str, expected: tuple[Fraction, bool] | None) -> None:
    assert answer_number(answer) == expected

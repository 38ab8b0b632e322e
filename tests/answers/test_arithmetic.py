"""The arithmetic of a solution, read from many spellings."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.answers.arithmetic import equations, last_number, numbers, operations


def read(line):
    return [(item.expression, item.value) for item in equations(line)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("3+4=7", [("3+4", 7)]),
        ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.", [("48/2", 24)]),
        ("She pays 5 x $3 = $15.", [("5*3", 15)]),
        ("Total: 1,200 - 200 = 1,000 dollars", [("1200-200", 1000)]),
        ("2 + 3 = 5 and 5 * 2 = 10", [("2+3", 5), ("5*2", 10)]),
        ("2+3=1+4=5", [("2+3", None), ("1+4", 5)]),
        ("0.50 * 8 = 4.00", [("0.5*8", 4)]),
        ("10 ÷ 4 = 2.5", [("10/4", Fraction(5, 2))]),
        ("3 − 5 = -2", [("3-5", -2)]),
        ("1/2 * 10 = 5", [("1/2*10", 5)]),
        ("no numbers here", []),
        ("", []),
        ("= 5", [("", 5)]),
        ("3 / 0 = 1 / 0", [("3/0", None)]),
    ],
)
def test_equations(line, expected):
    assert read(line) == expected


@pytest.mark.parametrize(
    ("line", "value"),
    [("he has 3 of 12 apples", 12), ("1,250.50 dollars", Fraction(2501, 2)), ("none", None), ("<<3+4=7>> so 8", 8)],
)
def test_the_last_number(line, value):
    assert last_number(line) == value


def test_numbers_of_a_text():
    assert numbers("Tom has $1,200 and 3.50 and 3.5") == {1200, Fraction(7, 2)}


def test_the_same_operations_in_other_words_are_one_solution():
    first = "Tom buys 12 x 3 = 36 eggs.\nThen 36 - 6 = 30 stay.\n#### 30"
    second = "12*3=36\n36-6=30.00\n#### 30\n1+1=2"
    assert operations(first) == operations(second) == "12*3=36;36-6=30"


def test_another_order_or_another_operation_is_another_solution():
    texts = ["1+2=3\n3*2=6", "3*2=6\n1+2=3", "2+1=3\n3*2=6", "1+2=3"]
    assert len(set(map(operations, texts))) == 4
    assert operations("The answer is 7.\n#### 7") == ""


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from("+-*/"), st.booleans())
def test_spacing_and_number_format_make_no_difference(first, second, operator, spaced):
    value = Fraction(eval(f"Fraction({first}){operator}Fraction({second})", {"Fraction": Fraction}))
    shown = f"{value.numerator}/{value.denominator}" if value.denominator > 1 else f"{value.numerator:,}"
    gap = "  " if spaced else ""
    line = f"so {first:,}{gap}{operator}{gap}${second:,}.00{gap}={gap}{shown} apples"
    assert read(line) == [(f"{first}{operator}{second}", value)]


@given(st.text(max_size=200))
def test_any_text_can_be_read(text):
    for item in equations(text):
        assert item.value is None or isinstance(item.value, Fraction)
    operations(text)


def test_a_line_of_any_length_is_read_in_time():
    assert equations("1+" * 100_000 + "1=3") == ()
    assert last_number("9 " * 100_000) == 9

"""Solutions that differ in layout only share a key, and no others do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.answers.solutions import solution_key

operators = st.sampled_from(["+", "-", "*", "/"])
whole_numbers = st.integers(0, 10_000_000)
spaces = st.sampled_from(["", " ", "  ", "\t"])


def test_a_solution_key_worked_by_hand() -> None:
    steps = "Natalia sold 48 / 2 = $<<48/2=24>>24.00 clips.\n\n  Total: 1,234.50 \N{MULTIPLICATION SIGN} 2 = 2,469\t;"
    text = f"{steps}\n#### 72\nQuestion: 3+3"
    assert solution_key(text) == "natalia sold 48/2=24 clips\ntotal: 1234.5*2=2469"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4 = 7\n#### 7", "3+4=7.\n\n#### 7 dollars\nmore"),
        ("He pays $18.00", "he pays 18"),
        ("He pays \\$ 18 , then leaves", "He pays 18, then leaves"),
        ("1,234,567 * .50", "1234567*0.5"),
        ("( 3 + 4 ) * 20 % = 1.4", "(3+4)*20%=1.4"),
        ("5*2=<<5*2=10>>10", "5 * 2 = 10"),
        ("a\r\nb", "a\n \nb"),
        ("#### 5", ""),
    ],
)
def test_layout_makes_no_difference(one: str, other: str) -> None:
    assert solution_key(one) == solution_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4 = 7", "3 - 4 = 7"),
        ("18.05", "18.5"),
        ("180", "18.0"),
        ("5$3", "53"),
        ("12,34", "1234"),
        ("1, 234", "1,234"),
        ("1,2345", "12345"),
        ("1,000,00", "1000,00"),
        ("1234,567,890", "1234,567890"),
        ("1.2.0", "1.2"),
        ("4! = 24\n= 5!", "4! = 24\n= 5"),
        ("3 + 4 = 7 #### 7", "2 + 5 = 7 #### 7"),
        ("3\n4", "34"),
    ],
)
def test_different_steps_are_told_apart(one: str, other: str) -> None:
    assert solution_key(one) != solution_key(other)


@settings(max_examples=300)
@given(
    st.text(alphabet="01239.,;!?$€\\<>#+-*/=%() \t\nabAB\N{MULTIPLICATION SIGN}İ", max_size=40) | st.text(max_size=40)
)
def test_the_key_of_a_key_is_itself(text: str) -> None:
    assert solution_key(solution_key(text)) == solution_key(text)


@given(whole_numbers, operators, whole_numbers, st.lists(spaces, min_size=4, max_size=4), st.text(max_size=20))
def test_spacing_number_format_and_what_follows_make_no_difference(
    left: int, operator: str, right: int, gaps: list[str], rest: str
) -> None:
    plain = f"so {left}{operator}{right}"
    formatted = f"{gaps[0]}So  {left:,}.00{gaps[1]}{operator}{gaps[2]}${right:,}.{gaps[3]}\n\n#### {rest}\n{rest}"
    assert solution_key(formatted) == solution_key(plain)


@given(st.tuples(whole_numbers, operators, whole_numbers), st.tuples(whole_numbers, operators, whole_numbers))
def test_the_key_is_one_to_one_on_arithmetic(one: tuple[int, str, int], other: tuple[int, str, int]) -> None:
    keys = [solution_key(f"{left:,} {operator} {right:,}.0") for left, operator, right in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)

"""Which answers are equal, that votes are counted by the same relation, and that no text can stop it."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from random import Random
from unittest import mock

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.answers import worker
from rlreason.answers.equality import grade, votes
from rlreason.answers.extraction import extract_answer


def is_correct(text: str, gold: str) -> bool:
    return grade([text], [gold])[0]


def are_one_vote(*answers: str) -> bool:
    """Whether wrong answers are counted as one."""
    return len(set(votes(answers, [False] * len(answers)))) == 1


EIGHTEEN = [
    *("18", "18.0", "18.", "018", "+18", "$18", r"\$18", "$18.00", "18 $", "€18", "£18", "18 dollars", "18 apples"),
    *("18 km/h", "18km", "18 cm^2", "18 cm²", "36/2", "36 / 2", "17 2/2", r"\frac{36}{2}", r"\dfrac{36}{2}"),
    *(r"18\text{ apples}", r"18\,\text{cm}", "$18$", r"\(18\)", "18%", r"18\%", "18 percent", "18°", r"18^\circ"),
    *(
        "18 more eggs per day",
        "x = 18",
        "18 = x",
        "(18)",
        "{18}",
        "1.8e1",
        r"1.8 \times 10^{1}",
        "1 1/2 dozen",
        "Total = $18",
    ),
    *("USD 18", "US$18", "18 EUR", "Rs. 18", "about 18", r"\approx 18"),
    *(
        "9 * 2 = 18",
        "18 = 9 * 2",
        "x = 9 + 9 = 18",
        r"3 \times 6 = 18",
        "$9 + $9 = $18",
        "2(4+5) = 18",
    ),
    *("36 apples / 2 = 18 apples", "2 * 9 = 3 * 6 = 18", "20% * 90 = 18", "f(2) = 18", r"\angle ABC = 18^\circ"),
]
# The arithmetic is left undone, so that a policy that is paid for it would leave it undone. A gold answer may be so.
UNEVALUATED = [
    "9 * 2",
    r"\sqrt{324}",
    r"3 \times 6",
    "17+8-7",
    "(17+8-16)*2",
    "36/2+0",
    "6+6+6",
    "18 + 0",
    "2 * 9 + x - x",
]
UNTRUE = [
    *(
        "5-7=18",
        "5=18",
        "18=5",
        "5-7=9=18",
        "9*2=17",
        "5≈18",
        "18≈5",
        "18 ≠ 18",
        "9*2 >= 18",
        "0*18=18",
        r"\sqrt{325} = 18",
    ),
    *("x = 5, y = 18", "x = 5 or x = 18", "18 = 18 = 19", "5^2 + 9 = 18", "1/0 = 18", "5 hundred = 18", "sqrt 18 = 18"),
]
NOT_EIGHTEEN = [
    *("19", "-18", "1.8", "180", "0.18", "18.01", "18 or 19", "18, 19", "18x", "18 pi", "18 million", "1/18", "18/0"),
    *(
        "x",
        "eighteen",
        "18 + 1",
        "-(18)",
        "1,8",
        "18:00",
        "18.000000000000000000001",
        "18 dozen",
        "18 score",
        "18 gross",
    ),
    *("18 hundred", "18 squared", "18 dollars and 50 cents", "1.8e2", r"18 \times 10^1"),
]


@pytest.mark.parametrize("answer", EIGHTEEN)
def test_spellings_of_eighteen_are_right(answer: str) -> None:
    assert is_correct(f"So it is.\n#### {answer}", "18")
    assert is_correct("#### 18", answer)


def test_an_answer_that_leaves_the_arithmetic_undone_is_wrong_where_the_gold_is_a_number() -> None:
    assert not any(grade([f"So it is.\n#### {answer}" for answer in UNEVALUATED], ["18"] * len(UNEVALUATED)))
    readable = [answer for answer in UNEVALUATED if "x" not in answer]
    assert all(grade(["#### 18"] * len(readable), readable)), "a gold answer that is so written has its value"


@given(st.integers(0, 99), st.integers(0, 99), st.sampled_from("+-*"), st.integers(-99, 9999))
@settings(deadline=None)
def test_an_equation_earns_what_its_right_side_does_if_it_is_true(
    first: int, second: int, sign: str, gold: int
) -> None:
    value = {"+": first + second, "-": first - second, "*": first * second}[sign]
    assert is_correct(f"#### {first} {sign} {second} = {value}", str(value))
    assert is_correct(f"#### {first}{sign}{second}={gold}", str(gold)) is (value == gold)
    assert not is_correct(f"#### {first} {sign} {second}", str(value))


def test_math_verify_says_whether_an_equation_is_true_where_the_arithmetic_is_more_than_that_of_school() -> None:
    equations = [r"\sqrt{324} = 18", "2^3 + 10 = 18", r"\frac{\sqrt{36}}{3} + 16 = 18", r"\sqrt{325} = 18", "2^3 = 18"]
    assert grade([f"#### {equation}" for equation in equations], ["18"] * 5) == [True, True, True, False, False]


def test_an_untrue_equation_is_wrong() -> None:
    assert not any(grade([f"So it is.\n#### {answer}" for answer in UNTRUE], ["18"] * len(UNTRUE)))


@pytest.mark.parametrize("answer", NOT_EIGHTEEN)
def test_other_answers_are_wrong(answer: str) -> None:
    assert not is_correct(f"So it is.\n#### {answer}", "18")
    assert not is_correct("#### 18", answer)


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("1,234", "1234", True),
        (r"1{,}234", "#### 1,234", True),
        ("12,34", "1234", False),
        (".5", r"\frac{1}{2}", True),
        ("1 1/2", "1.5", True),
        (r"-1\frac{1}{2}", "-1.5", True),
        ("\u22125", "-5", True),
        ("-$5", "-5", True),
        ("50%", "0.5", True),
        ("0.5", "50%", True),
        ("0.5%", "50%", False),
        ("50", "0.5", False),
        ("0.333", "1/3", False),
        ("5 dozen", "60", True),
        ("5 dozen eggs", "5", False),
        ("5 tenths", "0.5", True),
        ("5 tenths of a mile", "5", False),
        ("2 thirds", "2/3", True),
        ("3 hundredths", "300", False),
        ("3 third graders", "3", True),
        ("8 quarters", "8", True),
        ("2 score", "40", True),
        ("3 gross", "432", True),
        ("$2.5 million", "2,500,000", True),
        ("18 dollars and 50 cents", "18.5", True),
        ("$18 and 5 cents", "18.05", True),
        (r"\frac12", "0.5", True),
        (r"\left(7\right)", "7", True),
        ("9007199254740993", "9007199254740992", False),
        ("0.1", "0.1000000000000000055511151231257827", False),
        (r"2\sqrt{2}", r"\sqrt{8}", True),
        ("x+1", "1+x", True),
        ("(1, 2)", "(2, 1)", False),
        ("Paris", "Paris", True),
    ],
)
def test_equality(answer: str, gold: str, right: bool) -> None:
    assert is_correct(f"\\boxed{{{answer}}}", gold) is right


def test_solutions_in_the_style_of_the_published_ones() -> None:
    reference = "Ann has 7 * 2000 = <<7*2000=14000>>14,000 beads.\nA: 14,000"
    solutions = {
        "Ann has 7 * 2000 = <<7*2000=14000.0>>14000.0 beads\nA: 14000": True,
        "Ann has 14000 - 1 = <<14000-1=13999>>13999 beads, not 14000\nA: 13999": False,
        "Ann loses 2000 - 16000 = <<2000-16000=-14000>>-14000\nA: -14000": False,
        "Ann buys the first bag for 14000.\nAnn buys the second bag for 14000": False,
        "Each bag holds 7 / 3 = <<7/3=2.3333333333333335>>2." + "3" * 600: False,
    }
    assert grade(list(solutions), [reference] * len(solutions)) == list(solutions.values())


SOLVED = [  # in the form of GSM8K's reference solutions
    ("A crate holds 24 eggs, so 6 crates hold 24*6=<<24*6=144>>144 eggs.\n#### 144", "144"),
    ("Lea saves $15 x 4 = $<<15*4=60>>60.\nShe has $60 - $75 = $<<60-75=-15>>-15 left.\n#### -15", "-15"),
    ("The answer is not 7 = <<3+4=7>>7 but twice that.\n7 * 2 = <<7*2=14>>14\n#### 14", "14"),
    ("Rent for a year is 12 * 1,250 = $<<12*1250=15000>>15,000.\n#### 15,000", "15000"),
    ("Half of 5 liters is 5 / 2 = <<5/2=2.5>>2.5 liters.\n#### 2.5", "2.5"),
    ("20% of $64.50 is .2 * 64.5 = $<<.2*64.5=12.9>>12.90.\n#### 12.90", "12.90"),
    ("A: 3 tins are open.\nThere are 3 - 3 = <<3-3=0>>0 others.\n#### 0", "0"),
    ("The factory makes 1,000,000 + 234,567 = <<1000000+234567=1234567>>1,234,567.\n#### 1,234,567", "1234567"),
]


def test_reference_solutions_are_right_and_those_of_other_answers_wrong() -> None:
    solutions, finals = zip(*SOLVED, strict=True)
    assert all(grade(solutions, finals))
    assert not any(grade(solutions, [str(Fraction(final) + 1) for final in finals]))
    assert all(grade([f"It follows.\nA: {final}" for final in finals], solutions))


def spellings(value: Fraction) -> list[str]:
    size = abs(value)
    forms = [f"{size.numerator}/{size.denominator}", f"\\frac{{{3 * size.numerator}}}{{{3 * size.denominator}}}"]
    if size.denominator == 1:
        forms += [f"{size}", f"{size}.", f"{size}.00", f"{size.numerator:,}", f"{size.numerator:,}".replace(",", "{,}")]
    elif 1000 % size.denominator == 0:
        thousandths = size.numerator * 1000 // size.denominator
        forms += [f"{thousandths // 1000:,}.{thousandths % 1000:03}", f"{thousandths // 1000}.{thousandths % 1000:03}0"]
    else:
        forms.append(f"{size.numerator // size.denominator} {size.numerator % size.denominator}/{size.denominator}")
    return [sign + form for form in forms for sign in (("-", "\u2212") if value < 0 else ("", "+"))]


NUMBERS = st.one_of(
    st.integers(-(10**30), 10**30).map(Fraction),
    st.integers(-(10**9), 10**9).map(lambda thousandths: Fraction(thousandths, 1000)),
    st.fractions(max_denominator=50),
)
DECORATED = ["{}", "${}", "\\${}", "€ {}", "{} dollars", "{} km/h", "{}\\text{{ apples}}", " {}  ", "${}$", "\\({}\\)"]
MARKED = [
    "It is so.\n#### {}",
    "####{}\nNext question\n#### 7777",
    "So \\boxed{{{}}} it is.",
    "The answer is {}.",
    "Hence the final answer is: {}",
    "answer: {}\n",
    "They meet.\nA: {}",
    "{}",
]


@given(NUMBERS, st.data(), st.sampled_from(DECORATED), st.sampled_from(MARKED))
@settings(max_examples=400, deadline=None)
def test_a_number_is_right_however_it_is_written(value: Fraction, data: st.DataObject, form: str, place: str) -> None:
    answer = form.format(data.draw(st.sampled_from(spellings(value))))
    gold = data.draw(st.sampled_from(spellings(value)))
    assert is_correct(place.format(answer), gold)
    assert are_one_vote(*(extract_answer(place.format(form)) or "" for form in (answer, gold)))


@given(NUMBERS, NUMBERS, st.data(), st.sampled_from(DECORATED), st.sampled_from(MARKED))
@settings(max_examples=200, deadline=None)
def test_another_number_is_wrong(value: Fraction, change: Fraction, data: st.DataObject, form: str, place: str) -> None:
    other = value + (change or 1)
    answer = form.format(data.draw(st.sampled_from(spellings(other))))
    assert not is_correct(place.format(answer), data.draw(st.sampled_from(spellings(value))))
    assert not are_one_vote(extract_answer(place.format(answer)) or "", str(value))


PIECES = [
    "####",
    "\\boxed{",
    "}",
    "answer is",
    "answer:",
    "A:",
    "$",
    "\n",
    " ",
    "18",
    "-",
    ",",
    ".",
    "%",
    "/",
    "\\frac{1}",
]
TEXTS = st.text(st.characters(), max_size=60) | st.lists(
    st.sampled_from(PIECES) | st.text(st.characters(), max_size=3), max_size=20
).map("".join)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
@settings(max_examples=400, deadline=None)
def test_no_text_raises_and_order_is_kept(pairs: list[tuple[str, str]]) -> None:
    texts, golds = [text for text, _ in pairs], [gold for _, gold in pairs]
    # A stand-in with both verdicts, because arbitrary expressions would each take math-verify its whole time limit.
    with (
        mock.patch.object(worker, "are_equivalent", lambda answer, gold: len(answer + gold) % 2 == 0),
        mock.patch.object(worker, "value_name", lambda answer: str(len(answer))),
    ):
        verdicts = grade(texts, golds)
        assert verdicts == [is_correct(text, gold) for text, gold in pairs]
        answers = [extract_answer(text) for text in texts]
        assert "" not in answers
        names = votes(answers, [False] * len(answers))
        assert [name is None for name in names] == [answer is None for answer in answers]


def graded(pairs: list[tuple[str, str]]) -> list[bool]:
    return grade([f"\\boxed{{{answer}}}" for answer, _ in pairs], [gold for _, gold in pairs])


ONE_VOTE_EACH = [
    ("5", "5.0", "x = 5", "(5)", "10 - 5 = 5", "5 = x", "5 dollars", r"\frac{10}{2}"),
    ("10 - 5", "4 + 1", "x = 3 + 2"),
    ("18", "9+9=18", "n = 18 apples", "18 = 9+9", r"\sqrt{324} = 18"),
    ("9 * 2", "9+9"),
    ("9 * 2 = 17",),
    ("x+1", "1+x", r"\frac{x^2-1}{x-1}", "y = x + 1"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    ("a/b", r"\frac{a}{b}"),
    ("(1, 2)",),
    ("(2, 1)",),
    ("3 or 4", "4 or 3", r"\{3, 4\}", "x = 3 or x = 4"),
    ("x < 5", "5 > x", r"(-\infty, 5)"),
    ("2x + y = 7", "4x + 2y = 14"),
    ("3x + y = 7",),
    (r"\sqrt{x^2}",),
    (r"\frac{1}{2^{99}}",),
    (r"\frac{1}{2^{98}}",),
    ("52_8",),
    ("52",),
    ("Paris", "paris", r"\text{Paris}"),
    ("no",),
    ("on",),
    ("I do not know 5 things, so the answer cannot be found",),
]
# Where math-verify's own relation is not the right one: it compares small numbers by their difference, drops a base,
# and reads a word as a product of its letters. (Prose is never asked about.)
# And a number is right where the gold answer is an expression, though not the other way about.
MISREAD = [{"5", "10 - 5"}, {"18", "9 * 2"}, {r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"}, {"52", "52_8"}, {"no", "on"}]


def test_wrong_answers_vote_as_they_would_be_graded() -> None:
    answers = [answer for group in ONE_VOTE_EACH for answer in group]
    groups = [number for number, group in enumerate(ONE_VOTE_EACH) for _ in group]
    names = votes(answers, [False] * len(answers))
    assert [names.index(name) for name in names] == [groups.index(group) for group in groups]
    # Every answer is graded as equal to another one of its group, in one direction at least, and to none of the others.
    pairs = [(one, other) for group in ONE_VOTE_EACH for one in group for other in group if one != other]
    equal = dict(zip(pairs, graded(pairs), strict=True))
    for group in ONE_VOTE_EACH:
        for one in group if len(group) > 1 else ():
            assert any(equal[one, other] or equal[other, one] for other in group if other != one), one
    firsts = [group[0] for group in ONE_VOTE_EACH]
    pairs = [(one, other) for one in firsts for other in firsts if one != other and {one, other} not in MISREAD]
    assert not any(graded(pairs))


def test_right_answers_are_one_vote_and_never_that_of_a_wrong_one() -> None:
    # With the gold answer 0.5, 50% is right and 50 is wrong, though 50% equals both.
    answers = ["50%", "50", "0.5", "50", None, r"\frac{1}{2}", "50"]
    right = [True, False, True, False, False, True, False]
    names = votes(answers, right)
    assert names[0] == names[2] == names[5] != names[1] == names[3] == names[6]
    assert names[4] is None


@pytest.mark.parametrize(
    ("answers", "groups"),
    [
        (["50%", "0.5", "50"], [0, 0, 1]),  # its hundredth part before the number before the sign
        (["50%", "50"], [0, 0]),
        (["50%", r"x = 50\%", "1/2"], [0, 0, 0]),
        (["50%", "50 percent", "7"], [0, 0, 1]),
        (["50%", "0.25 + 0.25 = 0.5", "50"], [0, 0, 1]),
        (["50%", "0.25 + 0.25", "50"], [0, 1, 0]),  # an expression that is not evaluated is no number
        (["-5%", "-0.05", "5"], [0, 0, 1]),
    ],
)
def test_a_percentage_joins_its_hundredth_part_if_that_is_there(answers: list[str], groups: list[int]) -> None:
    names = votes(answers, [False] * len(answers))
    assert [names.index(name) for name in names] == [groups.index(group) for group in groups]


VOTED = ["5", "5.0", "x = 5", "(5)", "6", "50%", "0.5", "50", "x+1", "1+x", "Paris", "paris", None]


@given(st.lists(st.sampled_from(VOTED[:-1]), max_size=6), st.sampled_from(VOTED[:-1]))
@settings(max_examples=60, deadline=None)
def test_equal_answers_share_a_vote_and_others_do_not(answers: list[str], gold: str) -> None:
    right = graded([(answer, gold) for answer in answers])
    names = votes(answers, right)
    for name, verdict, answer in zip(names, right, answers, strict=True):
        for other, other_verdict, other_answer in zip(names, right, answers, strict=True):
            if verdict != other_verdict:
                assert name != other
            elif name != other:
                # Only a percentage equals two votes, of which it can join one.
                assert not verdict
                assert "50%" in (answer, other_answer) or not any(graded([(answer, other_answer)]))
            elif not verdict and name == other:
                assert any(graded([(answer, other_answer), (other_answer, answer)]))


@given(st.lists(st.sampled_from(VOTED), max_size=9), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_votes_are_the_same_in_any_order(answers: list[str | None], random: Random) -> None:
    order = list(range(len(answers)))
    random.shuffle(order)
    names = votes(answers, [False] * len(answers))
    assert [names[place] for place in order] == votes([answers[place] for place in order], [False] * len(answers))


def test_prose_and_numbers_are_not_asked_about_and_an_expression_is_asked_about_once() -> None:
    prose = ["I do not know", "It cannot be said", "the 3 men and the 4 women walk home", "18", "x = 7", "8%", "52_8"]
    asked = []
    with mock.patch.object(worker, "value_name", lambda answer: asked.append(answer)):
        for _ in range(2):
            votes([*prose, "13 + 4", "13 + 4"], [False] * (len(prose) + 2))
            votes(["14 + 4"] * 3, [False] * 3)  # there is nothing else that it could be equal to
    assert asked == ["13 + 4"]


def test_hostile_answers_vote_for_themselves() -> None:
    answers = ["9^{9^{9^9}}", "10000000!", "5\x005", "\ud800 1+1", "(" * 140 + "1" + ")" * 140, "9" * 5_000, "1/0"]
    names = votes([*answers, *answers], [False] * 2 * len(answers))
    assert names[: len(answers)] == names[len(answers) :]
    assert len(set(names)) == len(answers)


def test_every_vote_needs_a_verdict() -> None:
    with pytest.raises(ValueError, match="shorter"):
        votes(["1", "2"], [True])


def test_slow_and_quick_answers_keep_their_order() -> None:
    texts = ["#### x+1", "#### 3", "none", "$x+2$", "#### 1+x", "\\boxed{\\sqrt{9} = 3}", "#### 4"] * 3
    golds = ["1+x", "3", "3", "x+1", "1+x", "3", "3"] * 3
    with mock.patch.object(os, "sched_getaffinity", return_value={0, 1}):
        assert grade(texts, golds) == [True, True, False, False, True, True, False] * 3


def test_every_text_needs_a_gold() -> None:
    with pytest.raises(ValueError, match="shorter"):
        grade(["#### 1", "#### 2"], ["1"])


def test_hostile_texts_are_wrong() -> None:
    texts = [
        *("#### 9**9**9", "#### 9^{9^{9^9}}", "$10000000!$", "#### 5\x005", "#### \ud800 1+1", "\x00", "\ud800"),
        *("#### " + "{" * 100_000, "\\boxed{" * 20_000, "\\boxed{" + "{" * 50_000 + "}" * 50_000, "$" * 100_000),
        *("#### " + "(" * 140 + "1" + ")" * 140, "#### " + "9" * 1_000_000, "9" * 5_000, "1/" * 50_000 + "1"),
        *("#### x y " * 20_000, "#" * 100_000, "answer is " * 20_000, "answer" + " " * 100_000, "A:" * 50_000),
    ]
    assert not any(grade(texts, ["18"] * len(texts)))
    assert is_correct("$x+1$", "1+x")


def test_a_number_beyond_the_limit_of_python_equals_itself_only() -> None:
    long = "9" * 1_000_000
    assert grade([f"#### {long}", f"#### {long}"], [long, long + "9"]) == [True, False]


def waiting() -> list[int]:
    """The worker processes of this process."""
    children = psutil.Process().children()
    return [child.pid for child in children if "rlreason.answers.worker" in child.cmdline()]


@pytest.fixture
def idle_process() -> Iterator[int]:
    """The only worker, which has answered once."""
    worker.close_workers()
    assert worker.are_equivalent("x+1", "1+x")
    [process] = waiting()
    yield process
    worker.close_workers()


def test_a_worker_is_used_again(idle_process: int) -> None:
    assert not worker.are_equivalent("x+2", "1+x")
    assert waiting() == [idle_process]


def test_a_killed_worker_is_replaced(idle_process: int) -> None:
    os.kill(idle_process, signal.SIGKILL)
    assert worker.are_equivalent("x+1", "1+x")
    assert len(waiting()) == 1
    assert waiting() != [idle_process]


def test_an_answer_is_tried_on_a_new_worker_however_many_have_died(idle_process: int) -> None:
    pairs = ["x+1"] * 6
    with ThreadPoolExecutor(3) as executor:  # so that three of them wait
        assert all(executor.map(worker.are_equivalent, pairs, ["1+x"] * 6))
    for process in waiting():
        os.kill(process, signal.SIGKILL)
    assert worker.are_equivalent("x+1", "1+x")
    assert worker.value_name("(5)") == "5"


def test_a_worker_that_does_not_reply_is_replaced_by_one_that_does(
    idle_process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(idle_process, signal.SIGSTOP)
    monkeypatch.setattr(worker, "REPLY_SECONDS", 2.0)
    assert worker.are_equivalent("x+1", "1+x")
    assert not psutil.pid_exists(idle_process)


def test_an_answer_that_no_worker_survives_is_wrong_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker.close_workers()
    monkeypatch.setattr(worker, "REPLY_SECONDS", 0.0)
    assert not worker.are_equivalent("x+1", "1+x")
    assert worker.value_name("x+1") is None
    assert caplog.text.count("took too long") == 2
    assert not waiting()


def test_workers_have_a_memory_limit(idle_process: int) -> None:
    limit, _ = resource.prlimit(idle_process, resource.RLIMIT_AS)
    assert 0 < limit <= 4 * 1024**3


def test_a_script_without_main_guard_grades_and_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import psutil\n"
        "from rlreason.answers.equality import grade\n"
        "print(grade(['#### 18'], ['18']), 'rlreason.answers.worker' in sys.modules)\n"
        "print(grade(['$x+1$'], ['1+x']), 'sympy' in sys.modules)\n"
        "print(*[child.pid for child in psutil.Process().children()])\n"
    )
    # Modules in the script's own folder must not reach the worker, which would fail on this one.
    (tmp_path / "sympy.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    fast, slow, process = done.stdout.splitlines()
    assert (fast, slow) == ("[True] False", "[True] False")
    assert not psutil.pid_exists(int(process))

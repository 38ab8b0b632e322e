"""Grading: what counts as the answer, which answers are equal, and that no text can stop it."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.answers import worker
from rlreason.answers.grading import answer_key, extract_answer, grade

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k"


def is_correct(text, gold):
    return grade([text], [gold], workers=1)[0]


EXTRACTED = [
    ("She pays 2 * 9 = <<2*9=18>>18 dollars.\n#### 18", "18"),
    ("#### 18\nQuestion: And twice as many?\n#### 36", "18"),
    ("#### 18 #### 36", "18"),
    ("#### $18$.", "18"),
    ("#### Step 1: add 3 and 4\nIt is 7.\n#### 7", "7"),
    ("#### 1. Add the pens\n3 + 4 = 7\n#### 7", "7"),
    ("####\nThe answer is 5.", "5"),
    ("#### 4\nSo \\boxed{5}.", "4"),
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
EIGHTEEN = [
    *("18", "18.0", "18.", "018", "+18", "$18", r"\$18", "$18.00", "18 $", "€18", "£18", "18 dollars", "18 apples"),
    *("18 km/h", "18km", "18 cm^2", "18 cm²", "36/2", "36 / 2", "17 2/2", r"\frac{36}{2}", r"\dfrac{36}{2}"),
    *(r"18\text{ apples}", r"18\,\text{cm}", "$18$", r"\(18\)", "18%", r"18\%", "18 percent", "18°", r"18^\circ"),
    *("18 more eggs per day", "x = 18", "9 * 2", r"\sqrt{324}", r"3 \times 6"),
]
NOT_EIGHTEEN = [
    *("19", "-18", "1.8", "180", "0.18", "18.01", "18 or 19", "18, 19", "18x", "18 pi", "18 million", "1/18", "18/0"),
    *("x", "eighteen", "18 + 1", "-(18)", "1,8", "18:00", "18.000000000000000000001"),
]


@pytest.mark.parametrize(("text", "answer"), EXTRACTED)
def test_the_answer_is_found(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize("answer", EIGHTEEN)
def test_spellings_of_eighteen_are_right(answer: str) -> None:
    assert is_correct(f"So it is.\n#### {answer}", "18")
    assert is_correct("#### 18", answer)


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


@pytest.mark.skipif(not GSM8K.exists(), reason="needs the GSM8K files beside the repository")
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reference_solution_of_gsm8k(split: str) -> None:
    rows = [json.loads(line) for line in (GSM8K / f"{split}.jsonl").read_text().splitlines()]
    solutions = [row["answer"] for row in rows]
    official = re.compile(r"#### (\-?[0-9\.\,]+)")
    finals = [match[1].replace(",", "") for match in map(official.search, solutions) if match]
    assert len(finals) == len(rows) > 1000
    assert all(grade(solutions, finals))
    assert not any(grade(solutions, [str(int(final) + 1) for final in finals]))
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
    assert answer_key(answer) == answer_key(gold) == str(value)


@given(NUMBERS, NUMBERS, st.data(), st.sampled_from(DECORATED), st.sampled_from(MARKED))
@settings(max_examples=200, deadline=None)
def test_another_number_is_wrong(value: Fraction, change: Fraction, data: st.DataObject, form: str, place: str) -> None:
    other = value + (change or 1)
    answer = form.format(data.draw(st.sampled_from(spellings(other))))
    assert not is_correct(place.format(answer), data.draw(st.sampled_from(spellings(value))))
    assert answer_key(answer) != answer_key(str(value))


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
    with mock.patch.object(worker, "are_equivalent", lambda answer, gold: len(answer + gold) % 2 == 0):
        verdicts = grade(texts, golds, workers=2)
        assert verdicts == [is_correct(text, gold) for text, gold in pairs]
    for text in texts:
        answer = extract_answer(text)
        assert answer is None or (answer and answer_key(answer) == answer_key(answer))


def test_slow_and_quick_answers_keep_their_order() -> None:
    texts = ["#### x+1", "#### 3", "none", "$x+2$", "#### 1+x", "\\boxed{\\sqrt{9}}", "#### 4"] * 3
    golds = ["1+x", "3", "3", "x+1", "1+x", "3", "3"] * 3
    assert grade(texts, golds, workers=2) == [True, True, False, False, True, True, False] * 3


def test_lengths_and_workers_are_checked() -> None:
    with pytest.raises(ValueError, match="shorter"):
        grade(["#### 1", "#### 2"], ["1"])
    with pytest.raises(ValueError, match="workers"):
        grade(["#### 1"], ["1"], workers=0)


def test_hostile_texts_are_wrong() -> None:
    texts = [
        *("#### 9**9**9", "#### 9^{9^{9^9}}", "$10000000!$", "#### 5\x005", "#### \ud800 1+1", "\x00", "\ud800"),
        *("#### " + "{" * 100_000, "\\boxed{" * 20_000, "\\boxed{" + "{" * 50_000 + "}" * 50_000, "$" * 100_000),
        *("#### " + "(" * 140 + "1" + ")" * 140, "#### " + "9" * 1_000_000, "9" * 5_000, "1/" * 50_000 + "1"),
        *("#### x y " * 20_000, "#" * 100_000, "answer is " * 20_000, "answer" + " " * 100_000, "A:" * 50_000),
    ]
    assert not any(grade(texts, ["18"] * len(texts), workers=2))
    assert is_correct("$x+1$", "1+x")


def test_a_number_beyond_the_limit_of_python_equals_itself_only() -> None:
    long = "9" * 1_000_000
    assert grade([f"#### {long}", f"#### {long}"], [long, long + "9"]) == [True, False]


def idle_process() -> int:
    assert worker.are_equivalent("x+1", "1+x")
    return worker._idle[-1].process.pid


def test_a_killed_worker_is_replaced() -> None:
    killed = idle_process()
    os.kill(killed, signal.SIGKILL)
    assert idle_process() != killed


def test_a_worker_that_does_not_reply_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = idle_process()
    os.kill(stuck, signal.SIGSTOP)
    with monkeypatch.context() as context:
        context.setattr(worker, "_REPLY_SECONDS", 0.2)
        assert not worker.are_equivalent("x+1", "1+x")
    with pytest.raises(ProcessLookupError):
        os.kill(stuck, 0)
    assert idle_process() != stuck


def test_workers_have_a_memory_limit() -> None:
    limit, _ = resource.prlimit(idle_process(), resource.RLIMIT_AS)
    assert 0 < limit <= 4 * 1024**3


def test_a_script_without_main_guard_grades_and_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from rlreason.answers.grading import grade\n"
        "print(*grade(['#### 18'], ['18']), 'rlreason.answers.worker' in sys.modules)\n"
        "print(*grade(['$x+1$'], ['1+x']), 'sympy' in sys.modules)\n"
        "from rlreason.answers.worker import _idle\n"
        "print(_idle[-1].process.pid)\n"
    )
    # Modules in the script's own folder must not reach the worker, which would fail on this one.
    (tmp_path / "sympy.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    fast, slow, worker = done.stdout.splitlines()
    assert (fast, slow) == ("True False", "True False")
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker), 0)

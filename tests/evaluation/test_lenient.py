"""Strict and lenient accuracy side by side, and what is said of completions without a verdict."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

from rlreason.answers.equality import Verdict, verdicts
from rlreason.answers.extraction import last_number
from rlreason.evaluation import evaluate
from rlreason.evaluation.evaluate import intervals, lenient_verdicts, measure
from rlreason.lab.measuring import warnings
from rlreason.types import Problem, Rollout


def rollout(text: str, gold: str = "42", finish_reason: str = "stop", number: int = 0) -> Rollout:
    """A graded completion."""
    drawn = Rollout(Problem(f"p{number}", "?", gold), 0, 0, (1,), (2, 3), (), text, finish_reason)
    verdict = verdicts([text], [gold])[0]
    return replace(drawn, answer=verdict.answer, correct=verdict.correct, is_unread=verdict.is_unread)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Tom has 40 + 2 = 42 pens", "42"),
        ("It costs $1,234.50.", "1,234.50"),
        ("It falls by 5 to -3 degrees", "-3"),
        ("50-8", "8"),
        ("Of all, 3/4", "3/4"),
        ("It is 42\nQuestion: And of 5 and 8?\nIt is 40", "42"),
        ("<think>40?</think> It is 42", "42"),
        ("<think>40, no, 42", "42"),
        ("Ten pens", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert last_number(text) == number


def test_where_no_answer_is_stated_the_last_number_counts_and_no_other_is_graded_again() -> None:
    texts = ["#### 42", "Tom has 42", "Tom has 41", "#### 41 and not 42", "no idea"]
    drawn = [rollout(text, number=number) for number, text in enumerate(texts)]
    assert [item.correct for item in drawn] == [True, False, False, False, False]
    with mock.patch.object(evaluate, "grade", wraps=evaluate.grade) as asked:
        assert lenient_verdicts(drawn) == [True, True, False, False, False]
    assert asked.call_args.args == (["#### 42", "#### 41"], ["42", "42"])


def test_an_evaluation_counts_both_and_what_has_no_verdict() -> None:
    greedy = [rollout("#### 42", number=0), rollout("Tom has 42", number=1), rollout("Tom", "42", "length", number=2)]
    values = measure(greedy, (), 0)
    assert values["maj@1"].tolist() == [1, 0, 0]
    assert values["maj@1 lenient"].tolist() == [1, 1, 0]
    assert values["no_answer"].tolist() == [0, 1, 1]
    assert values["cut"].tolist() == [0, 0, 1]
    assert values["unread"].tolist() == [0, 0, 0]
    assert intervals(values, 100)["cut"].high <= 1
    sampled = [replace(rollout("#### 41", number=number), sample=sample) for number in range(3) for sample in (0, 1)]
    sampled[0] = replace(sampled[0], answer="12 or 42", is_unread=True)
    assert measure(greedy, sampled, 2)["unread"].tolist() == pytest.approx([1 / 3, 0, 0])


@pytest.mark.parametrize(
    ("text", "gold", "verdict"),
    [
        ("#### 42", "42", Verdict("42", True)),
        ("#### 41", "42", Verdict("41", False)),
        ("#### 6*7", "42", Verdict("6*7", False)),
        ("#### 41 or 42", "42", Verdict("41 or 42", False, is_unread=True)),
        ("The answer is that she pays", "42", Verdict("that she pays", False, is_unread=True)),
        ("#### \\frac{x", "x+1", Verdict("\\frac{x", False, is_unread=True)),
        ("#### 1+y", "x+1", Verdict("1+y", False)),
        ("#### x" + "+1" * 200, "x", Verdict("x" + "+1" * 200, False, is_unread=True)),
        ("none", "42", Verdict(None, False)),
    ],
)
def test_an_answer_that_cannot_be_valued_is_wrong_and_unread(text: str, gold: str, verdict: Verdict) -> None:
    assert verdicts([text], [gold]) == [verdict]


def test_more_than_a_tenth_without_a_verdict_is_said_with_what_to_change() -> None:
    fine, cut = rollout("#### 42"), rollout("Tom has", "42", "length")
    ended, unread = rollout("Tom has 42"), rollout("#### 41 or 42")
    assert warnings([fine] * 9 + [cut], 80) == []
    assert [line.partition(":")[0] for line in warnings([fine] * 7 + [cut] * 2 + [ended] * 2 + [unread] * 3, 80)] == [
        "14% of 14 completions were cut before they stated an answer",
        "14% of 14 completions ended without stating an answer",
        "21% of 14 completions state an answer that is no number or cannot be read",
    ]
    assert "data.max_completion_tokens=80" in warnings([cut], 80)[0]

"""Metrics of one problem against enumeration, hand-worked examples, and the properties they promise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.evaluation.evaluate import intervals
from rlreason.evaluation.metrics import (
    KNOWN,
    KNOWN_NULL,
    ProblemSamples,
    distinct_count,
    known_and_null,
    majority_at_k,
    pass_at_k,
    per_problem_metrics,
    rerank_at_k,
    share_known,
    weighted_majority_at_k,
)

RIGHT_ANSWERS = {"a", "b"}
answer_lists = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=12)


def grades(answers: Sequence[str | None]) -> list[bool]:
    return [answer in RIGHT_ANSWERS for answer in answers]


def pass_by_enumeration(correct: int, samples: int, k: int) -> Fraction:
    subsets = list(itertools.combinations([index < correct for index in range(samples)], k))
    return Fraction(sum(any(subset) for subset in subsets), len(subsets))


def majority_by_enumeration(answers: Sequence[str | None], k: int) -> Fraction:
    """Average over every order in which ties could be broken, the first leading answer of an order winning."""
    voters = [answer for answer in answers[:k] if answer is not None]
    orders = list(itertools.permutations(sorted(set(voters))))
    if not voters:
        return Fraction(0)
    winners = [max(order, key=voters.count) for order in orders]
    return Fraction(sum(winner in RIGHT_ANSWERS for winner in winners), len(orders))


def test_pass_at_k_equals_enumeration() -> None:
    for samples in range(1, 9):
        for correct, k in itertools.product(range(samples + 1), range(1, samples + 1)):
            assert pass_at_k(correct, samples, k) == float(pass_by_enumeration(correct, samples, k))


@pytest.mark.parametrize(
    ("correct", "samples", "k", "expected"),
    [(1, 4, 2, 1 / 2), (2, 4, 2, 5 / 6), (3, 5, 3, 1.0), (0, 7, 7, 0.0), (1, 1, 1, 1.0)],
)
def test_pass_at_k_worked_by_hand(correct: int, samples: int, k: int, expected: float) -> None:
    assert pass_at_k(correct, samples, k) == expected


def test_pass_at_k_of_thousands_of_samples_is_exact() -> None:
    assert pass_at_k(1, 5000, 2500) == 0.5
    assert pass_at_k(1, 5000, 1) == 1 / 5000
    assert pass_at_k(2500, 5000, 2500) == 1.0


@given(st.data())
def test_pass_at_k_grows_with_k_and_with_correct(data: st.DataObject) -> None:
    samples = data.draw(st.integers(2, 300))
    correct = data.draw(st.integers(0, samples - 1))
    k = data.draw(st.integers(1, samples - 1))
    assert pass_at_k(correct, samples, k) <= pass_at_k(correct, samples, k + 1) <= 1
    assert 0 <= pass_at_k(correct, samples, k) <= pass_at_k(correct + 1, samples, k)
    assert pass_at_k(correct, samples, 1) == correct / samples


@pytest.mark.parametrize(("correct", "samples", "k"), [(0, 4, 0), (0, 4, 5), (-1, 4, 2), (5, 4, 2), (0, 0, 1)])
def test_pass_at_k_refuses_impossible_counts(correct: int, samples: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"pass@k needs|cannot be right"):
        pass_at_k(correct, samples, k)


@pytest.mark.parametrize(
    ("answers", "k", "expected"),
    [
        (["a", "c", "a"], 3, 1.0),
        (["a", "c", "c"], 3, 0.0),
        (["a", "c"], 2, 0.5),
        (["a", "c", "d", None], 4, 1 / 3),
        (["a", "b", "c"], 3, 2 / 3),
        (["c", "a", "a"], 1, 0.0),
        ([None, None, None, "a"], 4, 1.0),
        ([None, None, "a"], 2, 0.0),
    ],
)
def test_majority_worked_by_hand(answers: list[str | None], k: int, expected: float) -> None:
    assert majority_at_k(answers, grades(answers), k) == expected


@given(answer_lists, st.data())
def test_majority_equals_enumeration_of_ties(answers: list[str | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(answers)))
    value = majority_at_k(answers, grades(answers), k)
    assert 0 <= value <= 1
    assert value == float(majority_by_enumeration(answers, k))


@given(answer_lists, st.randoms(use_true_random=False))
def test_majority_ignores_the_order_of_votes(answers: list[str | None], random: Random) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)
    assert majority_at_k(shuffled, grades(shuffled), len(answers)) == majority_at_k(
        answers, grades(answers), len(answers)
    )


@given(answer_lists)
def test_one_vote_is_the_accuracy_of_the_first_sample(answers: list[str | None]) -> None:
    assert majority_at_k(answers, grades(answers), 1) == float(grades(answers)[0])


def test_majority_refuses_unequal_lengths_and_impossible_k() -> None:
    with pytest.raises(ValueError, match="1 answers or scores but 0 grades"):
        majority_at_k(["a"], [], 1)
    for k in (0, 2):
        with pytest.raises(ValueError, match="A choice among k needs"):
            majority_at_k(["a"], [True], k)


def test_distinct_count_leaves_out_missing_answers() -> None:
    assert distinct_count(["1", "2", None, "1", None]) == 2
    assert distinct_count([]) == 0


def samples_of(answers: Sequence[str | None], greedy_correct: bool = True, problem_id: str = "p") -> ProblemSamples:
    solutions = tuple(f"solution {index // 2}" for index in range(len(answers)))
    return ProblemSamples(problem_id, greedy_correct, True, tuple(answers), tuple(grades(answers)), solutions)


def test_metrics_of_two_problems_worked_by_hand() -> None:
    problems = [samples_of(["a", "c", "c", None, "a", "a"]), samples_of(["c", "d", "c", "c", "c", "c"], False)]
    metrics = per_problem_metrics(problems, 5)
    assert {name: values.tolist() for name, values in metrics.items()} == {
        "maj@1": [1.0, 0.0],
        "answered@1": [1.0, 1.0],
        "maj@5": [0.5, 0.0],
        "accuracy@temperature": [0.5, 0.0],
        "pass@2": [1 - 3 / 15, 0.0],
        "pass@4": [1.0, 0.0],
        "pass@5": [1.0, 0.0],
        "distinct_right": [2.0, 0.0],
        "distinct_answers": [2.0, 2.0],
    }
    assert all(values.dtype == np.float64 and values.shape == (2,) for values in metrics.values())


@pytest.mark.parametrize(
    ("k", "names"),
    [
        (0, []),
        (1, ["accuracy@temperature"]),
        (2, ["maj@2", "accuracy@temperature", "pass@2"]),
        (8, ["maj@8", "accuracy@temperature", "pass@2", "pass@4", "pass@8"]),
    ],
)
def test_names_of_metrics(k: int, names: list[str]) -> None:
    diversity = ["distinct_right", "distinct_answers"] if k else []
    assert list(per_problem_metrics([samples_of(["a"] * 8, False)], k)) == ["maj@1", "answered@1", *names, *diversity]
    assert per_problem_metrics([samples_of(["a"] * 8, False)], k)["maj@1"].tolist() == [0.0]


def test_votes_and_diversity_look_at_the_first_k_samples_only() -> None:
    problem = ProblemSamples("p", True, True, ("x", "x", "x", "y"), (False, False, True, True), ("1", "1", "2", "3"))
    metrics = per_problem_metrics([problem], 2)
    assert metrics["maj@2"].tolist() == [0.0]
    assert metrics["distinct_right"].tolist() == [0.0]  # two samples of one solution, both wrong
    assert metrics["distinct_answers"].tolist() == [1.0]
    assert metrics["accuracy@temperature"].tolist() == [0.5]
    assert metrics["pass@2"].tolist() == [5 / 6]


def test_no_problems_give_empty_arrays() -> None:
    assert all(values.shape == (0,) for values in per_problem_metrics([], 4).values())


def test_too_few_samples_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'short' has 3 samples, fewer than the 4"):
        per_problem_metrics([samples_of(["a"] * 4), samples_of(["a"] * 3, problem_id="short")], 4)
    with pytest.raises(ValueError, match="negative"):
        per_problem_metrics([], -1)


def test_samples_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one of each"):
        ProblemSamples("p", True, True, ("a",), (True, False), ("s",))


def test_rerank_takes_the_highest_score_among_the_first_k() -> None:
    scores, correct = [0.2, 0.9, 0.9, 1.0], [True, True, False, False]
    assert rerank_at_k(scores, correct, 1) == 1.0
    assert rerank_at_k(scores, correct, 2) == 1.0
    assert rerank_at_k(scores, correct, 3) == 0.5
    assert rerank_at_k(scores, correct, 4) == 0.0


def test_a_weighted_vote_by_hand() -> None:
    answers, correct = ["7", "8", "8", None], [True, False, False, False]
    assert weighted_majority_at_k(answers, [0.9, 0.3, 0.3, 5.0], correct, 4) == 1.0
    assert weighted_majority_at_k(answers, [0.5, 0.3, 0.3, 5.0], correct, 4) == 0.0
    assert weighted_majority_at_k(answers, [0.6, 0.3, 0.3, 5.0], correct, 4) == 0.5
    assert weighted_majority_at_k([None], [1.0], [False], 1) == 0.0


@given(answer_lists, st.data())
def test_equal_scores_make_the_weighted_vote_the_uniform_one(answers, data) -> None:
    k = data.draw(st.integers(1, len(answers)))
    weighted = weighted_majority_at_k(answers, [0.25] * len(answers), grades(answers), k)
    assert weighted == pytest.approx(majority_at_k(answers, grades(answers), k))


@given(answer_lists, st.data())
def test_no_choice_beats_pass_at_k(answers, data) -> None:
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(answers), max_size=len(answers)))
    correct = grades(answers)
    for k in range(1, len(answers) + 1):
        anything = float(any(correct[:k]))
        assert rerank_at_k(scores, correct, k) <= anything
        assert weighted_majority_at_k(answers, scores, correct, k) <= anything


def test_the_share_that_was_known() -> None:
    assert share_known(["a", "a", "b", "c"], ["a"]) == 0.5
    assert math.isnan(share_known([], ["a"]))
    # Halves a, a and b: the policy's a, b, c are known to the first by a third, to the second by a third.
    known, null = known_and_null(["a", "b", None, "c"], ["a", "a", "b", None])
    assert (known, null) == (pytest.approx(1 / 3), 0.0)
    assert known_and_null(["a"], ["a", "b", "a", "b"]) == (1.0, 1.0)


@pytest.mark.parametrize("start", [["a", "a", None, None], [None, None, "a", "a"], ["a"], []])
def test_nothing_is_said_of_a_question_that_half_of_the_start_has_not_solved(start) -> None:
    assert all(math.isnan(value) for value in known_and_null(["a", "a"], start))
    assert all(math.isnan(value) for value in known_and_null([None], ["a", "a"]))


@pytest.mark.parametrize(("types", "power", "k"), [(50, 1.5, 16), (500, 1.0, 96), (2000, 1.0, 97)])
@pytest.mark.parametrize("accuracies", [(0.6, 0.6), (0.4, 0.95)])
def test_a_policy_that_writes_as_its_start_does_is_known_as_well_as_the_start_itself(types, power, k, accuracies):
    """Solutions after Zipf; also where the policy is right more often, but in no new way."""
    generator = np.random.default_rng(types)
    chance = 1 / np.arange(1, types + 1) ** power

    def drawn(accuracy: float) -> list[str | None]:
        right = generator.random(k) < accuracy
        ways = generator.choice(types, k, p=chance / chance.sum())
        return [str(way) if one else None for way, one in zip(ways, right, strict=True)]

    pairs = [known_and_null(drawn(accuracies[1]), drawn(accuracies[0])) for _ in range(1000)]
    known, null = np.array([pair for pair in pairs if not math.isnan(pair[0])]).T
    assert known.mean() < 0.95  # far from all, though nothing is new
    assert abs((known - null).mean()) < 3.5 * (known - null).std() / math.sqrt(known.size)


def test_scores_and_known_solutions_add_their_metrics() -> None:
    problem = ProblemSamples("p", True, True, ("7", "8"), (True, False), ("a", "b"), (0.1, 0.9), ("a", "a"))
    found = per_problem_metrics([problem], 2)
    assert found["rerank@2"].tolist() == [0.0]
    assert found["weighted@2"].tolist() == [0.0]
    assert (found[KNOWN].tolist(), found[KNOWN_NULL].tolist()) == ([1.0], [1.0])
    unsolved = ProblemSamples("q", False, True, ("8", "8"), (False, False), ("a", "b"), (0.1, 0.9), ("a", "a"))
    both = per_problem_metrics([problem, unsolved], 2)
    assert np.isnan(both[KNOWN]).tolist() == [False, True]
    assert intervals(both, 100)[KNOWN].problems == 1
    with pytest.raises(ValueError, match="3 scores"):
        ProblemSamples("p", True, True, ("7", "8"), (True, False), ("a", "b"), (0.1, 0.9, 0.5))

"""What is measured on one problem: greedy accuracy, maj@K, pass@K and the diversity of the samples.

Every value is exact, a function of the samples alone; uncertainty over problems is the work of
`rlreason.evaluation.statistics`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class ProblemSamples:
    """The graded completions of one problem.

    Args:
        problem_id: The problem.
        greedy_correct: Whether the greedy completion is right.
        answers: Answer key of every sample, None where none could be extracted; shape `(samples,)`.
        correct: Whether each sample is right; shape `(samples,)`.
        solutions: What makes a solution different from others, such as its `operations`; shape `(samples,)`.
        scores: A score of every sample to rank them by; shape `(samples,)`. None without an outcome reward model.
        known: Solutions that the policy could write at the start of training; None when nobody asks.

    Raises:
        ValueError: When the tuples differ in length.
    """

    problem_id: str
    greedy_correct: bool
    answers: tuple[str | None, ...]
    correct: tuple[bool, ...]
    solutions: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    known: frozenset[str] | None = None

    def __post_init__(self) -> None:
        scores = self.answers if self.scores is None else self.scores
        if not len(self.answers) == len(self.correct) == len(self.solutions) == len(scores):
            raise ValueError(
                f"Problem {self.problem_id!r} has {len(self.answers)} answers, {len(self.correct)} grades, "
                f"{len(self.solutions)} solutions and {len(scores)} scores; there must be one of each per sample."
            )


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """Probability that at least one of `k` samples drawn without replacement is right.

    The unbiased estimator `1 - C(n - c, k) / C(n, k)` of Chen et al. 2021 (arXiv 2107.03374, eq. 1), in whole
    numbers with one rounding at the end, so that it neither overflows nor loses digits for any `n`.

    Args:
        correct: Samples that are right, `c`.
        samples: Samples in all, `n`.
        k: Samples drawn.

    Returns:
        A probability in [0, 1].

    Raises:
        ValueError: Unless `1 <= k <= n` and `0 <= c <= n`.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@k needs 1 <= k <= samples, but k is {k} and there are {samples} samples.")
    if not 0 <= correct <= samples:
        raise ValueError(f"{correct} of {samples} samples cannot be right.")
    draws = math.comb(samples, k)
    return (draws - math.comb(samples - correct, k)) / draws


def majority_at_k(answers: Sequence[str | None], correct: Sequence[bool], k: int) -> float:
    """Accuracy of a uniform vote over the first `k` samples (self-consistency, Wang et al. 2022, arXiv 2203.11171).

    Samples without an answer do not vote. A tie is settled in expectation: the credit is the share of right answers
    among the leading ones, so that no random draw and no order of samples enters the value. An answer counts as
    right when any of the `k` samples that carry it is; in practice all samples of one key are graded alike.

    Args:
        answers: Answer keys, None for no answer; shape `(samples,)`.
        correct: Whether each sample is right; shape `(samples,)`.
        k: Votes, at most `samples`.

    Returns:
        A value in [0, 1]; 0 when nobody votes.

    Raises:
        ValueError: When the lengths differ, or unless `1 <= k <= samples`.
    """
    _check_votes(answers, correct, k)
    votes = Counter(answer for answer in answers[:k] if answer is not None)
    if not votes:
        return 0.0
    right = {answer for answer, is_right in zip(answers[:k], correct[:k], strict=True) if is_right}
    most = max(votes.values())
    leading = {answer for answer, count in votes.items() if count == most}
    return len(leading & right) / len(leading)


def rerank_at_k(scores: Sequence[float], correct: Sequence[bool], k: int) -> float:
    """Accuracy of the highest-scored of the first `k` samples (rerank@K of the paper; Cobbe et al. 2021).

    Args:
        scores: Of an outcome reward model; shape `(samples,)`.
        correct: Whether each sample is right; shape `(samples,)`.
        k: Candidates, at most `samples`.

    Returns:
        A value in [0, 1]: the share of right ones among the samples that share the highest score.

    Raises:
        ValueError: When the lengths differ, or unless `1 <= k <= samples`.
    """
    _check_votes(scores, correct, k)
    best = max(scores[:k])
    leading = [right for score, right in zip(scores[:k], correct[:k], strict=True) if score == best]
    return sum(leading) / len(leading)


def weighted_majority_at_k(
    answers: Sequence[str | None], scores: Sequence[float], correct: Sequence[bool], k: int
) -> float:
    """Accuracy of a vote in which every sample counts with its score (Li et al. 2022, arXiv 2206.02336).

    Args:
        answers: Answer keys, None for no answer; shape `(samples,)`.
        scores: Weights, not negative; shape `(samples,)`.
        correct: Whether each sample is right; shape `(samples,)`.
        k: Votes, at most `samples`.

    Returns:
        A value in [0, 1], ties settled as in `majority_at_k`; 0 when nobody votes.

    Raises:
        ValueError: When the lengths differ, or unless `1 <= k <= samples`.
    """
    _check_votes(answers, correct, k)
    _check_votes(scores, correct, k)
    weights: dict[str, list[float]] = {}
    for answer, score in zip(answers[:k], scores[:k], strict=True):
        if answer is not None:
            weights.setdefault(answer, []).append(score)
    if not weights:
        return 0.0
    totals = {answer: math.fsum(values) for answer, values in weights.items()}  # exact, so that order decides no tie
    right = {answer for answer, is_right in zip(answers[:k], correct[:k], strict=True) if is_right}
    most = max(totals.values())
    leading = {answer for answer, total in totals.items() if total == most}
    return len(leading & right) / len(leading)


def share_known(solutions: Sequence[str], known: frozenset[str]) -> float:
    """Share of the different solutions that are among `known`; shape of `solutions`: `(samples,)`, at least one."""
    different = set(solutions)
    return len(different & known) / len(different)


def distinct_count(keys: Sequence[str | None]) -> int:
    """Number of different keys; None, which stands for no answer, is not one of them."""
    return len({key for key in keys if key is not None})


def per_problem_metrics(problems: Sequence[ProblemSamples], k: int) -> dict[str, npt.NDArray[np.float64]]:
    """Every metric of every problem.

    Votes and distinct counts look at the first `k` samples; pass@j uses all samples of a problem, also those beyond
    `k`, as its estimator is unbiased for any number of them.

    Args:
        problems: Graded samples, at least `k` for every problem.
        k: The K of maj@K and pass@K; 0 when only greedy completions exist.

    Returns:
        Arrays of shape `(problems,)` in the order of `problems`, by name: "maj@1" (greedy accuracy); and for `k` > 0
        "maj@{k}", "accuracy@temperature" (which is pass@1), "pass@{j}" for every power of two 1 < j < k and for k,
        "distinct_solutions" and "distinct_answers" (counts). With `k` = 1 there is no vote beside the greedy "maj@1".
        Where samples have scores, "rerank@{k}" and "weighted@{k}" (the vote weighted by them) as well; where the
        solutions at the start are known, "known_at_start": the share of the different solutions among them.

    Raises:
        ValueError: When `k` is negative or a problem has fewer than `k` samples.
    """
    if k < 0:
        raise ValueError(f"k must not be negative, but it is {k}.")
    for problem in problems:
        if len(problem.answers) < k:
            raise ValueError(
                f"Problem {problem.problem_id!r} has {len(problem.answers)} samples, fewer than the {k} asked for."
            )
    metrics = {"maj@1": _array([problem.greedy_correct for problem in problems])}
    if k == 0:
        return metrics
    if k > 1:
        metrics[f"maj@{k}"] = _array([majority_at_k(problem.answers, problem.correct, k) for problem in problems])
    if all(problem.scores is not None for problem in problems):
        scored = [(problem, problem.scores or ()) for problem in problems]
        metrics[f"rerank@{k}"] = _array([rerank_at_k(scores, item.correct, k) for item, scores in scored])
        metrics[f"weighted@{k}"] = _array(
            [weighted_majority_at_k(item.answers, scores, item.correct, k) for item, scores in scored]
        )
    for drawn in _drawn_counts(k):
        name = "accuracy@temperature" if drawn == 1 else f"pass@{drawn}"
        metrics[name] = _array([pass_at_k(sum(item.correct), len(item.correct), drawn) for item in problems])
    metrics["distinct_solutions"] = _array([distinct_count(problem.solutions[:k]) for problem in problems])
    metrics["distinct_answers"] = _array([distinct_count(problem.answers[:k]) for problem in problems])
    if all(problem.known is not None for problem in problems):
        metrics["known_at_start"] = _array(
            [share_known(item.solutions[:k], item.known or frozenset()) for item in problems]
        )
    return metrics


def _check_votes(votes: Sequence[object], correct: Sequence[bool], k: int) -> None:
    if len(votes) != len(correct):
        raise ValueError(f"There are {len(votes)} answers or scores but {len(correct)} grades.")
    if not 1 <= k <= len(votes):
        raise ValueError(f"A choice among k needs 1 <= k <= samples, but k is {k} and there are {len(votes)} samples.")


def _array(values: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def _drawn_counts(k: int) -> list[int]:
    """Powers of two below `k`, then `k`."""
    return [1 << exponent for exponent in range((k - 1).bit_length())] + [k]

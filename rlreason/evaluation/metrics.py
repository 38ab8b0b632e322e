"""What is measured on one problem: greedy accuracy, maj@K, pass@K and the diversity of the samples.

Every value is exact, a function of the samples alone; uncertainty over problems is the work of
`rlreason.evaluation.statistics`. A metric is one function in `METRICS`, or one that `eval.metrics` names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlreason.errors import UserError
from rlreason.types import Rollout


@dataclass(frozen=True, slots=True)
class ProblemSamples:
    """The graded completions of one problem.

    Args:
        problem_id: The problem.
        greedy_correct: Whether the greedy completion is right.
        greedy_answered: Whether an answer is found in it.
        answers: What every sample votes for, None without an answer, see `votes` of `rlreason.answers.equality`; shape
            `(samples,)`.
        correct: Whether each sample is right; shape `(samples,)`.
        solutions: What makes a solution different from others, such as its `operations`; shape `(samples,)`.
        scores: A score of every sample to rank them by; shape `(samples,)`. None without an outcome reward model.
        start: What the starting policy's samples were, None for a wrong one; shape `(samples,)`. None when nobody asks.
        rollouts: The samples themselves, for metrics that read their texts or tokens; shape `(samples,)`.
        greedy: The greedy completion itself; None where nobody asks.
        greedy_lenient: Whether the greedy completion is right if its last number stands in where it states no answer;
            None where nobody asks.

    Raises:
        ValueError: When the tuples differ in length.
    """

    problem_id: str
    greedy_correct: bool
    greedy_answered: bool
    answers: tuple[str | None, ...]
    correct: tuple[bool, ...]
    solutions: tuple[str, ...]
    scores: tuple[float, ...] | None = None
    start: tuple[str | None, ...] | None = None
    rollouts: tuple[Rollout, ...] = ()
    greedy: Rollout | None = None
    greedy_lenient: bool | None = None

    def __post_init__(self) -> None:
        scores = self.answers if self.scores is None else self.scores
        if not len(self.answers) == len(self.correct) == len(self.solutions) == len(scores):
            raise ValueError(
                f"Problem {self.problem_id!r} has {len(self.answers)} answers, {len(self.correct)} grades, "
                f"{len(self.solutions)} solutions and {len(scores)} scores; there must be one of each per sample."
            )

    @property
    def right_solutions(self) -> tuple[str | None, ...]:
        """The solution of every right sample, None for a wrong one; shape `(samples,)`."""
        return tuple(one if right else None for one, right in zip(self.solutions, self.correct, strict=True))


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
    right when the samples that carry it are; `votes` of `rlreason.answers.equality` never gives right and wrong ones
    one name.

    Args:
        answers: Names of answers, equal for equal answers, None for no answer; shape `(samples,)`.
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
        scores: Scores of an outcome reward model; shape `(samples,)`.
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
        answers: Names of answers as in `majority_at_k`; shape `(samples,)`.
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


def share_known(solutions: Sequence[str], known: Sequence[str]) -> float:
    """Share of solutions that are among `known`; NaN without a solution."""
    different = set(known)
    return sum(item in different for item in solutions) / len(solutions) if solutions else math.nan


def known_and_null(solutions: Sequence[str | None], start: Sequence[str | None]) -> tuple[float, float]:
    """How much of what a policy writes its start wrote as well, and how much of a second sample of that start.

    A sample never holds all that a policy can write, so even an unchanged policy writes solutions that it lacks. The
    difference of the two shares alone speaks of the policy. The start's samples are split into the first and the second
    half; each half is once what is known and once the second sample, and both shares are means of the two. They are
    shares of samples, not of different solutions, as the latter fall where a policy is right more often.

    Args:
        solutions: A policy's samples of one question, None for a wrong one; shape `(samples,)`.
        start: The same of the policy before training; as many.

    Returns:
        The share of the policy's right samples, and that of the start's other half; both NaN where the policy or a half
        of the start has no right sample.
    """
    half = len(start) // 2
    halves = [[item for item in part if item is not None] for part in (start[:half], start[half : 2 * half])]
    right = [item for item in solutions if item is not None]
    if not right or not all(halves):
        return math.nan, math.nan
    known = sum(share_known(right, part) for part in halves) / 2
    null = (share_known(halves[0], halves[1]) + share_known(halves[1], halves[0])) / 2
    return known, null


def distinct_count(keys: Sequence[str | None]) -> int:
    """Number of different keys; None, which stands for no answer, is not one of them."""
    return len({key for key in keys if key is not None})


# Values of one problem by name, of its samples and the K of maj@K; without a name where the problem cannot have it.
# K is 0 when only greedy completions exist.
Metric = Callable[[ProblemSamples, int], Mapping[str, float]]


def greedy_accuracy(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """Greedy accuracy, "maj@1"."""
    del k
    return {"maj@1": problem.greedy_correct}


def answered(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """Whether an answer is found in the greedy completion, "answered@1"; "maj@1" counts those that are right."""
    del k
    return {ANSWERED: problem.greedy_answered}


def lenient_accuracy(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """Greedy accuracy where the last number stands in for an answer that is not stated, "maj@1 lenient"."""
    del k
    return {} if problem.greedy_lenient is None else {LENIENT: problem.greedy_lenient}


def vote(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """The uniform vote, "maj@{k}"; with `k` = 1 there is none beside the greedy "maj@1"."""
    return {f"maj@{k}": majority_at_k(problem.answers, problem.correct, k)} if k > 1 else {}


def choice_by_score(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """The best score, "rerank@{k}", and the vote weighted by scores, "weighted@{k}"; where samples have scores."""
    if problem.scores is None or k == 0:
        return {}
    return {
        f"rerank@{k}": rerank_at_k(problem.scores, problem.correct, k),
        f"weighted@{k}": weighted_majority_at_k(problem.answers, problem.scores, problem.correct, k),
    }


def coverage(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """Pass@1 as "accuracy@temperature", and "pass@{j}" for every power of two 1 < j < k and for k.

    All samples count, also those beyond `k`, as the estimator is unbiased for any number of them.
    """
    names = {drawn: "accuracy@temperature" if drawn == 1 else f"pass@{drawn}" for drawn in _drawn_counts(k)}
    right, samples = sum(problem.correct), len(problem.correct)
    return {name: pass_at_k(right, samples, drawn) for drawn, name in names.items()}


def distinct(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """Counts of "distinct_right", different right solutions, and "distinct_answers" among the first `k` samples."""
    if k == 0:
        return {}
    return {
        "distinct_right": distinct_count(problem.right_solutions[:k]),
        "distinct_answers": distinct_count(problem.answers[:k]),
    }


def known_at_start(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """The shares "right_known_at_start" and "start_known_to_itself" of `known_and_null`, of the first `k` samples."""
    if problem.start is None or k < 2:
        return {}
    known, null = known_and_null(problem.right_solutions[:k], problem.start[:k])
    return {KNOWN: known, KNOWN_NULL: null}


def without_verdict(problem: ProblemSamples, k: int) -> Mapping[str, float]:
    """Shares of all completions, the greedy one included: "no_answer", "cut" at the token limit, and "unread"."""
    del k
    if problem.greedy is None:
        return {}
    drawn = (problem.greedy, *problem.rollouts)
    counts = {
        NO_ANSWER: sum(item.answer is None for item in drawn),
        CUT: sum(item.finish_reason == "length" for item in drawn),
        UNREAD: sum(item.is_unread for item in drawn),
    }
    return {name: count / len(drawn) for name, count in counts.items()}


ANSWERED, LENIENT = "answered@1", "maj@1 lenient"
NO_ANSWER, CUT, UNREAD = "no_answer", "cut", "unread"
KNOWN, KNOWN_NULL = "right_known_at_start", "start_known_to_itself"
PARTIAL = (KNOWN, KNOWN_NULL)  # metrics that say nothing of some problems, and are NaN there

# The names, or how they begin, of the metrics below that are shares of something, and of those that are not.
SHARES = (
    "maj@",
    ANSWERED,
    "rerank@",
    "weighted@",
    "accuracy@temperature",
    "pass@",
    KNOWN,
    KNOWN_NULL,
    NO_ANSWER,
    CUT,
    UNREAD,
)
NUMBERS = ("distinct_right", "distinct_answers")

# In the order in which tables show them.
METRICS: tuple[Metric, ...] = (
    greedy_accuracy,
    answered,
    lenient_accuracy,
    vote,
    choice_by_score,
    coverage,
    distinct,
    known_at_start,
    without_verdict,
)


def is_share(name: str, *values: npt.ArrayLike) -> bool:
    """Whether a metric is a share, which lies between 0 and 1; one of `eval.metrics` is where it only takes these two.

    Args:
        name: The metric's name.
        values: Its values on problems, as many arrays as there are.
    """
    if name.startswith(SHARES):
        return True
    return name not in NUMBERS and all(bool(np.isin(np.asarray(array), (0, 1)).all()) for array in values)


def per_problem_metrics(
    problems: Sequence[ProblemSamples], k: int, further: Sequence[Metric] = ()
) -> dict[str, npt.NDArray[np.float64]]:
    """Every metric of every problem.

    Args:
        problems: Graded samples, at least `k` for every problem.
        k: The K of maj@K and pass@K; 0 when only greedy completions exist.
        further: Metrics besides `METRICS`.

    Returns:
        Arrays of shape `(problems,)` in the order of `problems`, by name; of the metrics that every problem has. NaN
        where one of `PARTIAL` says nothing of a problem.

    Raises:
        UserError: Two metrics have one name.
        ValueError: When `k` is negative or a problem has fewer than `k` samples.
    """
    if k < 0:
        raise ValueError(f"k must not be negative, but it is {k}.")
    for problem in problems:
        if len(problem.answers) < k:
            raise ValueError(
                f"Problem {problem.problem_id!r} has {len(problem.answers)} samples, fewer than the {k} asked for."
            )
    found: dict[str, npt.NDArray[np.float64]] = {}
    for metric in (*METRICS, *further):
        rows = [metric(problem, k) for problem in problems]
        for name in rows[0] if rows else ():
            if name in found:
                raise UserError(f"eval.metrics: there is a metric {name!r} already; give it another name")
            if all(name in row for row in rows):
                found[name] = np.array([row[name] for row in rows], dtype=np.float64)
    return found


def _check_votes(votes: Sequence[object], correct: Sequence[bool], k: int) -> None:
    if len(votes) != len(correct):
        raise ValueError(f"There are {len(votes)} answers or scores but {len(correct)} grades.")
    if not 1 <= k <= len(votes):
        raise ValueError(f"A choice among k needs 1 <= k <= samples, but k is {k} and there are {len(votes)} samples.")


def _drawn_counts(k: int) -> list[int]:
    """Powers of two below `k`, then `k`; none for 0."""
    return [] if k == 0 else [1 << exponent for exponent in range((k - 1).bit_length())] + [k]

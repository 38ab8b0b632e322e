"""From scored rollouts to metrics with their intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from rlreason.answers.arithmetic import operations
from rlreason.answers.equality import grade, votes_of_problems
from rlreason.answers.extraction import final_answer_line, last_number
from rlreason.evaluation.metrics import PARTIAL, Metric, ProblemSamples, is_share, per_problem_metrics
from rlreason.evaluation.statistics import Clusters, Interval, Kind, bootstrap_interval, paired_difference
from rlreason.types import Rollout

PerProblem = dict[str, np.ndarray]
# Of many problems: from the answers of the samples, and whether they are right, to what each votes for.
Votes = Callable[[Sequence[tuple[Sequence[str | None], Sequence[bool]]]], list[list[str | None]]]


def measure(
    greedy: Sequence[Rollout],
    sampled: Sequence[Rollout],
    k: int,
    step_scores: Sequence[Sequence[float]] | None = None,
    rank_by: str = "final",
    at_start: Sequence[Rollout] = (),
    further: Sequence[Metric] = (),
    votes: Votes = votes_of_problems,
) -> PerProblem:
    """Every metric of every problem.

    Args:
        greedy: One greedy rollout per problem.
        sampled: `k` or more rollouts per problem, drawn at the sampling temperature; none when `k` is 0.
        k: The K of maj@K and pass@K.
        step_scores: An outcome reward model's scores of every step of each of `sampled`.
        rank_by: How step scores become one, see `rank_score`.
        at_start: Samples of the same problems before training, to see what is new.
        further: Metrics besides those of the package.
        votes: Which answers vote alike.

    Returns:
        Arrays of shape `(problems,)` by metric name, problems in the order of `greedy`.
    """
    by_problem: dict[str, list[tuple[Rollout, float]]] = defaultdict(list)
    for number, item in enumerate(sampled):
        score = 0.0 if step_scores is None else rank_score(step_scores[number], rank_by)
        by_problem[item.problem.id].append((item, score))
    start: dict[str, list[Rollout]] = defaultdict(list)
    for item in sorted(at_start, key=lambda one: one.sample):
        start[item.problem.id].append(item)
    samples_of = [sorted(by_problem[item.problem.id], key=lambda pair: pair[0].sample) for item in greedy]
    names = votes(
        [([item.answer for item, _ in samples], [item.correct for item, _ in samples]) for samples in samples_of]
    )
    problems = []
    for item, lenient, samples, answers in zip(greedy, lenient_verdicts(greedy), samples_of, names, strict=True):
        problems.append(
            ProblemSamples(
                problem_id=item.problem.id,
                greedy_correct=item.correct,
                greedy_answered=item.answer is not None,
                answers=tuple(answers),
                correct=tuple(other.correct for other, _ in samples),
                solutions=tuple(operations(other.text) for other, _ in samples),
                scores=None if step_scores is None else tuple(score for _, score in samples),
                start=tuple(operations(one.text) if one.correct else None for one in start[item.problem.id])
                if at_start
                else None,
                rollouts=tuple(other for other, _ in samples),
                greedy=item,
                greedy_lenient=lenient,
            )
        )
    return per_problem_metrics(problems, k, further)


def lenient_verdicts(rollouts: Sequence[Rollout]) -> list[bool]:
    """Whether each graded rollout is right if its last number stands in where it states no answer.

    A rollout that states an answer keeps its verdict and is not graded again.
    """
    found = [item.correct for item in rollouts]
    numbers = {place: last_number(item.text) for place, item in enumerate(rollouts) if item.answer is None}
    stated = {place: final_answer_line(number) for place, number in numbers.items() if number is not None}
    golds = [rollouts[place].problem.answer for place in stated]
    for place, right in zip(stated, grade(list(stated.values()), golds), strict=True):
        found[place] = right
    return found


def rank_score(scores: Sequence[float], rank_by: str) -> float:
    """One score of a solution: that of its last step ("final"), or the "product" or "minimum" over its steps.

    An empty completion scores 0.
    """
    if not scores:
        return 0.0
    return {"final": scores[-1], "product": math.prod(scores), "minimum": min(scores)}[rank_by]


def intervals(values: PerProblem, resamples: int, clusters: Clusters | None = None) -> dict[str, Interval]:
    """Mean and 95 % interval over problems of every metric, see `bootstrap_interval`; `clusters`: of each problem.

    Over the problems of which a metric says something; without it where there are none.
    """
    found = {}
    for name, array in values.items():
        present, places = _present(name, clusters, array)
        if present.any():
            kind: Kind = "share" if is_share(name, array[present]) else "number"
            found[name] = bootstrap_interval(array[present], resamples=resamples, kind=kind, clusters=places)
    return found


def differences(
    before: PerProblem, after: PerProblem, resamples: int, clusters: Clusters | None = None
) -> dict[str, Interval]:
    """Paired difference over the same problems, with its 95 % interval, of every metric that both have."""
    found = {}
    for name in before:
        if name not in after:
            continue
        present, places = _present(name, clusters, before[name], after[name])
        if present.any():
            first, second = before[name][present], after[name][present]
            shares = is_share(name, first, second)
            found[name] = paired_difference(first, second, resamples=resamples, shares=shares, clusters=places)
    return found


def _present(name: str, clusters: Clusters | None, *values: np.ndarray) -> tuple[np.ndarray, Clusters | None]:
    """Of which problems all values of a metric say something, and the clusters of these."""
    absent = np.isnan(np.stack(values)).any(axis=0) & (name in PARTIAL)
    present = ~absent
    if clusters is None:
        return present, None
    return present, [name for name, kept in zip(clusters, present, strict=True) if kept]

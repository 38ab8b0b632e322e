"""From scored rollouts to metrics with their intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rlreason.answers.arithmetic import operations
from rlreason.answers.equality import votes_of_problems
from rlreason.evaluation.diversity import diversity
from rlreason.evaluation.metrics import Metric, ProblemSamples, is_share, per_problem_metrics
from rlreason.evaluation.statistics import Clusters, Interval, bootstrap_interval, paired_difference
from rlreason.types import Rollout

PerProblem = dict[str, np.ndarray]


def measure(
    greedy: Sequence[Rollout],
    sampled: Sequence[Rollout],
    k: int,
    step_scores: Sequence[Sequence[float]] | None = None,
    rank_by: str = "final",
    at_start: Sequence[Rollout] = (),
    further: Sequence[Metric] = (),
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

    Returns:
        Arrays of shape `(problems,)` by metric name, problems in the order of `greedy`.
    """
    by_problem: dict[str, list[tuple[Rollout, float]]] = defaultdict(list)
    for number, item in enumerate(sampled):
        score = 0.0 if step_scores is None else rank_score(step_scores[number], rank_by)
        by_problem[item.problem.id].append((item, score))
    known = diversity(at_start)
    samples_of = [sorted(by_problem[item.problem.id], key=lambda pair: pair[0].sample) for item in greedy]
    votes = votes_of_problems(
        [([item.answer for item, _ in samples], [item.correct for item, _ in samples]) for samples in samples_of]
    )
    problems = []
    for item, samples, answers in zip(greedy, samples_of, votes, strict=True):
        problems.append(
            ProblemSamples(
                problem_id=item.problem.id,
                greedy_correct=item.correct,
                answers=tuple(answers),
                correct=tuple(other.correct for other, _ in samples),
                solutions=tuple(operations(other.text) for other, _ in samples),
                scores=None if step_scores is None else tuple(score for _, score in samples),
                known=frozenset(known[item.problem.id]) if at_start else None,
                rollouts=tuple(other for other, _ in samples),
            )
        )
    return per_problem_metrics(problems, k, further)


def rank_score(scores: Sequence[float], rank_by: str) -> float:
    """One score of a solution: that of its last step ("final"), or the "product" or "minimum" over its steps.

    An empty completion scores 0.
    """
    if not scores:
        return 0.0
    return {"final": scores[-1], "product": math.prod(scores), "minimum": min(scores)}[rank_by]


def intervals(values: PerProblem, resamples: int, clusters: Clusters | None = None) -> dict[str, Interval]:
    """Mean and 95 % interval over problems of every metric, see `bootstrap_interval`; `clusters`: of each problem."""
    return {
        name: bootstrap_interval(
            array, resamples=resamples, kind="share" if is_share(name, array) else "number", clusters=clusters
        )
        for name, array in values.items()
    }


def differences(
    before: PerProblem, after: PerProblem, resamples: int, clusters: Clusters | None = None
) -> dict[str, Interval]:
    """Paired difference over the same problems, with its 95 % interval, of every metric that both have."""
    return {
        name: paired_difference(
            before[name],
            after[name],
            resamples=resamples,
            shares=is_share(name, before[name], after[name]),
            clusters=clusters,
        )
        for name in before
        if name in after
    }

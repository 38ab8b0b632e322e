"""From scored rollouts to metrics with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rlreason.evaluation.metrics import ProblemSamples, per_problem_metrics, solution_key
from rlreason.evaluation.statistics import Interval, bootstrap_interval, paired_difference
from rlreason.grading import answer_key
from rlreason.types import ScoredRollout

PerProblem = dict[str, np.ndarray]


def measure(greedy: Sequence[ScoredRollout], sampled: Sequence[ScoredRollout], k: int) -> PerProblem:
    """Every metric of every problem.

    Args:
        greedy: One greedy rollout per problem.
        sampled: `k` or more rollouts per problem, drawn at the sampling temperature; none when `k` is 0.
        k: The K of maj@K and pass@K.

    Returns:
        Arrays of shape `(problems,)` by metric name, problems in the order of `greedy`.
    """
    by_problem: dict[str, list[ScoredRollout]] = defaultdict(list)
    for item in sampled:
        by_problem[item.rollout.problem_id].append(item)
    problems = []
    for item in greedy:
        samples = sorted(by_problem[item.rollout.problem_id], key=lambda other: other.rollout.sample)
        problems.append(
            ProblemSamples(
                problem_id=item.rollout.problem_id,
                greedy_correct=item.correct,
                answers=tuple(None if other.answer is None else answer_key(other.answer) for other in samples),
                correct=tuple(other.correct for other in samples),
                solutions=tuple(solution_key(other.rollout.text) for other in samples),
            )
        )
    return per_problem_metrics(problems, k)


def intervals(values: PerProblem, resamples: int) -> dict[str, Interval]:
    """Mean and 95 % bootstrap interval over problems of every metric."""
    return {name: bootstrap_interval(array, resamples=resamples) for name, array in values.items()}


def differences(before: PerProblem, after: PerProblem, resamples: int) -> dict[str, Interval]:
    """Paired difference over the same problems, with its 95 % interval, of every metric that both have."""
    return {name: paired_difference(before[name], after[name], resamples=resamples) for name in before if name in after}

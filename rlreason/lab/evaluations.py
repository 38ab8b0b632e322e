"""What an evaluation leaves in the run folder for studies, and the evaluation on questions of another kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.evaluation.evaluate import PerProblem, differences, intervals, measure
from rlreason.lab.base_evaluation import evaluation_rollouts
from rlreason.run.folder import Run
from rlreason.run.store import write_evaluation
from rlreason.types import Problem, ScoredRollout

if TYPE_CHECKING:
    from rlreason.lab.stages import RunStages


def store_evaluation(
    run: Run,
    name: str,
    problems: Sequence[Problem],
    greedy: Sequence[ScoredRollout],
    sampled: Sequence[ScoredRollout],
    values: PerProblem,
) -> None:
    """Keep what was measured on every problem, with what a study groups by.

    Args:
        run: The run folder.
        name: Such as "test-final".
        problems: The questions.
        greedy: One rollout of each.
        sampled: Further rollouts, or none.
        values: Every metric of every problem, in the order of `greedy`.
    """
    ids = [item.rollout.problem_id for item in greedy]
    steps = {problem.id: len(problem.steps) for problem in problems}
    samples = Counter(item.rollout.problem_id for item in sampled)
    right = Counter(item.rollout.problem_id for item in sampled if item.correct)
    facts = {
        "problem_id": ids,
        "reference_steps": [steps[problem] for problem in ids],
        "samples": [samples[problem] for problem in ids],
        "right": [right[problem] for problem in ids],
    }
    write_evaluation(run.folder / "evaluations" / f"{name}.parquet", {**facts, **values})


def out_of_distribution(stages: RunStages, first: Path, last: Path) -> dict[str, dict[str, Any]]:
    """Greedy accuracy of the first and the last policy on questions with more steps than training has.

    Returns:
        `before`, `after` and their paired `difference`, each as an interval.
    """
    found = {}
    for stage, policy in (("init", first), ("final", last)):
        name = f"ood-{stage}"
        greedy = evaluation_rollouts(
            stages.base, stages.generation, f"{name}-greedy", 0, policy, stages.elsewhere, 1, 0.0
        )
        found[stage] = measure(greedy, (), 0)
        store_evaluation(stages.run, name, stages.elsewhere, greedy, (), found[stage])
    resamples = stages.generation.config.eval.resamples
    return {
        "before": intervals(found["init"], resamples)["maj@1"].to_dict(),
        "after": intervals(found["final"], resamples)["maj@1"].to_dict(),
        "difference": differences(found["init"], found["final"], resamples)["maj@1"].to_dict(),
    }

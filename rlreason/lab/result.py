"""The result of a run: what it ended with, what it cost, and how that compares with its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rlreason.lab.context import Context
from rlreason.lab.measuring import Evaluations
from rlreason.planning.measured import planned_and_measured
from rlreason.run.folder import environment
from rlreason.run.left_out import left_out
from rlreason.run.stage import RESULT

KINDS = ("start", "sample", "grade", "reward", "train", "sync", "evaluate", "total")
SHARED = ("sft", "orm")


def write_result(context: Context, evaluations: Evaluations, too_long: Sequence[str], **facts: Any) -> dict[str, Any]:
    """Assemble, save and track the result of a run.

    Args:
        context: The run's context.
        evaluations: What was measured; at least one.
        too_long: Ids of the questions whose prompts do not fit.
        facts: What the task has to add.
    """
    run = context.run
    run.once(RESULT, lambda: (None, {}), lambda: None)
    seconds, tokens, journal = run.totals("seconds"), run.totals("tokens"), run.journal.items()
    found = {
        "name": run.folder.name,
        "config": run.config,
        "prompt": asdict(context.asked_with),
        **environment(),
        "model_source": context.source,
        "evaluations": evaluations.records,
        **facts,
        "rollouts": {stage: record["rollouts"] for stage, record in journal if "rollouts" in record},
        "training_rollouts": run.training_rollouts,
        "outcome_model_rollouts": run.outcome_model_rollouts,
        "prompts_too_long": len(too_long),
        "probe_gaps": {stage: record["probe_gap"] for stage, record in journal if "probe_gap" in record},
        "cut_at_limit": {stage: record["cut_at_limit"] for stage, record in journal if "cut_at_limit" in record},
        "seconds": {kind: round(seconds.get(kind, 0.0), 3) for kind in KINDS},
        "tokens": {kind: int(tokens.get(kind, 0)) for kind in ("sample", "train", "evaluate")},
    }
    cached = {stage for stage in SHARED if run.journal.get(stage, {}).get("cached")}
    found["plan"] = planned_and_measured(context.config, seconds, found["tokens"], run.peaks(), cached)
    final = evaluations.records[-1]["metrics"]
    context.tracker.finish({f"final/{metric}": values["value"] for metric, values in final.items()})
    # Last, for the end of tracking may fail as well.
    rows = left_out(
        run.journal.values(),
        run.troubles,
        (len(too_long), len(too_long) + len(context.prompts)),
        second_prompts_too_long(context),
    )
    found["left_out"] = [asdict(row) for row in rows]
    run.finish(found)
    return found


def second_prompts_too_long(context: Context) -> tuple[int, int]:
    """Reported questions whose prompts under `eval.second_prompt` do not fit, and all of them; none without one."""
    if context.config.eval.second is None:
        return 0, 0
    measured = context.splits.measured
    return sum(problem.id not in context.second_prompts for problem in measured), len(measured)

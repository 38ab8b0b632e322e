"""The training task: from a composed experiment to a trained checkpoint and its result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rlreason.algorithms.base import Questions, Stages, Start, Trained
from rlreason.algorithms.expert_iteration import expert_iteration
from rlreason.algorithms.return_conditioned import return_conditioned
from rlreason.algorithms.sft import sft
from rlreason.config.experiment import ExperimentConfig
from rlreason.display import Display
from rlreason.evaluation.evaluate import differences
from rlreason.lab.common import write_result
from rlreason.lab.evaluations import out_of_distribution
from rlreason.lab.judge import judge
from rlreason.lab.setup import prepared
from rlreason.models.return_condition import condition_of

Algorithm = Callable[[Any, Start, Questions, int, Stages], Trained]
CONTROL = "asked-for-bad"


def algorithm(name: str) -> Algorithm:
    """The function that trains; those that are trainers themselves are imported when they are asked for."""
    if name == "ppo":
        from rlreason.algorithms.ppo import ppo

        return ppo
    if name == "grpo":
        from rlreason.algorithms.grpo import grpo

        return grpo
    others: dict[str, Algorithm] = {"sft": sft, "ei": expert_iteration, "rcrl": return_conditioned}
    return others[name]


def train(config: ExperimentConfig, plain_config: dict[str, Any], folder: Path, display: Display) -> dict[str, Any]:
    """Run the experiment that `config` describes, from wherever an earlier try left it.

    Args:
        config: The typed experiment.
        plain_config: The same as plain values, saved with the run.
        folder: The run folder.
        display: Shows progress and the result.

    Returns:
        The result, as in `result.json`.

    Raises:
        UserError: Data, model, memory or run folder do not allow it; the message says what to do.
    """
    with prepared(config, plain_config, folder, display) as ready:
        if config.algo.name == "orm":
            return judge(ready)
        stages = ready.stages
        trained = algorithm(config.algo.name)(config.algo, ready.start, ready.questions, config.seed, stages)

        measure = partial(
            stages.measure,
            round_number=len(stages.evaluations) - 1,
            policy=trained.policy,
            samples_seen=trained.samples_seen,
            k=config.eval.k,
            extra={},
        )
        facts: dict[str, Any] = {}
        conditioned = condition_of(trained.policy) is not None
        if conditioned:
            measure(CONTROL, ask_for_bad=True)
        measure("final")
        resamples = config.eval.resamples
        if conditioned:
            control = differences(stages.per_problem[CONTROL], stages.per_problem["final"], resamples)
            facts["good_minus_bad"] = {name: interval.to_dict() for name, interval in control.items()}
        if stages.elsewhere:
            facts["out_of_distribution"] = out_of_distribution(stages, ready.start.init, trained.policy)
        changes = differences(stages.per_problem["init"], stages.per_problem["final"], resamples)
        return write_result(
            stages,
            ready.model,
            ready.too_long,
            verdict=trained.verdict,
            differences={name: interval.to_dict() for name, interval in changes.items()},
            policy=str(trained.policy.relative_to(folder) if trained.policy.is_relative_to(folder) else trained.policy),
            **facts,
        )

"""The training task: from a composed experiment to a trained checkpoint and its result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig
from rlreason.display import Display
from rlreason.lab.lab import Lab
from rlreason.lab.measuring import first_and_last, measured, under_second_prompt
from rlreason.lab.result import write_result
from rlreason.lab.setup import prepared
from rlreason.models.return_condition import condition_of
from rlreason.run.stage import CONTROL, ELSEWHERE, FINAL, INIT, LAST


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
        context = ready.context
        lab = Lab(context)
        algorithm = ALGORITHMS[config.algo.name]
        trained = algorithm.train(config.algo, context.start, ready.questions, config.seed, lab)
        facts: dict[str, Any] = {"verdict": trained.verdict, **trained.facts}
        if trained.policy is None or trained.last is None:
            return write_result(context, lab.evaluations, ready.too_long, **facts)

        policy, last = trained.policy, trained.last
        evaluations, resamples = lab.evaluations, config.eval.resamples
        measure = partial(
            measured,
            context,
            evaluations,
            number=len(evaluations.records) - 1,
            samples_seen=lab.samples_seen(trained.samples_seen),
            k=config.eval.k,
        )
        conditioned = condition_of(last) is not None
        if conditioned:
            measure(CONTROL, policy=last, ask_for_bad=True)
        if last != policy:
            measure(LAST, policy=last)
        measure(FINAL, policy=policy)
        facts["differences"] = evaluations.change(INIT, FINAL, resamples)
        facts["gain"] = evaluations.split(INIT, FINAL)
        for name, checkpoint in (("policy", policy), ("last", last)):
            facts[name] = str(checkpoint.relative_to(folder) if checkpoint.is_relative_to(folder) else checkpoint)
        if conditioned:
            facts["good_minus_bad"] = evaluations.change(CONTROL, FINAL if last == policy else LAST, resamples)
        if context.splits.elsewhere:
            elsewhere = context.splits.elsewhere
            facts["out_of_distribution"] = first_and_last(
                context, evaluations, ELSEWHERE, elsewhere, context.start.init, policy
            )
        if context.config.eval.second is not None:
            facts["second_prompt"] = under_second_prompt(context, evaluations, context.start.init, policy)
        return write_result(context, evaluations, ready.too_long, **facts)

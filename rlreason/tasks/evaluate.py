"""The evaluation task: every metric of one checkpoint, with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.display import Display
from rlreason.evaluation.statistics import questions_text
from rlreason.lab.measuring import Evaluations, measured
from rlreason.lab.result import write_result
from rlreason.lab.setup import prepared
from rlreason.run.stage import FINAL


def evaluate(config: ExperimentConfig, plain_config: dict[str, Any], folder: Path, display: Display) -> dict[str, Any]:
    """Sample from the model, grade and measure; continue where an earlier try stopped.

    Raises:
        UserError: Data, model, memory or run folder do not allow it; the message says what to do.
    """
    with prepared(config, plain_config, folder, display) as ready:
        context, evaluations = ready.context, Evaluations()
        found = measured(context, evaluations, FINAL, 0, context.start.base, samples_seen=0, k=config.eval.k)
        verdict = f"evaluated {questions_text(found['maj@1'].to_dict())}"
        return write_result(context, evaluations, ready.too_long, verdict=verdict)

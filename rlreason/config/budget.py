"""`budget=N`: training rollouts, from which the algorithm's rounds, batches and samples follow."""

from __future__ import annotations

from dataclasses import replace

from rlreason.algorithms.budget import BudgetUnmet
from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.needs import learns_from_outcome_model
from rlreason.data.base import training_questions
from rlreason.data.registry import DATASETS
from rlreason.data.splits import read_data
from rlreason.errors import UserError
from rlreason.orm.calibration import VALIDATION_SAMPLES


def within_budget(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment whose algorithm draws as many training rollouts as its budget pays for.

    Rollouts that train and calibrate an outcome reward model are paid for first, where the algorithm learns from it;
    a model that only reranks costs nothing, nor does one that is given (`orm.path`).

    Args:
        config: With or without a budget.

    Raises:
        UserError: The budget cannot be met in whole rounds or batches; the message has the nearest that can.
    """
    if config.budget is None or config.task.name not in ("train", "plan"):
        return config
    questions = training_questions(config.data, DATASETS[config.data.name])
    if questions is None:
        questions = len(read_data(config.data).training().train)
    paid = outcome_model_rollouts(config, questions)
    left = config.budget - paid
    if left <= 0:
        raise UserError(
            f"budget={config.budget} cannot be met: the outcome reward model that algo={config.algo.name} learns from "
            f"takes {paid:,} rollouts alone; raise the budget, or lower orm.samples"
        )
    try:
        algo = ALGORITHMS[config.algo.name].for_budget(config.algo, left, questions)
    except BudgetUnmet as error:
        nearest = " or ".join(f"budget={paid + rollouts}" for rollouts in error.nearest)
        verb = "is" if len(error.nearest) == 1 else "are"
        share = f", beside {paid:,} for the outcome reward model" if paid else ""
        raise UserError(
            f"budget={config.budget} cannot be met: {error}{share}; the nearest {verb} {nearest}"
        ) from error
    return replace(config, algo=algo)


def outcome_model_rollouts(config: ExperimentConfig, questions: int) -> int:
    """Rollouts drawn for an outcome reward model that the algorithm learns from.

    Args:
        config: The experiment.
        questions: Training questions.

    Raises:
        UserError: Nobody can say how many, since prefixes are continued that are not written yet.
    """
    if not learns_from_outcome_model(config) or config.orm.path is not None:
        return 0
    if config.orm.label == "rollout":
        raise UserError(
            "budget cannot be met with orm=rollout: how many prefixes it continues is not known beforehand; "
            "use orm=outcome, or a trained model: orm.path=FOLDER"
        )
    held_out = config.data.validation_size
    if held_out is None:
        held_out = len(read_data(config.data).training().validation)
    return questions * config.orm.samples + held_out * VALIDATION_SAMPLES

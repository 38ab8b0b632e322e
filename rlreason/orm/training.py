"""The outcome reward model (Cobbe et al. 2021; Havrilla et al. 2024): p(right | question, steps so far).

K solutions per training question are sampled from a policy and graded; right and wrong ones, weighted to count the
same, train a scalar head on a language model with binary cross-entropy at the end of every step (or at every token),
beside the language model's own loss on the right ones. A prefix is labelled by the outcome of its own solution, or by
the share of right continuations sampled from it (stepwise, GLoRe, Havrilla et al. 2024b). Validation questions then
calibrate the score and its threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rlreason.algorithms.base import Start
from rlreason.answers.steps import through_answer
from rlreason.config.rewards import OutcomeModelConfig
from rlreason.errors import UserError
from rlreason.orm.calibration import VALIDATION_SAMPLES, Calibration
from rlreason.orm.judging import fit_calibration
from rlreason.orm.update import LabelledSolution
from rlreason.types import GradedRollout, Problem


class OutcomeStages(Protocol):
    """The expensive steps of training an outcome reward model, each done once."""

    def solutions(
        self, purpose: str, policy: Path, problems: Sequence[Problem], samples: int, temperature: float
    ) -> list[GradedRollout]:
        """Draw and grade `samples` solutions per problem."""

    def continuations(
        self, policy: Path, prefixes: Sequence[tuple[GradedRollout, int]], samples: int, temperature: float
    ) -> list[float]:
        """For each (solution, tokens kept), the share of right answers among continuations of those tokens."""

    def update(self, start: Path, solutions: Sequence[LabelledSolution], config: OutcomeModelConfig) -> Path:
        """Train the model; its folder."""

    def logits(self, model: Path, graded: Sequence[GradedRollout]) -> list[tuple[float, ...]]:
        """Raw scores at the end of every step through the final answer."""


def outcome_reward_model(
    config: OutcomeModelConfig,
    start: Start,
    training: Sequence[Problem],
    validation: Sequence[Problem],
    stages: OutcomeStages,
) -> tuple[Path, Calibration]:
    """Train and calibrate a model on solutions of `start.init`.

    Raises:
        UserError: All solutions are right, or all are wrong, so that there is nothing to tell apart.
    """
    sampled = stages.solutions("training", start.init, training, config.samples, config.temperature)
    chosen = [item for item in sampled if item.steps]
    require_both(chosen, "training questions", "orm.samples")
    if config.label == "rollout":
        prefixes = [(item, step.end) for item in chosen for step in through_answer(item.steps)[:-1]]
        shares = iter(stages.continuations(start.init, prefixes, config.continuations, config.temperature))
        labels = [[next(shares) for _ in through_answer(item.steps)[:-1]] + [float(item.correct)] for item in chosen]
    else:
        labels = [[float(item.correct)] * len(through_answer(item.steps)) for item in chosen]
    weights = outcome_weights(chosen)
    solutions = [
        labelled(item, values, config.loss_on, weights[item.correct])
        for item, values in zip(chosen, labels, strict=True)
    ]
    model = stages.update(start.init, solutions, config)

    held_out = stages.solutions("validation", start.init, validation, VALIDATION_SAMPLES, config.temperature)
    held_out = [item for item in held_out if item.steps]
    require_both(held_out, "validation questions", "data.validation_size")
    final = [scores[-1] for scores in stages.logits(model, held_out)]
    return model, fit_calibration(final, [item.correct for item in held_out])


def outcome_weights(chosen: Sequence[GradedRollout]) -> dict[bool, float]:
    """Weights of wrong and of right solutions, such that both count the same together.

    Leaving solutions out until both are equally many, or not balancing at all, was better on one policy's samples and
    worse on another's (docs/log.md, "Outcome reward model, from hidden states alone").
    """
    right = sum(item.correct for item in chosen)
    return {False: len(chosen) / (2 * (len(chosen) - right)), True: len(chosen) / (2 * right)}


def require_both(graded: Sequence[GradedRollout], what: str, option: str) -> None:
    """Refuse solutions that are all right or all wrong."""
    right = sum(item.correct for item in graded)
    if right in (0, len(graded)):
        raise UserError(
            f"all {len(graded):,} sampled solutions of the {what} are {'right' if right else 'wrong'}, so an outcome "
            f"reward model has nothing to learn; raise {option} or orm.temperature, or start from another checkpoint"
        )


def labelled(item: GradedRollout, step_labels: Sequence[float], loss_on: str, weight: float) -> LabelledSolution:
    """A solution with its labels at the ends of its steps, or at each of their tokens."""
    steps = through_answer(item.steps)
    labels = {
        position: label
        for step, label in zip(steps, step_labels, strict=True)
        for position in (range(step.start, step.end) if loss_on == "tokens" else (step.end - 1,))
    }
    return LabelledSolution(
        item.rollout.prompt_ids, item.rollout.completion_ids[: steps[-1].end], labels, item.correct, weight
    )

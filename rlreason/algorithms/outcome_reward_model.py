"""The outcome reward model (Cobbe et al. 2021; Havrilla et al. 2024): p(right | question, steps so far).

K solutions per training question are sampled from a policy and graded; equally many right and wrong ones train a
scalar head on a language model with binary cross-entropy at the end of every step (or at every token), beside the
language model's own loss on the right ones. A prefix is labelled by the outcome of its own solution, or by the share
of right continuations sampled from it (stepwise, GLoRe, Havrilla et al. 2024b). Validation questions then calibrate
the score and its threshold.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlreason.algorithms import Start
from rlreason.algorithms.training import (
    IGNORED,
    Progress,
    Recorder,
    UpdateReport,
    last_complete,
    lora,
    trainer_arguments,
    update_report,
)
from rlreason.config import ModelConfig, OutcomeModelConfig
from rlreason.errors import UserError
from rlreason.evaluation.judging import fit_calibration
from rlreason.rewards.calibration import Calibration
from rlreason.steps import through_answer
from rlreason.types import GradedRollout, Problem

if TYPE_CHECKING:
    import torch

    from rlreason.models.scalar_head import ScalarHeadOutput


@dataclass(frozen=True)
class LabelledSolution:
    """A training sequence of the outcome reward model.

    Args:
        prompt_ids: The question.
        completion_ids: The solution through its final answer.
        labels: p(right) where there is loss, by index into the completion.
        right: Whether its final answer is right.
        weight: Of the judgement's loss.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    labels: Mapping[int, float]
    right: bool
    weight: float


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
    seed: int,
    stages: OutcomeStages,
) -> tuple[Path, Calibration]:
    """Train and calibrate a model on solutions of `start.init`.

    Raises:
        UserError: All solutions are right, or all are wrong, so that there is nothing to tell apart.
    """
    sampled = stages.solutions("training", start.init, training, config.samples, config.temperature)
    chosen = balanced([item for item in sampled if item.steps], config.balance, seed)
    if config.label == "rollout":
        prefixes = [(item, step.end) for item in chosen for step in through_answer(item.steps)[:-1]]
        shares = iter(stages.continuations(start.init, prefixes, config.continuations, config.temperature))
        labels = [[next(shares) for _ in through_answer(item.steps)[:-1]] + [float(item.correct)] for item in chosen]
    else:
        labels = [[float(item.correct)] * len(through_answer(item.steps)) for item in chosen]
    weights = outcome_weights(chosen, config.balance)
    solutions = [
        labelled(item, values, config.loss_on, weights[item.correct])
        for item, values in zip(chosen, labels, strict=True)
    ]
    model = stages.update({"init": start.init, "base": start.base}[config.start], solutions, config)

    held_out = stages.solutions("validation", start.init, validation, config.validation_samples, config.temperature)
    held_out = [item for item in held_out if item.steps]
    require_both(held_out, "validation questions", "orm.validation_samples")
    final = [scores[-1] for scores in stages.logits(model, held_out)]
    return model, fit_calibration(final, [item.correct for item in held_out])


def balanced(graded: Sequence[GradedRollout], balance: str, seed: int) -> list[GradedRollout]:
    """Equally many right and wrong solutions, of each question or of all together; every one with other balances.

    Raises:
        UserError: Nothing is left, or all solutions have the same outcome.
    """
    require_both(graded, "training questions", "orm.samples")
    if balance not in ("question", "all"):
        return list(graded)
    groups: dict[str, dict[bool, list[GradedRollout]]] = defaultdict(lambda: {True: [], False: []})
    for item in graded:
        groups[item.problem.id if balance == "question" else ""][item.correct].append(item)
    rng = random.Random(f"{seed}/balance")
    chosen: list[GradedRollout] = []
    for outcomes in groups.values():
        count = min(map(len, outcomes.values()))
        for items in outcomes.values():
            chosen += rng.sample(items, count)
    if not chosen:
        raise UserError("no question has both right and wrong solutions; raise orm.samples, or use orm.balance=all")
    return chosen


def outcome_weights(chosen: Sequence[GradedRollout], balance: str) -> dict[bool, float]:
    """Weights of wrong and of right solutions: 1, or with "weight" such that both count the same together."""
    right = sum(item.correct for item in chosen)
    if balance != "weight":
        return {False: 1.0, True: 1.0}
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


def outcome_loss(
    output: ScalarHeadOutput,
    labels: torch.Tensor,
    weights: torch.Tensor,
    learned: torch.Tensor,
    language_loss: float,
) -> torch.Tensor:
    """Binary cross-entropy, averaged over each solution's labelled tokens, then, weighted, over solutions.

    Where the head reads the likelihood, `language_loss` times the language model's loss per token of the right
    solutions is added (the joint objective of Cobbe et al. 2021), so that likelihood goes on telling right from wrong.

    Args:
        output: Logits and log-probabilities; shape `(batch, time)`.
        labels: p(right), `IGNORED` where there is no loss; shape `(batch, time)`.
        weights: Of each solution; shape `(batch,)`.
        learned: Which tokens carry the language model's loss; shape `(batch, time)`.
        language_loss: Its weight.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    inside = labels != IGNORED
    each = binary_cross_entropy_with_logits(output.logits, labels.clamp(min=0.0), reduction="none") * inside
    loss = (weights * each.sum(1) / inside.sum(1)).mean()
    if output.logprobs is None:
        return loss
    likelihood = (output.logprobs * learned).sum(1) / learned.sum(1).clamp(min=1)
    return loss - language_loss * likelihood.mean()


def outcome_update(
    start: Path,
    solutions: Sequence[LabelledSolution],
    config: OutcomeModelConfig,
    model_config: ModelConfig,
    output: Path,
    scratch: Path,
    seed: int,
    checkpoint_seconds: float,
    progress: Progress,
) -> UpdateReport:
    """Train a scalar head and its language model on `solutions`; arguments as for `supervised_update`."""
    from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

    from rlreason.models.loading import free_memory, load_tokenizer
    from rlreason.models.scalar_head import new_scalar_head_model

    class OutcomeTrainer(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            output = model(inputs["input_ids"], inputs["completion_starts"])
            loss = outcome_loss(output, inputs["labels"], inputs["weights"], inputs["learned"], config.language_loss)
            return (loss, output) if return_outputs else loss

        def create_optimizer(self, *_: Any) -> Any:  # Trainer takes none from outside where FSDP splits the model
            self.optimizer: Any = self.optimizer or _optimizer(self.model, config)
            return self.optimizer

    set_seed(seed)
    model = new_scalar_head_model(start, model_config, config.likelihood, lora(model_config, "CAUSAL_LM"))
    arguments = {**trainer_arguments(config, model_config, scratch, seed), "gradient_checkpointing": False}
    trainer = OutcomeTrainer(
        model=model,
        args=TrainingArguments(**arguments, remove_unused_columns=False, label_names=["labels"]),
        train_dataset=_as_dataset(solutions),
        data_collator=_collate,
        callbacks=[Recorder(checkpoint_seconds, progress).callback()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_complete(scratch))
    model.save(output)
    load_tokenizer(start).save_pretrained(output)
    report = update_report(trainer, config, sum(len(item.prompt_ids) + len(item.completion_ids) for item in solutions))
    del trainer, model
    free_memory()  # the engine wants it back
    return report


def _optimizer(model: Any, config: OutcomeModelConfig) -> Any:
    """AdamW with a learning rate of its own for the head, which starts from nothing."""
    import torch

    trunk = [weights for weights in model.language_model.parameters() if weights.requires_grad]
    groups = [
        {"params": trunk, "lr": config.learning_rate},
        {"params": list(model.head.parameters()), "lr": config.head_learning_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def _as_dataset(solutions: Sequence[LabelledSolution]) -> Any:
    from datasets import Dataset

    input_ids: list[Any] = [[*item.prompt_ids, *item.completion_ids] for item in solutions]
    labels = [
        [float(IGNORED)] * len(item.prompt_ids)
        + [float(item.labels.get(position, IGNORED)) for position in range(len(item.completion_ids))]
        for item in solutions
    ]
    return Dataset.from_dict(
        {
            "input_ids": input_ids,
            "labels": labels,
            "completion_starts": [len(item.prompt_ids) for item in solutions],
            "weight": [item.weight for item in solutions],
            "right": [item.right for item in solutions],
            "length": list(map(len, input_ids)),
        }
    )


def _collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pad on the right: ids with 0, which causal attention never reads, labels with `IGNORED`."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"], dtype=torch.float32) for row in rows]
    learned = [
        torch.arange(row["length"]).ge(row["completion_starts"]).logical_and(torch.tensor(row["right"])) for row in rows
    ]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "completion_starts": torch.tensor([row["completion_starts"] for row in rows]),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        "weights": torch.tensor([row["weight"] for row in rows]),
        "learned": pad_sequence(learned, batch_first=True),
    }

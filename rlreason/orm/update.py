"""The update of the outcome reward model: its loss, and the trainer around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.config.sections import ModelConfig, ShardingConfig
from rlreason.distributed import ranks
from rlreason.orm.settings import OutcomeModelConfig
from rlreason.training.common import (
    IGNORED,
    NOT_SPLIT,
    Progress,
    Recorder,
    UpdateReport,
    filler_count,
    for_processes,
    last_complete,
    lora,
    silent,
    trainer_arguments,
    update_report,
)

if TYPE_CHECKING:
    import torch

    from rlreason.models.scalar_head import ScalarHeadOutput

# Of the scalar head, whose few numbers learn well above the language model's rate. Ours; no other value was measured.
HEAD_LEARNING_RATE = 1e-2


@dataclass(frozen=True)
class LabelledSolution:
    """A training sequence of the outcome reward model.

    Args:
        prompt_ids: The question.
        completion_ids: The solution through its final answer.
        labels: p(right) where there is loss, by index into the completion.
        right: Whether its final answer is right.
        weight: The weight of the judgement's loss.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    labels: Mapping[int, float]
    right: bool
    weight: float


def outcome_loss(
    output: ScalarHeadOutput,
    labels: torch.Tensor,
    weights: torch.Tensor,
    learned: torch.Tensor,
    solutions: torch.Tensor | int,
) -> torch.Tensor:
    """Binary cross-entropy, averaged over each solution's labelled tokens, then, weighted, over solutions.

    Where the head reads the likelihood, the language model's loss per token of the right solutions is added (the joint
    objective of Cobbe et al. 2021), so that likelihood goes on telling right from wrong.

    Args:
        output: Logits and log-probabilities; shape `(batch, time)`.
        labels: p(right), `IGNORED` where there is no loss; shape `(batch, time)`.
        weights: Of each solution; shape `(batch,)`.
        learned: Which tokens carry the language model's loss; shape `(batch, time)`.
        solutions: How many the mean is over: those of an optimizer step, of which these may be a part.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    inside = labels != IGNORED
    each = binary_cross_entropy_with_logits(output.logits, labels.clamp(min=0.0), reduction="none") * inside
    loss = (weights * each.sum(1) / inside.sum(1).clamp(min=1)).sum() / solutions
    if output.logprobs is None:
        return loss
    likelihood = (output.logprobs * learned).sum(1) / learned.sum(1).clamp(min=1)
    return loss - likelihood.sum() / solutions


def outcome_update(
    start: Path,
    solutions: Sequence[LabelledSolution],
    config: OutcomeModelConfig,
    model_config: ModelConfig,
    output: Path,
    scratch: Path,
    seed: int,
    checkpoint_seconds: float,
    sharding: ShardingConfig = NOT_SPLIT,
    progress: Progress = silent,
) -> UpdateReport:
    """Train a scalar head and its language model on `solutions`; arguments as for `supervised_update`."""
    from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

    from rlreason.models.loading import free_memory, load_for_training, load_tokenizer
    from rlreason.models.scalar_head import new_scalar_head_model
    from rlreason.models.sharding import apply_sharding

    class OutcomeTrainer(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, num_items_in_batch: Any = None, **_: Any) -> Any:
            output = model(inputs["input_ids"], inputs["completion_starts"])
            labels, weights, learned = (inputs[name] for name in ("step_labels", "weights", "learned"))
            loss = outcome_loss(output, labels, weights, learned, num_items_in_batch)
            return loss * ranks.size()  # gradients are averaged over processes

        def create_optimizer(self, *_: Any) -> Any:  # Trainer takes none from outside where FSDP splits the model
            self.optimizer: Any = getattr(self, "optimizer", None) or _optimizer(self.model, config)
            return self.optimizer

    set_seed(seed)
    language_model = load_for_training(start, model_config, sharding)
    model = new_scalar_head_model(language_model, model_config, config.likelihood, lora(model_config, "CAUSAL_LM"))
    arguments = {**trainer_arguments(config, model_config, scratch, seed, sharding), "gradient_checkpointing": False}
    settings = TrainingArguments(**arguments, remove_unused_columns=False, label_names=["labels"])
    fillers = filler_count(len(solutions), config)
    trainer = for_processes(OutcomeTrainer, config.batch_size, len(solutions), sharding)(
        model=model,
        args=apply_sharding(settings, sharding),
        train_dataset=_as_dataset(solutions, fillers),
        data_collator=_collate,
        callbacks=[Recorder(checkpoint_seconds, progress).callback()],
    )
    trainer.model_accepts_loss_kwargs = True  # `compute_loss` does: it divides by the solutions of the whole step
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_complete(scratch))
    trainer.model.save(output)
    if ranks.rank() == 0:
        load_tokenizer(start).save_pretrained(output)
    report = update_report(trainer, config, sum(len(item.prompt_ids) + len(item.completion_ids) for item in solutions))
    del trainer, model, language_model
    free_memory()  # the engine wants it back
    return report


def _optimizer(model: Any, config: OutcomeModelConfig) -> Any:
    """AdamW with a learning rate of its own for the head, which starts from nothing."""
    import torch

    trunk = [weights for weights in model.language_model.parameters() if weights.requires_grad]
    groups = [
        {"params": trunk, "lr": config.learning_rate},
        {"params": list(model.head.parameters()), "lr": HEAD_LEARNING_RATE},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def _as_dataset(solutions: Sequence[LabelledSolution], fillers: int) -> Any:
    from datasets import Dataset

    input_ids: list[Any] = [[*item.prompt_ids, *item.completion_ids] for item in solutions]
    labels = [
        [float(IGNORED)] * len(item.prompt_ids)
        + [float(item.labels.get(position, IGNORED)) for position in range(len(item.completion_ids))]
        for item in solutions
    ]
    input_ids += [[0, 0]] * fillers
    labels += [[float(IGNORED)] * 2] * fillers
    return Dataset.from_dict(
        {
            "input_ids": input_ids,
            "step_labels": labels,
            "label": [1] * len(solutions) + [IGNORED] * fillers,
            "completion_starts": [len(item.prompt_ids) for item in solutions] + [2] * fillers,
            "weight": [item.weight for item in solutions] + [0.0] * fillers,
            "right": [item.right for item in solutions] + [False] * fillers,
            "length": list(map(len, input_ids)),
        }
    )


def _collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pad on the right: ids with 0, which causal attention never reads, labels with `IGNORED`."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["step_labels"], dtype=torch.float32) for row in rows]
    learned = [
        torch.arange(row["length"]).ge(row["completion_starts"]).logical_and(torch.tensor(row["right"])) for row in rows
    ]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "completion_starts": torch.tensor([row["completion_starts"] for row in rows]),
        "step_labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        "labels": torch.tensor([row["label"] for row in rows]),  # Trainer counts what is learned by them
        "weights": torch.tensor([row["weight"] for row in rows]),
        "learned": pad_sequence(learned, batch_first=True),
    }

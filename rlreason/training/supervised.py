"""The supervised update that SFT, expert iteration and return-conditioned RL share: cross-entropy on completions.

The loss is `-sum(log p(completion token | prompt, earlier tokens)) / number of learned tokens` of the optimizer
step's sequences, by trl.SFTTrainer; prompt tokens and inserted return tags carry no loss. What the prompts of a forward
pass have in common, such as few-shot examples, is computed once (`shared_beginnings.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.config.sections import ModelConfig, ShardingConfig
from rlreason.config.updates import SupervisedConfig
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
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence as token ids; the completion carries loss.

    Args:
        prompt_ids: What is given; empty for plain language modelling.
        completion_ids: What is learned.
        inserted: Spans `(start, end)` of the completion that were put in, not written, and carry no loss.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    inserted: tuple[tuple[int, int], ...] = ()

    def labels(self) -> list[int]:
        """The token ids to learn, `IGNORED` where there is no loss; shape `(prompt + completion,)`."""
        learned = list(self.completion_ids)
        for start, end in self.inserted:
            learned[start:end] = [IGNORED] * (end - start)
        return [IGNORED] * len(self.prompt_ids) + learned


def supervised_update(
    start: Path,
    examples: Sequence[Example],
    config: SupervisedConfig,
    model_config: ModelConfig,
    output: Path,
    scratch: Path,
    seed: int,
    checkpoint_seconds: float,
    snapshots: Sequence[tuple[float, Path]] = (),
    sharding: ShardingConfig = NOT_SPLIT,
    progress: Progress = silent,
) -> UpdateReport:
    """Fine-tune the checkpoint at `start` on `examples` and write the result to `output`, in every process.

    Args:
        start: Folder of the checkpoint to start from, with its tokeniser.
        examples: At least one training sequence.
        config: Learning rate, epochs, batch.
        model_config: LoRA, precision and gradient checkpointing.
        output: Folder for the new checkpoint, in Hugging Face format (LoRA merged).
        scratch: Folder for resumable checkpoints; an interrupted update continues from the last one in it.
        seed: Decides the order of the sequences and the initialisation of adapters.
        checkpoint_seconds: Time between two resumable checkpoints.
        snapshots: Shares of the steps after which checkpoints are kept on the way, and their folders.
        sharding: How processes split the model.
        progress: Called after each optimizer step with (step, total steps, loss).

    Returns:
        Steps, tokens and final loss.
    """
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    from rlreason.models.loading import free_memory, load_for_training, load_tokenizer, save_checkpoint, save_snapshot
    from rlreason.models.sharding import apply_sharding
    from rlreason.training.shared_beginnings import SharedBeginnings
    from rlreason.training.shared_prompts import can_join

    set_seed(seed)
    tokenizer = load_tokenizer(start)
    recorder = Recorder(
        checkpoint_seconds,
        progress,
        snapshots,
        lambda folder, model: save_snapshot(model, tokenizer, folder),
    )
    arguments = SFTConfig(
        **trainer_arguments(config, model_config, scratch, seed, sharding),
        completion_only_loss=False,  # the labels already leave the prompt out
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
    )
    fillers = filler_count(len(examples), config)
    model = load_for_training(start, model_config, sharding)
    trainer = for_processes(SFTTrainer, config.batch_size, len(examples), sharding)(
        model=model,
        args=apply_sharding(arguments, sharding),
        train_dataset=_as_dataset(examples, fillers, tokenizer.pad_token_id),
        processing_class=tokenizer,
        callbacks=[recorder.callback()],
        peft_config=lora(model_config, "CAUSAL_LM"),
    )
    if can_join(model):
        trainer.data_collator = SharedBeginnings(trainer.data_collator)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_complete(scratch))
    save_checkpoint(trainer.model, tokenizer, output)
    report = update_report(
        trainer, config, sum(len(example.prompt_ids) + len(example.completion_ids) for example in examples)
    )
    del trainer, model
    free_memory()  # the engine wants it back
    return report


def _as_dataset(examples: Sequence[Example], fillers: int, padding: int) -> Dataset:
    from datasets import Dataset

    input_ids: list[Any] = [[*example.prompt_ids, *example.completion_ids] for example in examples]
    labels = [example.labels() for example in examples]
    input_ids += [[padding, padding]] * fillers
    labels += [[IGNORED, IGNORED]] * fillers
    return Dataset.from_dict({"input_ids": input_ids, "labels": labels, "length": list(map(len, input_ids))})

"""The supervised update that SFT and expert iteration share: cross-entropy on completions, by trl.SFTTrainer.

The loss is `-sum(log p(completion token | prompt, earlier tokens)) / number of completion tokens` of the optimizer
step's sequences; prompt tokens carry no loss. Sequences are grouped by length, so that little padding is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.config import ModelConfig, SupervisedConfig

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTConfig

IGNORED = -100
COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence as token ids; only the completion carries loss.

    An empty prompt makes it plain language modelling.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


@dataclass(frozen=True)
class UpdateReport:
    """What an update did: optimizer steps, tokens read (prompt and completion, all epochs), and the mean loss of
    the last tenth of its steps.
    """

    steps: int
    tokens: int
    loss: float


def supervised_update(
    start: Path,
    examples: Sequence[Example],
    config: SupervisedConfig,
    model_config: ModelConfig,
    output: Path,
    scratch: Path,
    seed: int,
    checkpoint_seconds: float,
    progress: Callable[[int, int, float], None],
) -> UpdateReport:
    """Fine-tune the checkpoint at `start` on `examples` and write the result to `output`.

    Args:
        start: Folder of the checkpoint to start from, with its tokeniser.
        examples: At least one training sequence.
        config: Learning rate, epochs, batch.
        model_config: LoRA, precision and gradient checkpointing.
        output: Folder for the new checkpoint, in Hugging Face format (LoRA merged).
        scratch: Folder for resumable checkpoints; an interrupted update continues from the last one in it.
        seed: Decides the order of the sequences and the initialisation of adapters.
        checkpoint_seconds: Time between two resumable checkpoints.
        progress: Called after each optimizer step with (step, total steps, loss).

    Returns:
        Steps, tokens and final loss.
    """
    from transformers import PrinterCallback, set_seed
    from trl import SFTTrainer

    from rlreason.models.loading import free_memory, load_for_training, load_tokenizer, save_checkpoint

    set_seed(seed)
    tokenizer = load_tokenizer(start)
    model = load_for_training(start, model_config)
    recorder = _Recorder(checkpoint_seconds, progress)
    trainer = SFTTrainer(
        model=model,
        args=_trainer_arguments(config, model_config, scratch, seed),
        train_dataset=_as_dataset(examples),
        processing_class=tokenizer,
        callbacks=[recorder.callback()],
        peft_config=_lora(model_config),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_last_complete(scratch))
    save_checkpoint(trainer.model, tokenizer, output)
    tokens = round(config.epochs * sum(len(example.prompt_ids) + len(example.completion_ids) for example in examples))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps = trainer.state.global_step
    del trainer, model
    free_memory()  # the engine wants it back
    tail = losses[-max(1, len(losses) // 10) :]
    return UpdateReport(steps, tokens, sum(tail) / len(tail))


def _as_dataset(examples: Sequence[Example]) -> Dataset:
    from datasets import Dataset

    input_ids = [[*example.prompt_ids, *example.completion_ids] for example in examples]
    labels = [[IGNORED] * len(example.prompt_ids) + list(example.completion_ids) for example in examples]
    return Dataset.from_dict({"input_ids": input_ids, "labels": labels, "length": list(map(len, input_ids))})


def _trainer_arguments(config: SupervisedConfig, model_config: ModelConfig, scratch: Path, seed: int) -> SFTConfig:
    import torch
    from trl import SFTConfig

    from rlreason.models.loading import bfloat16_is_fast

    return SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.batch_size // config.micro_batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule if config.schedule != "constant" else "constant_with_warmup",
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=bfloat16_is_fast(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=model_config.gradient_checkpointing,
        completion_only_loss=False,  # the labels already leave the prompt out
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        remove_unused_columns=True,
        logging_steps=1,
        save_strategy="no",
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


def _lora(model_config: ModelConfig) -> Any:
    if model_config.lora_rank == 0:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=model_config.lora_rank,
        lora_alpha=model_config.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _last_complete(scratch: Path) -> str | None:
    """The newest resumable checkpoint that was written to its end, if there is one."""
    complete = [marker.parent for marker in scratch.glob(f"checkpoint-*/{COMPLETE}")]
    return str(max(complete, key=lambda folder: int(folder.name.split("-")[1]))) if complete else None


class _Recorder:
    """Saves by the clock instead of by steps, marks finished saves, and reports progress."""

    def __init__(self, checkpoint_seconds: float, progress: Callable[[int, int, float], None]) -> None:
        self.checkpoint_seconds = checkpoint_seconds
        self.progress = progress
        self.last_save = time.monotonic()

    def callback(self) -> Any:
        from transformers import TrainerCallback

        recorder = self

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                elapsed = time.monotonic() - recorder.last_save
                unfinished = state.global_step < state.max_steps
                control.should_save = unfinished and elapsed >= recorder.checkpoint_seconds

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()
                recorder.last_save = time.monotonic()

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if logs and "loss" in logs:
                    recorder.progress(state.global_step, state.max_steps, float(logs["loss"]))

        return Callback()

"""What every update by a transformers Trainer shares: its arguments, resuming, adapters, progress."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.config.sections import ModelConfig, ShardingConfig
from rlreason.config.updates import OnPolicyConfig, SupervisedConfig
from rlreason.distributed import ranks
from rlreason.distributed.shares import micro_batch
from rlreason.errors import UserError
from rlreason.run.files import sync, write_atomically

IGNORED = -100
COMPLETE = "complete"
ORDER = "order.json"  # in a resumable checkpoint within an epoch: the rows of that epoch, as they were drawn
LARGEST_SHARE = 0.05  # of the time of training that may go into resumable checkpoints
NOT_SPLIT = ShardingConfig(name="none", cpu_offload=False)

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class OnlineSettings:
    """What on-policy training gets from the run.

    Args:
        scratch: Folder of resumable checkpoints.
        model: LoRA, precision and gradient checkpointing.
        max_completion_tokens: Limit of a completion.
        checkpoint_seconds: Time between two resumable checkpoints.
        adapters_alone: Whether the engine gets adapters alone, and not all weights with them merged.
        sharding: How processes split the models.
    """

    scratch: Path
    model: ModelConfig
    max_completion_tokens: int
    checkpoint_seconds: float
    adapters_alone: bool = False
    sharding: ShardingConfig = NOT_SPLIT


@dataclass(frozen=True)
class UpdateReport:
    """What an update did: optimizer steps, tokens read (prompt and completion, all epochs), the mean loss of its last
    steps, and why it ended early, if it did.
    """

    steps: int
    tokens: int
    loss: float
    ending: str = ""


def update_report(trainer: Any, config: SupervisedConfig, tokens: int) -> UpdateReport:
    """The report of a finished trainer that read `tokens` tokens per epoch."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tail = losses[-max(1, len(losses) // 10) :]
    return UpdateReport(trainer.state.global_step, round(config.epochs * tokens), sum(tail) / len(tail))


def trainer_arguments(
    config: SupervisedConfig, model_config: ModelConfig, scratch: Path, seed: int, sharding: ShardingConfig
) -> dict[str, Any]:
    """Arguments of `transformers.TrainingArguments` that follow from the configuration of a supervised update.

    Sequences are grouped by the dataset's column `length`, so that little padding is computed.
    """
    return {
        **common_arguments(config, config.batch_size, model_config, scratch, seed, sharding),
        "num_train_epochs": config.epochs,
        "gradient_accumulation_steps": accumulation(config.batch_size, config.micro_batch_size),
        "train_sampling_strategy": "group_by_length",
        "length_column_name": "length",
        "logging_steps": 1,
    }


def for_processes(trainer: type, batch_size: int, rows: int, sharding: ShardingConfig) -> type:
    """A trainer class whose processes see in each optimizer step the sequences that one process would.

    Args:
        trainer: A class of transformers' Trainer.
        batch_size: Sequences per optimizer step, over all processes.
        rows: Rows of the dataset that are to be learned; those after them only fill the last micro-batches.
        sharding: How the model must turn out to be split over the processes.
    """
    from transformers.trainer_pt_utils import LengthGroupedSampler

    from rlreason.models.sharding import assert_sharded
    from rlreason.models.unread import read_when_split

    class Order(LengthGroupedSampler):  # type: ignore[misc]
        rows: Sequence[int]
        begun: Sequence[int] | None
        fillers: Sequence[int]

        def __iter__(self) -> Iterator[int]:
            self.rows, self.begun = ranks.shared(self.begun or list(super().__iter__())), None
            return iter([*self.rows, *self.fillers])

    class ForProcesses(trainer):  # type: ignore[misc, valid-type]
        def train(self, resume_from_checkpoint: str | None = None, **further: Any) -> Any:
            self.resumed = resume_from_checkpoint
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **further)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            lengths = self.train_dataset[self.args.length_column_name]
            self.order = Order(batch_size, lengths=lengths[:rows])
            self.order.fillers = range(rows, len(lengths))
            # Trainer draws the order of an epoch before it restores the random state of a checkpoint in that epoch, so
            # that from the second epoch on it would be another one.
            stored = Path(self.resumed or "") / ORDER
            self.order.begun = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else None
            return self.order

        def _save_checkpoint(self, *arguments: Any) -> None:
            super()._save_checkpoint(*arguments)
            if ranks.rank() == 0 and self.state.epoch % 1:  # at its end the next one is drawn as ever
                folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
                write_atomically(folder / ORDER, json.dumps(self.order.rows))

        def _prepare_for_training(self, *arguments: Any) -> Any:
            with read_when_split(self.accelerator):
                prepared = super()._prepare_for_training(*arguments)
            assert_sharded(self.model_wrapped, sharding)
            return prepared

    return ForProcesses


def filler_count(rows: int, config: SupervisedConfig) -> int:
    """How many rows without loss let every process have as many full micro-batches as the others; 0 for one process."""
    together = micro_batch(config.batch_size, config.micro_batch_size, ranks.size()) * ranks.size()
    return -rows % together if ranks.size() > 1 else 0


def accumulation(batch_size: int, largest: int) -> int:
    """Forward passes of each process per optimizer step."""
    return batch_size // (micro_batch(batch_size, largest, ranks.size()) * ranks.size())


def common_arguments(
    config: SupervisedConfig | OnPolicyConfig,
    batch_size: int,
    model_config: ModelConfig,
    scratch: Path,
    seed: int,
    sharding: ShardingConfig,
) -> dict[str, Any]:
    """Arguments of `transformers.TrainingArguments` that every trainer shares; saving is left to `Recorder`.

    Args:
        config: The update's settings.
        batch_size: Sequences per optimizer step, over all processes.
        model_config: Precision and gradient checkpointing.
        scratch: Folder of resumable checkpoints.
        seed: The seed of the order of the sequences.
        sharding: How the model is split over the processes; `apply_sharding` settles the rest.
    """
    import torch

    from rlreason.models.loading import bfloat16_is_fast
    from rlreason.models.sharding import sharding_arguments

    return {
        "output_dir": str(scratch),
        "per_device_train_batch_size": micro_batch(batch_size, config.micro_batch_size, ranks.size()),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.schedule if config.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": bfloat16_is_fast(),
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": model_config.gradient_checkpointing,
        "save_strategy": "no",
        "save_total_limit": 1,
        "report_to": "none",
        "logging_nan_inf_filter": False,  # which would log a loss that is no number as 0
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
        **sharding_arguments(sharding),
    }


def lora(model_config: ModelConfig, task_type: str) -> Any:
    """The adapters that the configuration asks for; None when all weights are trained."""
    if model_config.lora_rank == 0:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=model_config.lora_rank,
        lora_alpha=model_config.lora_alpha,
        target_modules="all-linear",
        task_type=task_type,
    )


def last_complete(scratch: Path) -> str | None:
    """The newest resumable checkpoint that was written to its end and still has all of it, if there is one."""
    complete = [marker.parent for marker in scratch.glob(f"checkpoint-*/{COMPLETE}") if _still_there(marker)]
    return str(max(complete, key=lambda folder: int(folder.name.split("-")[1]))) if complete else None


def _mark_complete(folder: Path) -> None:
    """Put a resumable checkpoint on the disk, and beside it the size of each of its files."""
    sync(folder)
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    write_atomically(folder / COMPLETE, json.dumps(sizes))


def _still_there(marker: Path) -> bool:
    try:
        sizes = json.loads(marker.read_text(encoding="utf-8"))
        return all((marker.parent / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def silent(step: int, steps: int, loss: float) -> None:
    """Progress that nobody sees."""


def refuse_broken_step(logs: Mapping[str, float], step: int, steps: int) -> None:
    """Let no training go on, and none of its weights be stored, once an optimizer step has spoilt them.

    Raises:
        UserError: Its loss or the norm of its gradients is no number.
    """
    for name, what in (("loss", "loss"), ("grad_norm", "norm of the gradients")):
        if not math.isfinite(logs.get(name, 0.0)):
            raise UserError(
                f"training broke down: the {what} of optimizer step {step} of {steps} is {logs[name]}, and no weights "
                "were stored after it; the same command tries again from before it; if that does not help, lower the "
                "learning rate"
            )


class Recorder:
    """Saves by the clock instead of by steps, marks finished saves, reports progress, and takes snapshots on the way.

    Args:
        checkpoint_seconds: Time between two resumable checkpoints; more where writing one takes more than
            `LARGEST_SHARE` of it. 0: whenever one can be taken.
        progress: Called after each optimizer step with (step, total steps, loss).
        snapshots: Shares of the steps after which the model is kept, and where.
        snapshot: Keeps the model of that moment; called as `snapshot(folder, model)`.
        save_every: Steps between two moments at which a resumable checkpoint can be taken.
    """

    def __init__(
        self,
        checkpoint_seconds: float,
        progress: Progress,
        snapshots: Sequence[tuple[float, Path]] = (),
        snapshot: Callable[[Path, Any], None] = lambda folder, model: None,
        save_every: int = 1,
    ) -> None:
        self.checkpoint_seconds = checkpoint_seconds
        self.progress = progress
        self.snapshots = snapshots
        self.snapshot = snapshot
        self.save_every = save_every
        self.last_save = time.monotonic()
        self.began_save = self.last_save
        self.seconds_of_save = 0.0

    @property
    def is_due(self) -> bool:
        """Whether so much time has gone by since the last resumable checkpoint that the next one is worth its own."""
        if self.checkpoint_seconds == 0:
            return True
        least = max(self.checkpoint_seconds, self.seconds_of_save / LARGEST_SHARE)
        return time.monotonic() - self.last_save >= least

    def callback(self) -> Any:
        """This recorder as a `transformers.TrainerCallback`."""
        from transformers import TrainerCallback

        recorder = self

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
                for share, folder in recorder.snapshots:
                    if state.global_step == max(1, round(share * state.max_steps)):
                        recorder.snapshot(folder, model)
                possible = state.global_step < state.max_steps and state.global_step % recorder.save_every == 0
                control.should_save = possible and ranks.shared(recorder.is_due)
                recorder.began_save = time.monotonic()

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                ranks.wait()
                if ranks.rank() == 0:
                    _mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")
                recorder.last_save = time.monotonic()
                recorder.seconds_of_save = recorder.last_save - recorder.began_save

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if logs and "loss" in logs:
                    refuse_broken_step(logs, state.global_step, state.max_steps)
                    recorder.progress(state.global_step, state.max_steps, float(logs["loss"]))

        return Callback()

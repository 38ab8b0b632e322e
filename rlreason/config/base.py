"""The parts that the sections of the configuration share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlreason.errors import UserError


def documented(description: str, **keywords: Any) -> Any:
    """A dataclass field with the description that `--help` prints."""
    return field(metadata={"help": description}, **keywords)


def require(condition: bool, message: str) -> None:
    """Raise a UserError with `message` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a UserError unless `value` is among `choices`."""
    require(value in choices, f"{key}={value!r} is unknown; choose from: {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """One supervised update: cross-entropy on completions, through trl.SFTTrainer."""

    learning_rate: float = documented("peak learning rate of AdamW")
    epochs: float = documented("passes over the solutions")
    batch_size: int = documented("sequences per optimizer step")
    micro_batch_size: int = documented("sequences per forward pass; must divide batch_size")
    warmup_ratio: float = documented("share of the steps in which the learning rate rises from 0")
    schedule: str = documented("learning rate after the warm-up: cosine, linear or constant")
    weight_decay: float = documented("AdamW weight decay")
    max_grad_norm: float = documented("gradient norm above which gradients are scaled down")

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning_rate={self.learning_rate} must be above 0")
        require(self.epochs > 0, f"epochs={self.epochs} must be above 0")
        require(self.batch_size >= 1, f"batch_size={self.batch_size} must be at least 1")
        require(
            self.micro_batch_size >= 1 and self.batch_size % self.micro_batch_size == 0,
            f"micro_batch_size={self.micro_batch_size} must divide batch_size={self.batch_size}",
        )
        require(0 <= self.warmup_ratio < 1, f"warmup_ratio={self.warmup_ratio} must be in [0, 1)")
        one_of("schedule", self.schedule, ("cosine", "linear", "constant"))
        require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} must not be negative")
        require(self.max_grad_norm > 0, f"max_grad_norm={self.max_grad_norm} must be above 0")

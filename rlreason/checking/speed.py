"""How fast supervised training is: optimizer steps on random tokens, the first ones left out."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.distributed import ranks
from rlreason.models.resolve import resolve
from rlreason.planning.flops import training_flops_per_token, utilisation
from rlreason.quiet import quiet_libraries
from rlreason.run import peaks

WARM_UP = 2  # optimizer steps that are not counted


@dataclass(frozen=True)
class TrainingSpeed:
    """What a few optimizer steps took.

    Args:
        tokens_per_second: Over all processes together.
        step_seconds: Median of an optimizer step.
        mfu: `mfu`, `flops_per_token` and `peak` as `utilisation` gives them.
        peak_bytes: The most that was reserved on the GPU of this process, or that this process held in main memory.
        parameters: Of the model.
    """

    tokens_per_second: float
    step_seconds: float
    mfu: dict[str, Any]
    peak_bytes: float
    parameters: int


def training_speed(config: ExperimentConfig, steps: int, length: int) -> TrainingSpeed:
    """Time supervised training as the section `algo` describes it, in every process that trains.

    Args:
        config: The experiment; its algorithm is `sft`.
        steps: Optimizer steps that count.
        length: Tokens of each sequence.
    """
    quiet_libraries()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from rlreason.training.supervised import Example, supervised_update

    folder = resolve(config.model).folder
    shape = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        parameters = sum(weights.numel() for weights in AutoModelForCausalLM.from_config(shape).parameters())
    algo = replace(config.algo, epochs=1)
    draws = torch.Generator().manual_seed(0)
    count = algo.batch_size * (steps + WARM_UP)
    ids = torch.randint(0, shape.vocab_size, (count, length), generator=draws).tolist()
    ends: list[float] = []
    cuda = torch.cuda.is_available()
    peaks.take()
    with tempfile.TemporaryDirectory() as scratch:
        supervised_update(
            folder,
            [Example((), tuple(row)) for row in ids],
            algo,
            config.model,
            Path(scratch) / "output",
            Path(scratch) / "scratch",
            0,
            1e9,
            (),
            config.sharding,
            progress=lambda *_: ends.append(time.perf_counter()),
        )
    pairs = zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)
    seconds = statistics.median(after - before for before, after in pairs)
    speed = algo.batch_size * length / seconds
    head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    flops = training_flops_per_token(
        parameters, shape.num_hidden_layers, shape.num_attention_heads * head, length, config.model.lora_rank > 0
    )
    devices = [torch.cuda.get_device_name()] * ranks.size() if cuda else []
    held = float(torch.cuda.max_memory_reserved()) if cuda else peaks.take()["host"]
    return TrainingSpeed(speed, seconds, utilisation(speed, flops, devices), held, parameters)

"""Planned against measured peak memory of supervised training, by `python -m bench.memory`.

Each setting builds a random Llama, saves it, and runs two optimizer steps of the project's own supervised update in a
process of its own. Compared is what torch's allocator holds at its highest, reported by torch's profiler: the figure
that `torch.cuda.max_memory_allocated` gives on a GPU, and the same in every repetition. Resident memory above what the
process held before the model was loaded stands beside it; there the C library is told to give memory back at once, and
pages that were reserved and never written do not count.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

MIB = 2**20
TOKENIZER = Path(__file__).parent.parent / "rlreason" / "models" / "weights" / "tiny"
OPTIMIZER_STEPS = 2


@dataclass(frozen=True)
class Setting:
    """A model and how it is trained; names as in `ModelShape` and `TrainingStep`."""

    name: str
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    inner: int
    vocabulary: int
    sequences: int
    length: int
    accumulation: int = 1
    rank: int = 0
    checkpointing: bool = False
    tied: bool = False


Sizes = dict[str, Any]
SMALL: Sizes = {"hidden": 256, "layers": 4, "heads": 4, "key_value_heads": 4, "inner": 768, "vocabulary": 2048}
MEDIUM: Sizes = {
    "hidden": 512,
    "layers": 8,
    "heads": 8,
    "key_value_heads": 4,
    "inner": 1408,
    "vocabulary": 8192,
}
# The shape of SmolLM2-135M, at a length that a shared core can afford.
LARGE: Sizes = {
    "hidden": 576,
    "layers": 30,
    "heads": 9,
    "key_value_heads": 3,
    "inner": 1536,
    "vocabulary": 49152,
}
SETTINGS = (
    Setting("small, all weights", **SMALL, sequences=8, length=128),
    Setting("small, accumulated", **SMALL, sequences=8, length=128, accumulation=2),
    Setting("small, checkpointing", **SMALL, sequences=8, length=128, checkpointing=True),
    Setting("small, LoRA", **SMALL, sequences=8, length=128, rank=16),
    Setting("small, LoRA, checkpointing", **SMALL, sequences=16, length=64, rank=16, checkpointing=True),
    Setting("small, one sequence", **SMALL, sequences=1, length=64),
    Setting("medium, all weights", **MEDIUM, sequences=4, length=256),
    Setting("medium, checkpointing", **MEDIUM, sequences=8, length=256, accumulation=2, checkpointing=True),
    Setting("medium, LoRA", **MEDIUM, sequences=8, length=128, rank=16),
    Setting("135M, all weights", **LARGE, sequences=2, length=128, tied=True),
    Setting("135M, checkpointing", **LARGE, sequences=4, length=128, accumulation=2, checkpointing=True, tied=True),
    Setting("135M, LoRA", **LARGE, sequences=2, length=256, rank=8, tied=True),
)


def planned(setting: Setting) -> dict[str, float]:
    """Bytes by kind, as the plan has them for this machine."""
    from rlreason.planning.hardware import this_machine
    from rlreason.planning.memory import TrainingStep, training_peak
    from rlreason.planning.shape import ModelShape

    shape = ModelShape(
        setting.hidden,
        setting.layers,
        setting.heads,
        setting.key_value_heads,
        setting.inner,
        setting.vocabulary,
        setting.tied,
    )
    step = TrainingStep(
        setting.sequences,
        setting.length,
        setting.length // 2,
        setting.accumulation,
        setting.rank,
        setting.checkpointing,
        mixed=this_machine().fast_bfloat16,
    )
    return training_peak(shape, step)


def measured(setting: Setting, folder: Path) -> dict[str, float]:
    """Peak bytes of torch's allocator, and of resident memory, in this process; the model is made in `folder`."""
    # Loading threads are not seen by the profiler, which looks at one thread.
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    from torch.profiler import ProfilerActivity, profile

    from rlreason.run import peaks

    work = update(setting, folder)
    gc.collect()
    before = resident()
    peaks.take()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    most = peaks.take()["host"] - before
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return {"allocator": float(highest), "resident": most}


def update(setting: Setting, folder: Path) -> Any:
    """A function that runs the supervised update of a setting on a random model, saved in bfloat16 as most are."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rlreason.algorithms.sft import SFTConfig
    from rlreason.config.sections import ModelConfig
    from rlreason.quiet import quiet_libraries
    from rlreason.training.supervised import Example, supervised_update

    quiet_libraries()
    config = LlamaConfig(
        hidden_size=setting.hidden,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        num_key_value_heads=setting.key_value_heads,
        intermediate_size=setting.inner,
        vocab_size=setting.vocabulary,
        tie_word_embeddings=setting.tied,
        max_position_embeddings=2048,
    )
    model = folder / "model"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, model)
    training = SFTConfig(
        name="sft",
        evaluations=1,
        learning_rate=1e-5,
        epochs=1,
        batch_size=setting.sequences * setting.accumulation,
        micro_batch_size=setting.sequences,
        warmup_ratio=0.0,
        schedule="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
    )
    held = ModelConfig(
        name="bench",
        path=str(model),
        revision=None,
        kind=None,
        thinking=None,
        parameters=None,
        shape=None,
        licence=None,
        dtype="auto",
        learning_rate=1e-5,
        orm_learning_rate=1e-5,
        rl_learning_rate=1e-5,
        micro_batch_size=setting.sequences,
        gradient_checkpointing=setting.checkpointing,
        lora_rank=setting.rank,
        lora_alpha=32.0,
    )
    half = setting.length // 2
    count = training.batch_size * OPTIMIZER_STEPS  # of sequences that have no beginning in common
    examples = [Example((5 + n, *[5] * (half - 1)), (7,) * (setting.length - half)) for n in range(count)]
    return lambda: supervised_update(model, examples, training, held, folder / "trained", folder / "scratch", 0, 1e9)


def resident() -> float:
    """Resident memory of this process, in bytes."""
    import psutil

    return float(psutil.Process().memory_info().rss)


def in_own_process(setting: Setting) -> dict[str, float]:
    """`measured` in a process of its own, in which a very small model was trained before, so that all is imported."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "bench.memory", json.dumps(asdict(setting))]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def one(setting: Setting) -> None:
    warm = Setting("warm", 32, 1, 2, 2, 64, 512, 2, 16, rank=setting.rank, checkpointing=setting.checkpointing)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        update(warm, Path(first))()
        found = measured(setting, Path(second))
    print(json.dumps(found))


def main() -> None:
    if len(sys.argv) > 1:
        one(Setting(**json.loads(sys.argv[1])))
        return
    table = Table(title="peak memory of supervised training, MiB", title_justify="left")
    for heading in ("setting", "batch", "planned", "allocator", "plan over it", "resident", "plan over it"):
        table.add_column(heading, justify="left" if heading == "setting" else "right")
    for setting in SETTINGS:
        found = in_own_process(setting)
        total = sum(planned(setting).values())
        table.add_row(
            setting.name,
            f"{setting.accumulation} x {setting.sequences} x {setting.length}",
            f"{total / MIB:,.0f}",
            f"{found['allocator'] / MIB:,.0f}",
            f"{total / found['allocator']:.3f}",
            f"{found['resident'] / MIB:,.0f}",
            f"{total / found['resident']:.3f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

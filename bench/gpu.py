"""`python -m bench.gpu MEASUREMENT [OVERRIDE ...]`: one measurement of docs/gpu.md, on whatever this machine has.

Writes one JSON file into `runs/measurements/` (or `--to FOLDER`), which `rlreason task=report` shows.

    throughput  completion tokens per second of the engine, with engine.replicas of them
    training    tokens per second of supervised training, seconds per optimizer step, MFU
    memory      peak memory of the same
    sync        seconds from the trainer's weights to the engine's
    round       where the time of a round of expert iteration goes
    batch       where the time of a batch of PPO goes

Overrides are those of the command line. `training` and `memory` train all processes together that `torchrun` starts.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.load import Load, compose
from bench.rows import finished
from rlreason.checking.speed import training_speed
from rlreason.distributed import ranks
from rlreason.engines.shared_memory import folder_in_memory
from rlreason.engines.start import takes_adapters
from rlreason.quiet import quiet_libraries
from rlreason.run.folder import environment, write_atomically
from rlreason.training.common import lora

KINDS = ("start", "sample", "grade", "reward", "train", "sync", "evaluate")

Measured = tuple[str, float, str, dict[str, Any], dict[str, Any]]  # what, value, unit, further values, settings


def throughput(options: argparse.Namespace) -> Measured:
    """Every repeat asks other questions, so that no prompt but a shared beginning is in the engine's cache."""
    load = Load(options.questions * (options.repeats + 1), options.samples, *options.overrides)
    parts = [load.problems[start :: options.repeats + 1] for start in range(options.repeats + 1)]
    speeds = [load.engine_speed(load.engine, part) for part in parts][1:]
    engine = load.config.engine
    settings = {
        "model": load.config.model.name,
        "data": load.config.data.name,
        "engine": type(load.engine).__name__,
        "replicas": engine.replicas,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "requests": options.questions * options.samples,
        "max_completion_tokens": load.config.data.max_completion_tokens,
    }
    load.engine.release()
    return "generation", statistics.median(speeds), "completion tokens/s", {"all": speeds}, settings


def training(options: argparse.Namespace) -> Measured:
    """Supervised steps on random tokens, all sequences of one length."""
    figures, settings = train(options)
    value = figures.pop("tokens_per_second")
    return "training", value, "tokens/s", figures, settings


def memory(options: argparse.Namespace) -> Measured:
    """The same training, for its peak memory."""
    figures, settings = train(options)
    where = figures["memory_of"]
    value = figures.pop("peak_memory_gib")
    return f"peak memory of training ({where})", value, "GiB", figures, settings


def train(options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and settings of a few optimizer steps through `supervised_update`."""
    import torch

    config = compose("algo=sft", "algo.schedule=constant", *options.overrides)
    found = training_speed(config, options.steps, options.length)
    cuda = torch.cuda.is_available()
    figures = {
        "tokens_per_second": found.tokens_per_second,
        "step_seconds": found.step_seconds,
        **found.mfu,
        "peak_memory_gib": found.peak_bytes / 2**30,
        "memory_of": "GPU of process 0, reserved" if cuda else "process 0, libraries included",
    }
    settings = {
        "model": config.model.name,
        "parameters": found.parameters,
        "processes": ranks.size(),
        "trained_as": trained_together(config.sharding.name),
        "batch_size": config.algo.batch_size,
        "micro_batch_size": config.algo.micro_batch_size,
        "length": options.length,
        "lora_rank": config.model.lora_rank,
        "gradient_checkpointing": config.model.gradient_checkpointing,
        "steps": options.steps,
    }
    return figures, settings


def trained_together(sharding: str) -> str:
    """How accelerate says the processes trained; a run that was not split as it was asked to be is no measurement."""
    from accelerate import PartialState

    found = PartialState().distributed_type.value
    wanted = {"none": found, "fsdp2": "FSDP"}[sharding]
    if found != wanted:
        raise RuntimeError(f"sharding={sharding} was asked for, and the processes trained as {found}")
    return str(found)


def sync(options: argparse.Namespace) -> Measured:
    """From a trainer's model, on its device, to an engine that holds the weights before; two folders, taken in turns.

    The way is that of on-policy training: by main memory where it has room, adapters alone where the engine takes them.
    """
    import torch

    from rlreason.models.loading import load_for_training, save_for_engine

    load = Load(1, 1, *options.overrides)
    config, base = load.config, load.model.folder
    alone = config.model.lora_rank > 0 and takes_adapters(config.engine)
    model = load_for_training(base, config.model, config.sharding)
    parameters = sum(weights.numel() for weights in model.parameters())
    if config.model.lora_rank > 0:
        from peft import get_peft_model

        model = get_peft_model(model, lora(config.model, "CAUSAL_LM"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    saving, loading = [], []
    with tempfile.TemporaryDirectory() as scratch, folder_in_memory(4.0 * parameters, Path(scratch) / "sync") as folder:
        for repeat in range(options.repeats + 1):
            target = folder / str(repeat % 2)
            began = time.perf_counter()
            save_for_engine(model, load.tokenizer, target, base if alone else None, config.model.dtype)
            saved = time.perf_counter()
            load.engine.load(target)
            loading.append(time.perf_counter() - saved)
            saving.append(saved - began)
        load.engine.release()
    further = {"save_seconds": statistics.median(saving[1:]), "load_seconds": statistics.median(loading[1:])}
    settings = {
        "model": config.model.name,
        "parameters": parameters,
        "device": device,
        "lora_rank": config.model.lora_rank,
        "adapters_alone": alone,
        "engine": type(load.engine).__name__,
        "replicas": config.engine.replicas,
        "tensor_parallel_size": config.engine.tensor_parallel_size,
    }
    return "weight sync", sum(further.values()), "s", further, settings


def round_(options: argparse.Namespace) -> Measured:
    """One round, with a greedy evaluation before and after."""
    result = finished(["algo=ei", "algo.rounds=1", "eval=greedy", *options.overrides])
    return "a round of expert iteration", result["seconds"]["total"], "s", shares(result), described(result)


def batch(options: argparse.Namespace) -> Measured:
    """Some batches, so that the first one's warm-up does not decide; the engine's start and evaluations left out."""
    choices = ["algo=ppo", f"algo.batches={options.steps}", "algo.evaluations=1", "eval=greedy"]
    result = finished([*choices, *options.overrides])
    parts = ("sample", "grade", "reward", "train", "sync")
    seconds = sum(result["seconds"].get(kind, 0.0) for kind in parts) / sum(
        name.startswith("batch-") for name in result["rollouts"]
    )
    return "a batch of PPO", seconds, "s", shares(result), described(result)


def shares(result: dict[str, Any]) -> dict[str, Any]:
    """Seconds by kind, and what is none of them."""
    seconds = {kind: result["seconds"].get(kind, 0.0) for kind in KINDS}
    return {**seconds, "rest": result["seconds"]["total"] - sum(seconds.values()), "total": result["seconds"]["total"]}


def described(result: dict[str, Any]) -> dict[str, Any]:
    """What was run."""
    config = result["config"]
    chosen = {group: config[group]["name"] for group in ("model", "data", "algo", "sharding", "launcher")}
    return {**chosen, "processes": config["nproc"], "rollouts": sum(result["rollouts"].values())}


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Measured]] = {
    "throughput": throughput,
    "training": training,
    "memory": memory,
    "sync": sync,
    "round": round_,
    "batch": batch,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("measurement", choices=MEASUREMENTS)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as on the command line of rlreason")
    parser.add_argument("--to", type=Path, default=Path("runs/measurements"), help="folder of the JSON file")
    parser.add_argument("--questions", type=int, default=64, help="throughput: questions of each repeat")
    parser.add_argument("--samples", type=int, default=8, help="throughput: samples of each question")
    parser.add_argument("--repeats", type=int, default=3, help="throughput, sync: repeats, of which the median counts")
    parser.add_argument("--length", type=int, default=512, help="training, memory: tokens of each sequence")
    parser.add_argument("--steps", type=int, default=10, help="training, memory: optimizer steps; batch: batches")
    options = parser.parse_args(arguments)
    quiet_libraries()
    what, value, unit, further, settings = MEASUREMENTS[options.measurement](options)
    if int(os.environ.get("RANK", "0")) != 0:
        return
    typed = [f"bench.gpu {shlex.join(sys.argv[1:] if arguments is None else arguments)}"]
    launched = ranks.size()
    start = (
        f"torchrun --nproc_per_node {os.environ.get('LOCAL_WORLD_SIZE', launched)} -m" if launched > 1 else "python -m"
    )
    made = time.strftime("%Y%m%d-%H%M%S")
    record = {
        "measurement": options.measurement,
        "what": what,
        "value": value,
        "unit": unit,
        "further": further,
        "settings": settings,
        "command": " ".join([start, *typed]),
        "made": made,
        **environment(),
    }
    options.to.mkdir(parents=True, exist_ok=True)
    path = options.to / f"{options.measurement}-{settings['model']}-{made}.json"
    write_atomically(path, json.dumps(record, indent=1) + "\n")
    print(f"{what}: {value:,.4g} {unit}; {path}")


if __name__ == "__main__":
    main()

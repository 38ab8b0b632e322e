"""`python -m bench.report`: what the report of a large study costs.

Makes a study of 100 runs with 10 million training rollouts in all (20 arms of 5 seeds: EI and PPO under three rewards,
GRPO, RCRL and SFT, from two starts, on two models, as far as 20 go) in a temporary folder, and runs
`rlreason task=report` on it in a process of its own. The bounds are a minute and 2 GiB on one core.

Runs of one kind share their rollout files by hard links, which saves disk and no reading: every run's files are opened,
decompressed and counted by themselves.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from rlreason.jobs import config_folder
from rlreason.run.store import SCORES_SCHEMA, SEALED_SCHEMA, write_evaluation

RUNS, SEEDS = 100, 5
ROLLOUTS = 112_000  # of every run but those of SFT, which draws none
QUESTIONS, TEST_QUESTIONS, K = 1500, 400, 16
ROUNDS, BATCHES, EVALUATIONS = 4, 100, 6


def main() -> None:
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "large"
        began = time.perf_counter()
        make_study(study)
        files = list(study.rglob("*.parquet"))
        rows = sum(pq.read_metadata(path).num_rows for path in files if path.name.startswith(("round-", "batch-")))
        console.print(
            f"made {RUNS} runs, {rows:,} training rollouts, {len(files):,} files in {time.perf_counter() - began:.0f} s"
        )
        seconds, processor, memory = report(study)
        size = (study / "report.html").stat().st_size / 2**20
    console.print(
        f"report: {seconds:.1f} s ({processor:.1f} s of one core), {memory:.2f} GiB, report.html {size:.1f} MiB"
    )


def report(study: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory in GiB of `rlreason task=report` on a study."""
    program = "from rlreason.cli import main; main()"
    began = time.perf_counter()
    command = [sys.executable, "-c", program, "task=report", f"study={study.name}", f"runs_dir={study.parent}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def make_study(study: Path) -> None:
    """All runs, each with its evaluations, rollouts and result."""
    shared = study.parent / "shared"
    generator = np.random.default_rng(0)
    kinds = [("ei", "round"), ("ppo", "batch")]
    for _, kind in kinds:
        make_rollouts(shared / kind, kind, generator)
    make_samples(shared / "test", generator)
    for number, arm in enumerate(arms()):
        for seed in range(SEEDS):
            make_run(study / f"run-{number:02}-{seed}", shared, arm, seed, np.random.default_rng([number, seed]))


def arms() -> list[tuple[str, str, str, str]]:
    """Algorithm, reward, init and model of every arm."""
    rewarded = [*product(("ei", "ppo"), ("sparse", "dense", "orm")), ("grpo", "sparse"), ("rcrl", "sparse")]
    whole = [(*pair, init, model) for model, init, pair in product(("tiny", "small"), ("scratch", "sft"), rewarded)]
    supervised = [("sft", "sparse", init, "tiny") for init in ("scratch", "sft")]
    return (supervised + whole)[: RUNS // SEEDS]


def make_rollouts(folder: Path, kind: str, generator: np.random.Generator) -> None:
    """The sealed rollouts of one run: 4 rounds, or 100 batches of fewer questions."""
    folder.mkdir(parents=True)
    stages = ROUNDS if kind == "round" else BATCHES
    rows = ROLLOUTS // stages
    for stage in range(1, stages + 1):
        name = f"round-{stage}" if kind == "round" else f"batch-{stage:05}"
        asked = QUESTIONS if kind == "round" else 64
        problems = np.sort(generator.integers(asked, size=rows) + (0 if kind == "round" else generator.integers(1400)))
        pq.write_table(rollouts(name, problems, generator), folder / f"{name}.parquet", compression="zstd")


def rollouts(stage: str, problems: np.ndarray, generator: np.random.Generator) -> pa.Table:
    """Short solutions, each of some twenty ways of a question, right or wrong."""
    rows = len(problems)
    ways = generator.geometric(0.3, rows)
    right = generator.random(rows) < 0.6
    operations = [f"{problem}+{way}\n{way}*{problem % 9}" for problem, way in zip(problems, ways, strict=True)]
    tokens = [list(range(way, way + 24)) for way in ways.tolist()]
    columns: dict[str, Any] = {
        "stage": [stage] * rows,
        "round": [0] * rows,
        "checkpoint": ["base"] * rows,
        "temperature": [1.0] * rows,
        "problem_id": [f"wordproblems-{problem:012}" for problem in problems],
        "sample": np.arange(rows) % 97,
        "seed": np.arange(rows),
        "prompt_token_ids": [[1, 2, 3, 4]] * rows,
        "token_ids": tokens,
        "logprobs": [[-0.5] * 24] * rows,
        "text": [f"{item}\n#### {way}" for item, way in zip(operations, ways, strict=True)],
        "finish_reason": ["stop"] * rows,
        "answer": [str(way) for way in ways],
        "correct": right,
        "unread": [False] * rows,
        "reward": right.astype(float),
        "step_rewards": [[{"start": 20, "end": 24, "value": float(good)}] for good in right],
        "operations": operations,
    }
    return pa.table({name: pa.array(columns[name], SEALED_SCHEMA.field(name).type) for name in SEALED_SCHEMA.names})


def make_samples(folder: Path, generator: np.random.Generator) -> None:
    """The test samples of the first and the last policy, and their scores."""
    folder.mkdir(parents=True)
    problems = np.repeat(np.arange(TEST_QUESTIONS), K)
    for stage in ("init", "final"):
        name = f"test-{stage}-sampled"
        table = rollouts(name, problems, generator)
        table = table.set_column(6 - 1, "sample", pa.array(np.tile(np.arange(K), TEST_QUESTIONS), pa.int32()))
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        scores = pa.array([[0.5, value] for value in generator.random(len(problems))], pa.list_(pa.float64()))
        columns = {"problem_id": table["problem_id"], "sample": table["sample"], "step_scores": scores}
        pq.write_table(pa.table(columns, SCORES_SCHEMA), folder / f"scores-{name}.parquet")


def make_run(
    run: Path, shared: Path, arm: tuple[str, str, str, str], seed: int, generator: np.random.Generator
) -> None:
    """One run folder."""
    algo, reward, init, model = arm
    kind = "round" if algo in ("ei", "rcrl") else "batch"
    (run / "rollouts").mkdir(parents=True)
    linked = [*(shared / "test").iterdir(), *((shared / kind).iterdir() if algo != "sft" else ())]
    for path in linked:
        os.link(path, run / "rollouts" / path.name)
    config = configuration(algo, reward, init, model)
    config |= {"seed": seed, "name": run.name}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    base = 0.3 if init == "scratch" else 0.5
    evaluations = []
    stages = ["init", *(f"round-{number}" for number in range(1, EVALUATIONS + 1)), "final"]
    for number, stage in enumerate(stages):
        evaluate(run, stage, base + 0.4 * min(number, EVALUATIONS) / EVALUATIONS, generator)
        seen = 0 if algo == "sft" else ROLLOUTS * min(number, EVALUATIONS) // EVALUATIONS
        evaluations.append({"stage": stage, "samples_seen": seen, "metrics": {}})
    drawn = {} if algo == "sft" else {path.stem: 0 for path in (shared / kind).iterdir()}
    result = {
        "config": config,
        "versions": {"rlreason": "0.1.0"},
        "commit": None,
        "hardware": {"cpus": 1, "machine": "x86_64", "memory_gib": 16, "gpus": []},
        "evaluations": evaluations,
        "rollouts": dict.fromkeys(drawn, ROLLOUTS // max(1, len(drawn))),
        "seconds": {"sample": 900.0, "train": 2000.0, "evaluate": 200.0, "total": 3200.0},
        "tokens": {"sample": 10**7, "train": 2 * 10**7, "evaluate": 10**6},
    }
    (run / "result.json").write_text(json.dumps(result))


def evaluate(run: Path, stage: str, accuracy: float, generator: np.random.Generator) -> None:
    """What was measured on every question."""
    right = generator.binomial(K, accuracy, TEST_QUESTIONS)
    values = {
        "problem_id": [f"wordproblems-{problem:012}" for problem in range(TEST_QUESTIONS)],
        "reference_steps": np.arange(TEST_QUESTIONS) % 4 + 1,
        "samples": np.full(TEST_QUESTIONS, K),
        "right": right,
        "maj@1": (generator.random(TEST_QUESTIONS) < accuracy).astype(float),
        f"maj@{K}": (right > K / 2).astype(float),
        f"rerank@{K}": (generator.random(TEST_QUESTIONS) < accuracy + 0.1).astype(float),
        **{f"pass@{k}": 1 - (1 - right / K) ** k for k in (2, 4, 8, 16)},
        "accuracy@temperature": right / K,
        "distinct_right": generator.integers(1, K, TEST_QUESTIONS).astype(float),
        "distinct_answers": generator.integers(1, K, TEST_QUESTIONS).astype(float),
        "right_known_at_start": generator.random(TEST_QUESTIONS),
        "start_known_to_itself": generator.random(TEST_QUESTIONS),
    }
    write_evaluation(run / "evaluations" / f"test-{stage}.parquet", values)


def configuration(algo: str, reward: str, init: str, model: str) -> dict[str, Any]:
    """The composed configuration as a run saves it."""
    choices = [f"algo={algo}", f"reward={reward}", f"init={init}", f"model={model}", f"eval.k={K}", "tracker=none"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        plain: Any = OmegaConf.to_container(compose("config", choices), resolve=True)
    return dict(plain)


if __name__ == "__main__":
    main()

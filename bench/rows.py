"""The rows of the benchmark, in their order."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.load import Load, Questions
from bench.on_policy import batches
from bench.plain import is_right
from bench.row import Asked, Row, Turns, by_turns
from rlreason.answers.equality import verdicts
from rlreason.training import shared_beginnings
from rlreason.training.supervised import Example, supervised_update

ROUND = ("algo.rounds=1", "data.train_size=128", "data.validation_size=16", "data.test_size=64", "eval=greedy")
PARTS = ("sample", "grade", "reward", "train", "sync", "evaluate")
EPOCHS, BATCH = 2, 64
SHOT = "Question: Ben has 5 eggs. Ben buys 6 more. How many eggs does Ben have now?\nAnswer:\n5+6=11\n#### 11\n\n"


def sampling_over_vllm(asked: Asked, *overrides: str, questions: int = 300) -> Turns:
    """The sampling stage of a run, with requests, storing and grading, beside `LLM.generate` in the same engine."""
    load = Load(questions, 8, *overrides, here=True)
    with tempfile.TemporaryDirectory() as folder:
        load.raw_vllm()  # warms the engine up
        count = iter(range(asked.repeats))

        def stage() -> float:
            load.engine.llm.reset_prefix_cache()
            return load.stage(Path(folder) / str(next(count)))

        found = by_turns(stage, load.raw_vllm, asked.repeats, "tokens/s")
    load.engine.close()
    return found


def smollm2_over_vllm(asked: Asked) -> Turns:
    """The same with a real model."""
    model = ["model=smollm2-135m-instruct", *([f"model.path={asked.smollm2}"] if asked.smollm2 else [])]
    limits = ("data.max_completion_tokens=116", "data.max_prompt_tokens=512")
    return sampling_over_vllm(asked, *model, *limits, questions=16)


def sampling_over_transformers(asked: Asked) -> Turns:
    """The sampling stage beside `model.generate` in batches."""
    load = Load(64, 8)
    with tempfile.TemporaryDirectory() as folder:
        load.stage(Path(folder) / "first")
        count = iter(range(asked.repeats))
        found = by_turns(
            lambda: load.stage(Path(folder) / str(next(count))), load.transformers_generate, asked.repeats, "tokens/s"
        )
    load.engine.close()
    return found


def finished(overrides: list[str]) -> dict[str, Any]:
    """The `result.json` of a whole run, made in a temporary folder by a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        program = "from rlreason.cli import main; main()"
        own = ["tracker=none", "name=run", f"runs_dir={folder}"]
        subprocess.run([sys.executable, "-c", program, *own, *overrides], check=True, stdout=subprocess.DEVNULL)
        result: dict[str, Any] = json.loads((Path(folder) / "run/result.json").read_text(encoding="utf-8"))
    return result


def round_over_plain(engine: str, asked: Asked) -> Turns:
    """A round of expert iteration beside bench/plain.py: the same questions, samples, epochs and test questions.

    The engine's start is in neither; ours asks 16 validation questions besides.
    """
    load = Questions(128, *ROUND)
    algo, data = load.config.algo, load.config.data
    problems = {True: load.problems, False: load.tested}
    work = {
        "model": str(load.model.folder),
        "tokens": data.max_completion_tokens,
        "samples": algo.samples,
        "epochs": algo.epochs,
        "learning_rate": algo.learning_rate,
        "batch_size": algo.batch_size,
        **{
            name: [(load.prompts[problem.id].text, problem.answer) for problem in problems[name == "train"]]
            for name in ("train", "test")
        },
    }
    right: list[int] = []

    def plain() -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "work.json"
            path.write_text(json.dumps(work), encoding="utf-8")
            command = [sys.executable, "-m", "bench.plain", engine, str(path), str(Path(folder) / "trained")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        right.append(found["right"])
        return 1 / sum(found["seconds"].values())

    def ours() -> float:
        seconds = finished([*ROUND, *asked.overrides])["seconds"]
        return 1 / sum(seconds.get(part, 0.0) for part in PARTS)

    turns = by_turns(ours, plain, asked.repeats, "rounds/s")
    return replace(turns, says=f"{right[0]} right solutions of {len(load.problems) * algo.samples} in the plain script")


def examples(count: int, shots: int, *overrides: str) -> tuple[Questions, list[tuple[str, str]]]:
    """Training questions with their reference solutions, each behind `shots` examples."""
    load = Questions(count, *overrides)
    pairs = [
        (SHOT * shots + load.prompts[problem.id].text, "\n".join([*problem.steps, f"#### {problem.answer}"]))
        for problem in load.problems
        if problem.id in load.prompts
    ]
    return load, pairs


def encoded(load: Questions, pairs: list[tuple[str, str]]) -> list[Example]:
    """The same as token ids."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(load.tokenizer(text)["input_ids"])

    return [Example(ids(prompt), (*ids(text), load.tokenizer.eos_token_id)) for prompt, text in pairs]


def updated(load: Questions, rows: list[Example]) -> float:
    """Sequences a second of a whole supervised update."""
    config = load.config
    settings = replace(config.algo, epochs=EPOCHS, batch_size=BATCH)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        supervised_update(
            load.model.folder, rows, settings, config.model, folder / "new", folder / "scratch", 0, math.inf
        )
    return EPOCHS * len(rows) / (time.perf_counter() - began)


def supervised(asked: Asked) -> Turns:
    """A supervised update beside SFTTrainer with its defaults, which tokenises for itself."""
    from bench.plain import learn

    load, pairs = examples(1024, 0)
    rows = encoded(load, pairs)

    def theirs(count: int) -> float:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            learn(load.model.folder, pairs[:count], EPOCHS, load.config.algo.learning_rate, BATCH, Path(folder))
        return EPOCHS * count / (time.perf_counter() - began)

    theirs(BATCH)  # imports and first calls
    updated(load, rows[:BATCH])
    return by_turns(lambda: updated(load, rows), lambda: theirs(len(pairs)), asked.repeats, "sequences/s")


def few_shot(asked: Asked) -> Turns:
    """A supervised update on few-shot prompts whose examples are computed once, beside one that computes them again."""
    load, pairs = examples(64, 16, "model=small")
    rows = encoded(load, pairs)
    load.config = replace(load.config, algo=replace(load.config.algo, micro_batch_size=8))
    rule: Callable[..., bool] = shared_beginnings.worth_while

    def again() -> float:
        shared_beginnings.worth_while = lambda common, lengths: False  # type: ignore[assignment]
        try:
            return updated(load, rows)
        finally:
            shared_beginnings.worth_while = rule  # type: ignore[assignment]

    return by_turns(lambda: updated(load, rows), again, asked.repeats, "sequences/s")


def grading(asked: Asked) -> Turns:
    """Completions graded a second, beside math-verify on the text behind the marker."""
    pairs = [
        (f"{number}+{number}={2 * number}\n#### {2 * number + number % 3}", str(2 * number)) for number in range(2000)
    ]
    texts, golds = [text for text, _ in pairs], [gold for _, gold in pairs]
    few = 200  # of theirs

    def ours() -> float:
        began = time.perf_counter()
        found = verdicts(texts, golds)
        seconds = time.perf_counter() - began
        assert [verdict.correct for verdict in found[:few]] == [is_right(*pair) for pair in pairs[:few]]
        return len(texts) / seconds

    def theirs() -> float:
        began = time.perf_counter()
        for pair in pairs[:few]:
            is_right(*pair)
        return few / (time.perf_counter() - began)

    verdicts(texts, golds)
    return by_turns(ours, theirs, asked.repeats, "completions/s")


def started(code: str) -> float:
    """How often a second Python could run some code from its start."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return 1 / (time.perf_counter() - began)


def start_up(asked: Asked) -> Turns:
    """`rlreason --help` beside what it stands on."""
    ours = "import sys; sys.argv = ['rlreason', '--help']; from rlreason.cli import main; main()"
    return by_turns(lambda: started(ours), lambda: started("import hydra"), 3 * asked.repeats, "starts/s")


def whole_run(asked: Asked) -> Turns:
    """All seconds of the default run beside those of its engine and its trainer."""
    seconds = finished(list(asked.overrides))["seconds"]
    inside = sum(seconds[kind] for kind in ("start", "sample", "train", "sync", "evaluate"))
    return Turns([1 / seconds["total"]], [1 / inside], "runs/s", f"{seconds['total']:.0f} s in all")


ROWS = (
    Row("start-up", "rlreason --help", "python -c 'import hydra'", 0.5, start_up),
    Row("grading", "grading", "math-verify", 60, grading),
    Row("sampling", "sampling stage of a run", "vllm.LLM.generate", 0.8, sampling_over_vllm),
    Row("generate", "sampling stage of a run", "transformers.generate", 2, sampling_over_transformers),
    Row("supervised", "supervised update", "SFTTrainer's defaults", 1.5, supervised),
    Row("few-shot", "supervised update, 16 shots", "the same, examples computed again", 2.5, few_shot),
    Row("grpo", "a batch of GRPO", "trl.GRPOTrainer", 2, partial(batches, "grpo")),
    Row("ppo", "a batch of PPO", "trl.GRPOTrainer", 2, partial(batches, "ppo")),
    Row(
        "ppo-separate", "a batch of PPO, critic apart", "trl.GRPOTrainer", 0.9, partial(batches, "ppo-separate"), False
    ),
    Row("round", "a round of EI", "generate and SFTTrainer", 4, partial(round_over_plain, "transformers")),
    Row("round-vllm", "a round of EI", "vLLM and SFTTrainer", 1.3, partial(round_over_plain, "vllm"), False),
    Row("smollm2", "sampling stage, SmolLM2-135M", "vllm.LLM.generate", 0.9, smollm2_over_vllm, short=False),
    Row("default-run", "the default run", "its engine and trainer", 0.95, whole_run, short=False),
)

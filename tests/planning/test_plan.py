"""The plan as a user sees it: batches, work, hours by the user's own runs, money; nothing heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console
from tests_support import composed

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.context import longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.data.registry import DATASETS
from rlreason.display import comparison_line
from rlreason.engines.start import choose_engine
from rlreason.errors import UserError
from rlreason.planning import lengths, updates
from rlreason.planning.batches import batch_arithmetic
from rlreason.planning.lengths import known_sizes
from rlreason.planning.measured import planned_and_measured
from rlreason.planning.plan import make_plan
from rlreason.planning.rates import MEASURED, on_a_core
from rlreason.planning.workload import workload
from rlreason.tasks.plan import plan

EIGHT = ["gpus=8", "gpu_memory=80", "gpu_hour_price=2.5"]
THIRTEEN = ["model=llama13b", "data=gsm8k", "nproc=8", "launcher=accelerate", "sharding=fsdp2"]


def test_the_sentence_that_the_project_was_asked_for(tmp_path: Path, cold_rlreason) -> None:
    output = cold_rlreason(tmp_path, "task=plan", *EIGHT, *THIRTEEN, "gpu_name=h100").check().output
    for shown in ("13,015,864,320 parameters", "algo: 64 = 8 x 4 x 2", "peak memory of the fullest GPU", "KV cache",
                  "assumed: 35% of H100 SXM's 990 TFLOP/s", "at 2.5 a GPU-hour", "everything fits"):  # fmt: skip
        assert shown in output
    assert not (tmp_path / "runs").exists()
    output = (
        cold_rlreason(tmp_path, "task=plan", "gpus=1", "gpu_memory=80", "model=llama7b", "data=gsm8k").check().output
    )
    assert "does not fit: about 119 GiB of GPU memory for EI training" in output
    assert "nearest change that fits: model.lora_rank=16" in output


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['rlreason', 'task=plan', 'gpus=1', 'gpu_memory=80', 'algo=ppo', 'model=llama7b']\n"
        "from rlreason.cli import main; main()\n"
        "print({'torch', 'transformers', 'vllm', 'datasets', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.rstrip().endswith("set()")


def test_batch_arithmetic() -> None:
    ppo = batch_arithmetic(
        composed("algo=ppo", "nproc=2", "launcher=accelerate", "init=sft", "init.micro_batch_size=16")
    )
    # 64 questions x 4 samples, minibatches of 128 = 2 processes x 64 x 1; SFT 64 = 2 x 16 x 2.
    assert [(item.rollouts, item.steps_per_rollouts, item.accumulation) for item in ppo] == [(0, 0, 2), (256, 2, 1)]
    with pytest.raises(
        UserError, match=r"algo\.minibatch_size=128; use algo\.minibatch_size=126 or 129, or 2 or 4 pro"
    ):
        batch_arithmetic(composed("algo=ppo", "nproc=3", "launcher=accelerate"))
    # 64 sequences a pass are too many for a quarter of 64: each of 4 processes takes 16.
    (spread,) = batch_arithmetic(composed("nproc=4", "launcher=accelerate"))
    assert (spread.micro_batch, spread.accumulation) == (16, 1)


def test_samples_and_tokens_by_hand() -> None:
    config = composed(
        "data=gsm8k", "model=llama7b", "algo.rounds=2", "algo.samples=4", "algo.questions=1000", "eval.k=16"
    )
    size = known_sizes(config)
    # Four examples of question, solution and template before a question with its own.
    assert size.prompt == pytest.approx(4 * (60.2 + 124.4 + 8) + 60.2 + 8)
    sampled, learned, evaluated = workload(config)
    assert (sampled.samples, sampled.tokens) == (8000, pytest.approx(8000 * 124.4))
    # Two epochs over the solutions of one round, then of two.
    assert (learned.samples, learned.steps) == (2 * 4000 * 3, 375)
    assert learned.tokens == pytest.approx(24_000 * (size.prompt + 124.4))
    # Before, after, and the last where it is not selected: 1,319 questions 16 times; before and after each round 500
    # and 1,319 greedily.
    assert evaluated.samples == 3 * 1319 * 16 + 3 * (500 + 1319)


def finished(
    folder: Path, gpus: list[str], rate: float, engine: str = "auto", seconds: float = 10.0, **model: object
) -> None:
    folder.mkdir(parents=True)
    values = {
        "name": folder.name,
        "config": {
            "model": {**vars(composed().model), **model},
            "engine": {"name": engine, "tensor_parallel_size": 1},
        },
        "hardware": {"machine": "x86_64", "cpus": 2, "gpus": gpus},
        "seconds": {"sample": seconds, "train": seconds},
        "tokens": {"sample": 2 * seconds * rate, "train": seconds * rate, "evaluate": 0},
    }
    (folder / "result.json").write_text(json.dumps(values))


def test_hours_come_from_finished_runs_on_the_same_kind_of_hardware(tmp_path: Path) -> None:
    finished(tmp_path / "one", [], 1000.0)
    finished(tmp_path / "two", ["NVIDIA H100 80GB HBM3"], 50_000.0)
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "result.json").write_text("{")
    made = make_plan(composed("gpus=0", f"runs_dir={tmp_path}", "algo=sft"))
    train = next(time for time in made.times if time.work.kind == "train")
    assert train.source == "1 finished run of this model on the same kind of core"
    # 1,000 x 10 tokens in 10 s on 2 cores.
    assert train.hours == pytest.approx(train.work.tokens / 500 / made.machine.cores / 3600)
    on_gpu = [f"runs_dir={tmp_path}", "gpus=1", "gpu_memory=80", "gpu_name=h100", "algo=sft", "init=scratch"]
    made = make_plan(composed(*on_gpu, "model=llama7b", "data=gsm8k"))
    train = next(time for time in made.times if time.work.kind == "train")
    assert train.source == "1 finished run of a model of 0.9 million parameters, scaled by parameters"
    assert train.hours == pytest.approx(train.work.tokens / (50_000 * 913_408 / 6_738_415_616) / 3600)
    unknown = make_plan(composed("gpus=1", "gpu_memory=80", f"runs_dir={tmp_path / 'none'}"))
    assert unknown.hours is None
    assert unknown.times[0].source.startswith("unknown: no finished run on such a GPU")


def test_a_run_of_no_size_or_of_another_engine_says_nothing(tmp_path: Path) -> None:
    wanted = ["gpus=0", f"runs_dir={tmp_path}", "engine=transformers"]
    plain = make_plan(composed(*wanted)).times
    finished(tmp_path / "short", [], 3.0, "transformers", seconds=9.0)
    finished(tmp_path / "other", [], 3.0, "vllm" if choose_engine("auto") == "vllm" else "auto")
    after = {time.work.phase: time.source for time in make_plan(composed(*wanted)).times if time.work.kind != "train"}
    assert after == {time.work.phase: time.source for time in plain if time.work.kind != "train"}
    finished(tmp_path / "like it", [], 3.0, "transformers")
    sampled = next(time for time in make_plan(composed(*wanted)).times if time.work.kind == "sample")
    assert sampled.source == "1 finished run of this model on the same kind of core"


def test_planned_beside_measured() -> None:
    compared = planned_and_measured(
        composed("algo=sft"), {"train": 12.0}, {"train": 100_000, "sample": 0}, {"train": {"host": 2.0**31}}, set()
    )
    assert list(compared) == ["train"]
    assert compared["train"]["memory_gib"][1] == 2.0
    assert compared["train"]["tokens"][1] == 100_000
    line = comparison_line({"train": {"memory_gib": [1.5, 2.0], "seconds": [None, 12.0], "tokens": [120_000, 100_000]}})
    assert line == "planned -> measured: train 1.5 -> 2 GiB, ? -> 12 s, 120,000 -> 100,000 tokens"
    assert planned_and_measured(composed("model=local", "model.path=some/where"), {}, {}, {}, set()) is None


def shown(config: ExperimentConfig) -> str:
    console = Console(width=200, file=StringIO())
    plan(config, console)
    return console.file.getvalue()


def test_what_is_not_known_is_planned_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("gpus=0", "algo=ei", "init=sft")
    assert shown(config).rstrip().endswith("everything fits")

    monkeypatch.setattr(lengths, "DATASETS", {**DATASETS, "gsm8k": replace(DATASETS["gsm8k"], facts=None)})
    on_my_data = replace(config, data=replace(config.data, name="gsm8k"))
    of_data = make_plan(on_my_data)
    assert of_data.hours is None
    assert [(time.work.phase, time.work.samples, time.hours) for time in of_data.times] == [
        (phase, None, None) for phase in ("SFT (init)", "sampling", "EI training", "evaluation")
    ]
    # Of training on unknown questions the weights, gradients and optimizer are known, of sampling all.
    assert [(phase.name, phase.whole) for phase in of_data.phases] == [
        ("sampling", True), ("SFT (init)", False), ("EI training", False)
    ]  # fmt: skip
    assert of_data.phases[-1].host["optimizer"] == 8 * of_data.shape.parameters

    monkeypatch.setattr(updates, "ALGORITHMS", {**ALGORITHMS, "ppo": replace(ALGORITHMS["ppo"], plan=None)})
    on_policy = composed("gpus=0", "algo=ppo", "init=sft")
    of_algorithm = make_plan(on_policy)
    assert [(time.work.phase, time.hours is None) for time in of_algorithm.times] == [
        ("SFT (init)", False), ("algo=ppo", True), ("evaluation", True)
    ]  # fmt: skip
    # An engine may share its device with a trainer of which nothing is known.
    assert [(phase.name, phase.whole) for phase in of_algorithm.phases] == [
        ("sampling", False), ("SFT (init)", True), ("algo=ppo", False)
    ]  # fmt: skip
    assert of_algorithm.disk["checkpoints"] is None

    model = composed("model=local", "model.path=some/where", "gpus=1", "gpu_memory=80", "algo=ei")
    assert not any(phase.whole for phase in make_plan(model).phases)

    for experiment, sentence in (
        (on_my_data, "the number and lengths of the questions of data=gsm8k are unknown"),
        (on_policy, "what algo=ppo draws and learns from is unknown"),
        (model, "the size of model=local is unknown; give model.parameters=NUMBER or a local folder"),
    ):
        output = shown(experiment)
        assert sentence in output
        assert output.rstrip().endswith("whether everything fits is unknown")
        assert "hours in all" not in output


@pytest.mark.parametrize(("algorithm", "tokens"), [("ei", 256 + 160), ("rcrl", 256 + 2 * 160), ("ppo", 256 + 160)])
def test_the_plan_fills_the_engine_with_the_contexts_that_it_is_started_with(algorithm: str, tokens: int) -> None:
    config = composed("gpus=0", f"algo={algorithm}", "engine=transformers")
    assert longest_context(config) == tokens
    (sampling, *_) = make_plan(config).phases
    assert sampling.cached_tokens == config.engine.max_sequences * tokens
    assert f"of the longest contexts ({tokens} tokens)" in shown(config)


def test_what_cannot_be_planned() -> None:
    with pytest.raises(UserError, match=r"nproc x launcher.nodes = 4 needs as many GPUs, but there are 2"):
        make_plan(composed("gpus=2", "gpu_memory=80", "nproc=4", "launcher=accelerate", "model.micro_batch_size=4"))
    with pytest.raises(UserError, match=r"128 processes do not divide algo.batch_size=64"):
        make_plan(composed("gpus=128", "gpu_memory=80", "nproc=128", "launcher=accelerate"))


def test_speeds_between_measured_sizes_are_between_theirs_and_fall_with_size() -> None:
    for kind in ("sample", "train"):
        known = [(size, value) for name, size, value, _ in MEASURED if name == kind]
        for size, value in known:
            assert on_a_core(kind, 1.01 * size)[0] == value
        for (small, fast), (large, slow) in pairwise(known):
            middle, source = on_a_core(kind, (small * large) ** 0.5)
            assert middle == pytest.approx((fast * slow) ** 0.5)
            assert source.endswith("interpolated")
        assert on_a_core(kind, 10 * known[-1][0])[0] == pytest.approx(known[-1][1] / 10)
        speeds = [on_a_core(kind, 10 ** (power / 4))[0] for power in range(20, 44)]
        assert speeds == sorted(speeds, reverse=True)


def test_runs_of_a_small_model_say_of_a_large_one_what_was_measured_of_both(tmp_path: Path) -> None:
    tiny = on_a_core("sample", 913_408)[0]
    finished(tmp_path / "one", [], 2 * tiny)  # twice as fast as here
    made = make_plan(composed("gpus=0", f"runs_dir={tmp_path}", "model=smollm2-135m", "engine=auto"))
    sampling = next(time for time in made.times if time.work.kind == "sample")
    assert sampling.source.endswith("of a model of 0.9 million parameters, scaled by speeds of models of other sizes")
    seconds = sampling.work.tokens / (2 * on_a_core("sample", made.shape.parameters)[0]) / made.machine.cores
    assert sampling.hours == pytest.approx(seconds / 3600)

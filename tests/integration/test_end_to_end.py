"""Whole runs with the real engine and the real trainer on the embedded model."""

import json

import pandas as pd
import pytest
from tests_support import SMALL, journal, rollout_counts
from wandb_file import assert_tracked

pytestmark = pytest.mark.engine
QUICK = [*SMALL, "engine=transformers"]  # which starts in no time, where it does not matter who samples


@pytest.fixture(scope="module")
def finished(rlreason, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ei")
    done = rlreason(folder, *SMALL, "name=run", "tracker=wandb", "algo.rounds=2", "algo.patience=2").check()
    return folder, done.output, json.loads((folder / "runs/run/result.json").read_text())


def test_the_result_holds_what_scripts_rely_on(finished):
    _, _, result = finished
    stages = [evaluation["stage"] for evaluation in result["evaluations"]]
    assert stages == ["init", "round-1", "round-2", "final"]
    assert [evaluation["samples_seen"] for evaluation in result["evaluations"]] == [0, 72, 144, 144]
    final = result["evaluations"][-1]["metrics"]
    assert {"maj@1", "maj@3", "pass@3", "accuracy@temperature", "distinct_right", "distinct_answers"} <= set(final)
    for metric in final.values():
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["problems"] == 10
    assert set(result["seconds"]) == {"start", "sample", "grade", "reward", "train", "sync", "evaluate", "total"}
    assert 0 < sum(result["seconds"].values()) - result["seconds"]["total"] <= result["seconds"]["total"]
    assert result["tokens"]["sample"] > 0
    assert {"name", "config", "versions", "commit", "hardware", "verdict", "differences"} <= set(result)


def test_every_rollout_is_kept_once_and_graded(finished):
    folder, _, result = finished
    table = pd.read_parquet(folder / "runs/run/rollouts/round-1.parquet")
    assert len(table) == 72
    assert not table.duplicated(["problem_id", "sample"]).any()
    assert table["seed"].nunique() == 72
    assert (table["token_ids"].map(len) == table["logprobs"].map(len)).all()
    assert (table["logprobs"].map(max) <= 0).all()
    assert (table["reward"] == table["correct"].astype(float)).all()
    assert result["rollouts"]["round-1"] == 72


def test_the_run_folder_is_complete(finished):
    folder, output, _ = finished
    run = folder / "runs/run"
    for name in ("config.yaml", "metrics.jsonl", "events.log", "result.json", "journal.jsonl"):
        assert (run / name).stat().st_size > 0, name
    assert (run / "checkpoints/round-1/model.safetensors").exists()
    assert not list(run.glob("rollouts/*.arrows"))
    assert "maj@1" in output
    assert str(run.relative_to(folder)) in output
    assert_tracked(run)


def test_metrics_are_logged_once_against_samples_seen(finished):
    folder, _, _ = finished
    lines = [json.loads(line) for line in (folder / "runs/run/metrics.jsonl").read_text().splitlines()]
    stages = [line["stage"] for line in lines]
    assert len(stages) == len(set(stages))
    assert {line["samples_seen"] for line in lines} == {0, 72, 144}


def test_the_same_command_again_prints_the_result_without_work(finished, cold_rlreason):
    folder, _, result = finished
    before = journal(folder / "runs/run")
    again = cold_rlreason(folder, *SMALL, "name=run", "tracker=wandb", "algo.rounds=2", "algo.patience=2").check()
    assert result["verdict"].split(";")[0] in " ".join(again.output.split())
    assert journal(folder / "runs/run") == before


def test_a_start_from_sft_is_trained_once_and_shared(rlreason, tmp_path):
    first = rlreason(tmp_path, *QUICK, "init=sft", "name=a", "algo.samples=2").check()
    second = rlreason(tmp_path, *QUICK, "init=sft", "name=b", "algo.samples=3").check()
    assert "init=sft, on 24 reference solutions" in first.output
    assert "reference solutions" not in second.output
    assert len(list((tmp_path / "runs/cache").glob("sft-*"))) == 1


def test_sft_as_an_algorithm(rlreason, tmp_path):
    small = [item for item in QUICK if not item.startswith(("algo.rounds", "algo.samples"))]
    rlreason(tmp_path, *small, "algo=sft", "algo.evaluations=1", "name=run").check()
    result = json.loads((tmp_path / "runs/run/result.json").read_text())
    assert [evaluation["stage"] for evaluation in result["evaluations"]] == ["init", "round-1", "final"]
    assert result["tokens"]["train"] > 0


def test_lora_adapters_are_merged_into_the_checkpoint(rlreason, tmp_path):
    rlreason(tmp_path, *QUICK, "model.lora_rank=4", "algo.threshold=0", "name=run").check()
    files = {path.name for path in (tmp_path / "runs/run/checkpoints/round-1").iterdir()}
    assert "model.safetensors" in files
    assert not any("adapter" in name for name in files - {"adapter"})
    assert (tmp_path / "runs/run/checkpoints/round-1/adapter/adapter_model.safetensors").exists()


def test_both_engines_agree_on_greedy_outputs(rlreason, tmp_path):
    texts = {}
    for engine in ("vllm", "transformers"):
        pytest.importorskip(engine)
        settings = ["task=evaluate", "tracker=none", "eval=greedy", "data.test_size=60", "eval.resamples=200"]
        rlreason(tmp_path, *settings, f"engine={engine}", f"name={engine}").check()
        table = pd.read_parquet(tmp_path / f"runs/{engine}/rollouts/test-final-greedy.parquet").set_index("problem_id")
        texts[engine] = table
    left, right = texts["vllm"], texts["transformers"]
    assert list(left.index) == list(right.index)
    assert (left["text"] == right["text"]).mean() >= 0.98  # two kernels may break a tie between tokens differently
    same = left["text"] == right["text"]
    for a, b in zip(left[same]["logprobs"], right[same]["logprobs"], strict=True):
        assert list(a) == pytest.approx(list(b), abs=2e-3)
    assert [list(ids) for ids in left[same]["token_ids"]] == [list(ids) for ids in right[same]["token_ids"]]


def test_a_sweep_runs_every_combination(rlreason, tmp_path):
    settings = ["task=evaluate", "tracker=none", "eval=greedy", "data.test_size=5", "eval.resamples=200"]
    rlreason(tmp_path, "-m", *settings, "engine=transformers", "seed=0,1").check()
    results = sorted(path.parent.name for path in (tmp_path / "runs").glob("*/result.json"))
    assert len(results) == 2
    assert results[0].endswith("seed0")


def test_a_failed_job_does_not_stop_a_sweep(rlreason, tmp_path):
    settings = ["task=evaluate", "tracker=none", "eval=greedy", "data.test_size=5", "eval.resamples=200"]
    done = rlreason(tmp_path, "-m", *settings, "engine=transformers", "model.path=/nowhere,embedded:tiny")
    assert done.code == 2
    assert "/nowhere" in done.output
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 1


def test_nothing_right_ends_with_a_verdict(rlreason, tmp_path):
    (tmp_path / "nothing.py").write_text("def nothing(problem, completion):\n    return 0\n")
    rlreason(tmp_path, *QUICK, "reward=custom", "reward.function=nothing.py:nothing", "name=run").check()
    result = json.loads((tmp_path / "runs/run/result.json").read_text())
    assert "nothing to train on" in result["verdict"] or "good enough" in result["verdict"]
    assert rollout_counts(tmp_path / "runs/run")["round-1"] == 72

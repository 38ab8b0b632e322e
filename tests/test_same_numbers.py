"""The comparison of two run folders, on folders made by hand; nothing is trained."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from same_numbers import compare


def make_runs(runs: Path, cache_hash: str = "0123456789ab") -> Path:
    """A run, and a folder of the cache that it used."""
    for folder in (runs / "run", runs / "cache" / f"orm-tiny-{cache_hash}"):
        for part in ("rollouts", "checkpoints/round-1"):
            (folder / part).mkdir(parents=True)
        write_rollouts(folder, logprob=-0.5)
        save_file({"weight": np.ones((2, 2), np.float32)}, folder / "checkpoints/round-1/model.safetensors")
        write_lines(folder / "journal.jsonl", {"stage": "batch-1", "steps": 2}, {"stage": "final", "seconds": 3.0})
        write_lines(folder / "metrics.jsonl", {"stage": "batch-1", "train/loss": 0.1, "train/step_time": 5.0})
    (runs / "run" / "result.json").write_text(json.dumps({"verdict": "done", "evaluations": [{"maj@1": 0.5}]}))
    return runs


def write_rollouts(folder: Path, logprob: float) -> None:
    rows = {"problem_id": ["a", "b"], "logprobs": [[-0.25, float("nan")], [-1.0, logprob]]}
    pq.write_table(pa.table(rows), folder / "rollouts/batch-1.parquet")


def write_lines(path: Path, *records: dict) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def old(tmp_path):
    return make_runs(tmp_path / "old")


@pytest.fixture
def new(tmp_path):
    return make_runs(tmp_path / "new", cache_hash="ba9876543210")


def test_equal_runs_do_not_differ_whatever_their_times_and_hashes(old, new):
    write_lines(
        new / "run/metrics.jsonl",
        {"stage": "batch-1", "train/loss": 0.1, "train/step_time": 9.0, "train/new": 1.0},
    )
    assert compare(old, new) == []


def test_one_log_prob_of_one_row(old, new):
    changed = float(np.nextafter(-0.5, 0))
    write_rollouts(new / "run", logprob=changed)
    assert compare(old, new) == [f"run/rollouts/batch-1.parquet, row 1, logprobs[1]: -0.5 | {changed!r}"]


def test_a_missing_stage_and_a_missing_file(old, new):
    write_lines(new / "run/journal.jsonl", {"stage": "batch-1", "steps": 2})
    (new / "cache/orm-tiny-ba9876543210/rollouts/batch-1.parquet").unlink()
    assert compare(old, new) == [
        "run/journal.jsonl, final: only OLD has it",
        "cache/orm-tiny/rollouts/batch-1.parquet: only OLD has it",
    ]
    assert "run/journal.jsonl, final: only NEW has it" in compare(new, old)


def test_a_changed_tensor_and_one_in_another_file(old, new):
    weights = new / "run/checkpoints/round-1"
    (weights / "model.safetensors").rename(weights / "model-00001-of-00001.safetensors")
    assert compare(old, new) == []
    save_file({"weight": np.full((2, 2), 1.5, np.float32)}, weights / "model-00001-of-00001.safetensors")
    (line,) = compare(old, new)
    assert line.startswith("run/checkpoints/round-1, weight: ")


def test_a_changed_result_and_a_lost_metric(old, new):
    (new / "run/result.json").write_text(json.dumps({"verdict": "done", "evaluations": [{"maj@1": 0.6}]}))
    write_lines(new / "run/metrics.jsonl", {"stage": "batch-1"})
    assert compare(old, new) == [
        "run/metrics.jsonl, batch-1, train/loss: only OLD has it",
        "run/result.json, evaluations[0], maj@1: 0.5 | 0.6",
    ]

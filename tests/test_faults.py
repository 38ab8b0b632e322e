"""The tool that kills runs: it touches no folder of others, and sees what is there twice or differs."""

import json
import random
import subprocess
import sys
from pathlib import Path

import faults
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def made_run(runs, samples=(0, 1), stages=("init", "round-1"), value=0.5):
    run = runs / "run"
    (run / "rollouts").mkdir(parents=True)
    table = pa.table({"problem_id": ["q"] * len(samples), "sample": list(samples), "value": [value] * len(samples)})
    pq.write_table(table, run / "rollouts/round-1.parquet")
    (run / "journal.jsonl").write_text("".join(json.dumps({"stage": stage, "steps": 3}) + "\n" for stage in stages))
    return runs


def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(tmp_path):
    runs = made_run(tmp_path / "runs")
    for folder in (runs, runs / "run", runs / "run/journal.jsonl"):
        with pytest.raises(ValueError, match="was not made by this tool"):
            faults.take(folder)
    assert len(list(runs.rglob("*"))) == 4
    own = faults.take(tmp_path / "own")
    (own / "left").touch()
    assert [path.name for path in faults.take(own).iterdir()] == [faults.MARK]


def test_what_differs_or_is_there_twice_is_named(tmp_path):
    whole = made_run(tmp_path / "whole")
    assert faults.compare(whole, made_run(tmp_path / "same"), "ei-sparse") == []
    (differing,) = faults.compare(whole, made_run(tmp_path / "other", samples=(0, 1), value=0.25), "ei-sparse")[:1]
    assert "row 0, value: 0.5 | 0.25" in differing
    twice = faults.compare(
        whole, made_run(tmp_path / "twice", samples=(0, 0), stages=("init", "round-1", "init")), "ei-sparse"
    )
    assert "run/round-1.parquet: ('q', 0) is there 2 times" in twice
    assert "run/journal.jsonl: init is there 2 times" in twice
    short = faults.compare(whole, made_run(tmp_path / "short", stages=("init",)), "ei-sparse")
    assert short == ["run/journal.jsonl, round-1: only one of the two has it"]
    assert faults.compare(whole, tmp_path / "nothing", "ei-sparse") == ["run: only one of the two has it"]


def test_the_report_counts_the_kills_and_names_what_did_not_survive():
    kills = [faults.Kill("sft", 0, 1.5, True, "no stage"), faults.Kill("sft", 0, 9.0, False, "3 stages, the last sft")]
    outcomes = [faults.Outcome("sft", 0, 1, ()), faults.Outcome("orm", 1, 2, ("exit code 1: broken",))]
    text = faults.markdown(kills, outcomes, {"sft": 4.0, "orm": 5.0}, "python -m tests.faults --kills 3 --seed 7")
    assert "--seed 7" in text and "1 kills of 2 runs; 1 of them" in text
    assert "| sft | 4.0 | 1 | 1 | 1 |" in text and "| orm | 5.0 | 1 | 2 | 0 |" in text
    assert "- run 1, orm: exit code 1: broken" in text
    assert "| 0 | sft | 1.500 | no stage |" in text and "9.000" not in text


@pytest.mark.faults
@pytest.mark.engine
def test_runs_that_are_killed_at_random_end_as_undisturbed(tmp_path):
    seed = random.randrange(2**31)
    command = [sys.executable, "-m", "tests.faults", "--kills", "30", "--seed", str(seed), "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}: {done.stdout[-3000:]} {done.stderr[-1000:]}"

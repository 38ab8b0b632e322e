"""Real sweeps: what they share, what a failure costs, and jobs side by side in processes of their own."""

import json
import shutil

import pandas as pd
import pytest
from tests_support import JUDGE, SMALL, journal

pytestmark = pytest.mark.engine

EVALUATE = [
    "task=evaluate",
    "tracker=none",
    "eval=greedy",
    "data.test_size=5",
    "eval.resamples=200",
    "engine=transformers",
    "study=s",
]


def of_seed(folder, seed):
    (found,) = folder.glob(f"*-seed{seed}")
    return found


def spoil(run):
    """Make the job of a run folder crash: its rollouts cannot be read, and there is no place to draw them again."""
    (run / "result.json").unlink()
    shutil.rmtree(run / "rollouts")
    (run / "rollouts").write_text("no folder")


def test_a_job_that_crashes_stops_no_other_and_the_same_command_finishes_what_is_missing(rlreason, tmp_path):
    command = ["-m", *EVALUATE, "seed=0,1,2"]
    rlreason(tmp_path, *command).check()
    study = tmp_path / "runs/s"
    spoil(of_seed(study, 1))
    shutil.rmtree(of_seed(study, 2))
    done = rlreason(tmp_path, *command)
    assert done.code == 1, done.output
    assert "Traceback" not in done.output
    assert "1 of 3 jobs failed" in done.output.splitlines()[-1]
    assert of_seed(study, 1).name in done.output.splitlines()[-1]
    assert f"{of_seed(study, 0).name}: finished earlier, maj@1" in done.output
    assert (of_seed(study, 2) / "result.json").exists()
    failure = (of_seed(study, 1) / "failure.txt").read_text()
    assert "Traceback" in failure
    assert failure.partition("\n")[0] in (of_seed(study, 1) / "events.log").read_text()
    watched = rlreason(tmp_path, "task=watch", "study=s").check()
    assert "2 of 3 jobs finished, 1 failed" in watched.output
    (of_seed(study, 1) / "rollouts").unlink()
    rlreason(tmp_path, *command).check()
    assert not (of_seed(study, 1) / "failure.txt").exists()
    plan = json.loads((study / "study.json").read_text())
    assert len(plan["jobs"]) == 3
    assert len(plan["commands"]) == 1


def test_a_job_leaves_no_engine_behind_for_the_next_one(rlreason, tmp_path):
    """Jobs one after another share a process; an engine of the smallest size holds 1 GiB of keys and values."""
    command = ["-m", *EVALUATE[:-2], "study=s", "engine=vllm", "engine.max_sequences=16", "seed=0,1"]
    rlreason(tmp_path, *command).check()
    first, second = (
        max(
            peaks["host"]
            for record in journal(of_seed(tmp_path / "runs/s", seed))
            for peaks in record["peaks"].values()
        )
        for seed in range(2)
    )
    assert second - first < 0.5 * 2**30


def test_the_plan_has_every_job_but_those_that_are_skipped(rlreason, tmp_path):
    command = ["-m", *SMALL, "study=s", "algo.samples=3", "reward=dense,orm", "algo=rcrl"]
    done = rlreason(tmp_path, *[item for item in command if not item.startswith("algo.rounds")]).check()
    assert "2 combinations skipped: algo=rcrl does not use the reward" in done.output
    assert not (tmp_path / "runs/s").exists()


@pytest.fixture(scope="module")
def side_by_side(rlreason, tmp_path_factory):
    """Two jobs at once that need the same SFT checkpoint, outcome reward model and base evaluation."""
    folder = tmp_path_factory.mktemp("joblib")
    settings = [*SMALL, *JUDGE, "study=s", "engine=transformers", "init=sft", "reward=sparse,dense", "eval.orm=train"]
    done = rlreason(folder, "-m", *settings, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2").check()
    return folder, done.output


def test_jobs_side_by_side_say_in_one_line_how_they_ended(side_by_side):
    folder, output = side_by_side
    names = sorted(path.parent.name for path in (folder / "runs/s").glob("*/result.json"))
    assert len(names) == 2
    lines = [line for line in output.splitlines() if "finished in" in line]
    assert sorted(line.partition(":")[0] for line in lines) == names


def test_what_two_jobs_need_at_once_is_made_once(side_by_side):
    folder, _ = side_by_side
    runs = [path.parent for path in (folder / "runs/s").glob("*/result.json")]
    for stage in ("sft", "orm", "validation-init", "test-init-greedy", "test-init-sampled"):
        cached = [next(line["cached"] for line in journal(run) if line["stage"] == stage) for run in runs]
        assert sorted(cached) == [False, True], stage
    made = sorted(path.name.partition("-")[0] for path in (folder / "runs/cache").iterdir())
    assert made == ["base", "orm", "sft"]


def test_a_job_of_a_sweep_measures_what_it_would_have_measured_alone(side_by_side, rlreason, tmp_path):
    folder, _ = side_by_side
    settings = [*SMALL, *JUDGE, "engine=transformers", "init=sft", "reward=dense", "eval.orm=train", "name=run"]
    rlreason(tmp_path, *settings).check()
    (shared,) = (path.parent for path in (folder / "runs/s").glob("*dense*/result.json"))
    for stage in ("validation-init", "test-init-greedy", "test-init-sampled"):
        ours, alone = (pd.read_parquet(run / f"rollouts/{stage}.parquet") for run in (shared, tmp_path / "runs/run"))
        for column in ("problem_id", "sample", "seed", "text", "correct"):
            assert list(ours[column]) == list(alone[column]), (stage, column)


def test_a_mistake_in_another_process_is_counted(rlreason, tmp_path):
    command = ["-m", *EVALUATE, "model.path=/nowhere,embedded:tiny", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = rlreason(tmp_path, *command)
    assert done.code == 2, done.output
    assert "1 of 2 jobs failed" in done.output
    assert "/nowhere" in done.output
    assert len(list((tmp_path / "runs/s").glob("*/result.json"))) == 1

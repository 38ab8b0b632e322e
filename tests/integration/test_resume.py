"""Killed at any moment, the same command continues, and every sample counts once."""

import pandas as pd
import pytest
from tests_support import SMALL, assert_same, journal

pytestmark = pytest.mark.engine

COMMAND = [*SMALL, "algo.threshold=0", "checkpoint_seconds=0", "engine.max_sequences=8"]
STAGES = [
    "validation-init",
    "test-init-greedy",
    "test-init-sampled",
    "log-evaluate-init",
    "round-1",
    "log-sampled-round-1",
    "train-round-1",
    "validation-round-1",
    "test-round-1-greedy",
    "log-evaluate-round-1",
    "test-final-greedy",
    "test-final-sampled",
    "log-evaluate-final",
    "result",
]


@pytest.fixture(scope="module")
def uninterrupted(rlreason, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    rlreason(folder, *COMMAND, "name=run").check()
    return folder / "runs/run"


def test_the_stages_are_those_that_the_kills_below_cover(uninterrupted):
    assert [record["stage"] for record in journal(uninterrupted)] == STAGES


def test_killed_at_every_boundary_and_in_the_middle_of_sampling_and_training(rlreason, tmp_path, uninterrupted):
    kills = [
        "sampling validation-init 1",
        "after validation-init",
        "before test-init-sampled",
        "after test-init-sampled",
    ]
    kills += [
        "sampling round-1 1",
        "sampling round-1 3",
        "before round-1",
        "after round-1",
        "after log-sampled-round-1",
    ]
    kills += ["training 3", "before train-round-1", "after train-round-1", "after validation-round-1"]
    kills += ["after log-evaluate-round-1", "before test-final-greedy", "after test-final-sampled", "before result"]
    kills += ["after result"]
    run = tmp_path / "runs/run"
    done_before: list[str] = []
    for kill in kills:
        killed = rlreason(tmp_path, *COMMAND, "name=run", kill=kill)
        assert killed.code == -9, f"{kill}: {killed.output[-2000:]}"
        assert not (run / "result.json").exists()
        done = [record["stage"] for record in journal(run)]
        assert done[: len(done_before)] == done_before
        assert len(done) == len(set(done)), "a finished stage was repeated"
        done_before = done
    rlreason(tmp_path, *COMMAND, "name=run").check()
    assert_same(run, uninterrupted)


def test_training_continues_from_its_last_checkpoint_to_the_same_weights(rlreason, tmp_path, uninterrupted):
    from safetensors.numpy import load_file

    killed = rlreason(tmp_path, *COMMAND, "name=run", kill="training 5")
    assert killed.code == -9
    run = tmp_path / "runs/run"
    assert list((run / "training/train-round-1").glob("checkpoint-4/complete"))
    rlreason(tmp_path, *COMMAND, "name=run").check()
    assert_same(run, uninterrupted)
    assert not (run / "training/train-round-1").exists()
    ours, theirs = (load_file(folder / "checkpoints/round-1/model.safetensors") for folder in (run, uninterrupted))
    sampled = [pd.read_parquet(folder / "rollouts/round-1.parquet")["text"] for folder in (run, uninterrupted)]
    if (sampled[0] == sampled[1]).all():
        for name, weights in ours.items():
            assert weights == pytest.approx(theirs[name], abs=1e-5), name

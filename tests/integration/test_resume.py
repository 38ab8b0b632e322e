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


KILLS = [
    "sampling validation-init 1",
    "after validation-init",
    "before test-init-sampled",
    "after test-init-sampled",
    "sampling round-1 1",
    "sampling round-1 3",
    "before round-1",
    "after round-1",
    "after log-sampled-round-1",
    "training 3",
    "before train-round-1",
    "after train-round-1",
    "after validation-round-1",
    "after log-evaluate-round-1",
    "before test-final-greedy",
    "after test-final-sampled",
    "before result",
    "after result",
]
# One of each kind. The engine of transformers starts in no time; vLLM is killed below, and everywhere in `make faults`.
A_FEW = [
    "after validation-init",
    "sampling round-1 3",
    "before round-1",
    "after log-sampled-round-1",
    "training 3",
    "before train-round-1",
    "after log-evaluate-round-1",
    "before result",
    "after result",
]


@pytest.fixture(scope="module")
def uninterrupted(rlreason, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    rlreason(folder, *COMMAND, "name=run").check()
    return folder / "runs/run"


def test_the_stages_are_those_that_the_kills_below_cover(uninterrupted):
    assert [record["stage"] for record in journal(uninterrupted)] == STAGES
    assert set(A_FEW) <= set(KILLS)


@pytest.mark.parametrize(
    ("engine", "kills"), [("transformers", A_FEW), pytest.param("vllm", KILLS, marks=pytest.mark.faults)]
)
def test_killed_at_every_boundary_and_in_the_middle_of_sampling_and_training(rlreason, tmp_path, engine, kills):
    command = [*COMMAND, f"engine={engine}", "name=run"]
    (tmp_path / "whole").mkdir()
    rlreason(tmp_path / "whole", *command).check()
    run = tmp_path / "runs/run"
    done_before: list[str] = []
    for kill in kills:
        killed = rlreason(tmp_path, *command, kill=kill)
        assert killed.code == -9, f"{kill}: {killed.output[-2000:]}"
        assert not (run / "result.json").exists()
        done = [record["stage"] for record in journal(run)]
        assert done[: len(done_before)] == done_before
        assert len(done) == len(set(done)), "a finished stage was repeated"
        done_before = done
    rlreason(tmp_path, *command).check()
    assert_same(run, tmp_path / "whole/runs/run")


def test_vllm_killed_in_the_middle_of_sampling_and_training_continues_to_the_same_weights(
    rlreason, tmp_path, uninterrupted
):
    from safetensors.numpy import load_file

    run = tmp_path / "runs/run"
    for kill in ("sampling round-1 3", "training 5"):
        killed = rlreason(tmp_path, *COMMAND, "name=run", kill=kill)
        assert killed.code == -9, f"{kill}: {killed.output[-2000:]}"
    assert list((run / "training/train-round-1").glob("checkpoint-4/complete"))
    rlreason(tmp_path, *COMMAND, "name=run").check()
    assert_same(run, uninterrupted)
    assert not (run / "training/train-round-1").exists()
    ours, theirs = (load_file(folder / "checkpoints/round-1/model.safetensors") for folder in (run, uninterrupted))
    sampled = [pd.read_parquet(folder / "rollouts/round-1.parquet")["text"] for folder in (run, uninterrupted)]
    if (sampled[0] == sampled[1]).all():
        for name, weights in ours.items():
            assert weights == pytest.approx(theirs[name], abs=1e-5), name

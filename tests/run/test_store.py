"""The rollout store: nothing finished is lost, everything is counted once."""

import os
import tracemalloc
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.run import store
from rlreason.types import Problem, Rollout, StepReward

PROBLEMS = {f"p{number}": Problem(f"p{number}", "q", "1") for number in range(4)}


def rollout(number: int, text: str = "#### 1") -> Rollout:
    asked = PROBLEMS[f"p{number // 2}"]
    return Rollout(asked, number % 2, 7 + number, (1, 2), (3, 4, 5), (-0.5, -0.25, -1.0), text, "stop")


def write(folder, stage, rollouts, batch=2):
    writer = store.PartWriter(folder, stage)
    for first in range(0, len(rollouts), batch):
        writer.append(rollouts[first : first + batch])
    return writer


def test_a_part_that_was_never_closed_is_read_in_full(tmp_path):
    rollouts = [rollout(number) for number in range(6)]
    write(tmp_path, "round-1", rollouts)
    assert store.read_parts(tmp_path, "round-1", PROBLEMS) == rollouts


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1))
def test_a_part_cut_anywhere_yields_a_prefix(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut")
    rollouts = [rollout(number) for number in range(8)]
    write(folder, "round-1", rollouts).close()
    part = next(folder.glob("*.arrows"))
    os.truncate(part, int(part.stat().st_size * share))
    found = store.read_parts(folder, "round-1", PROBLEMS)
    assert found == rollouts[: len(found)]
    assert len(found) % 2 == 0


def test_a_second_process_adds_a_part_and_repeats_count_once(tmp_path):
    first, second = [rollout(0), rollout(1)], [rollout(1), rollout(2), rollout(3)]
    write(tmp_path, "round-1", first)
    write(tmp_path, "round-1", second).close()
    assert len(list(tmp_path.glob("*.arrows"))) == 2
    assert store.read_parts(tmp_path, "round-1", PROBLEMS) == [rollout(number) for number in range(4)]


def test_stages_with_a_common_beginning_keep_apart(tmp_path):
    write(tmp_path, "round-1", [rollout(0)]).close()
    write(tmp_path, "round-10", [rollout(1)]).close()
    assert store.read_parts(tmp_path, "round-1", PROBLEMS) == [rollout(0)]


def test_a_sealed_stage_holds_every_column_and_comes_back_equal(tmp_path):
    scored = [
        replace(rollout(0, "é ✓ #### 1"), answer="1", correct=True, rewards=(StepReward(0, 3, 1.0),)),
        rollout(1, ""),
    ]
    store.seal(tmp_path, "round-1", scored, round_number=1, checkpoint="init", temperature=1.0)
    assert store.read_sealed(tmp_path, "round-1", PROBLEMS) == scored
    table = pq.read_table(tmp_path / "round-1.parquet")
    assert {"problem_id", "round", "sample", "text", "token_ids", "logprobs", "reward", "correct"} <= set(
        table.column_names
    )
    assert table["reward"].to_pylist() == [1.0, 0.0]
    assert table["round"].to_pylist() == [1, 1]


def test_sealing_leaves_no_half_written_file(tmp_path, monkeypatch):
    def full_disk(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.pq, "write_table", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.seal(tmp_path, "round-1", [], round_number=1, checkpoint="init", temperature=1.0)
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize("source", ["parts", "sealed"])
def test_a_rollout_from_disk_takes_no_more_than_its_own_tokens(tmp_path, source):
    """A few-shot prompt of 1,100 tokens and a solution of 124, as on GSM8K; the prompt alone would be 40 KiB."""
    ids = tuple(range(1000, 1124))
    prompt = tuple(range(2000, 3100))
    asked = Problem("p", "q", "1")
    rollouts = [
        Rollout(asked, number, number, prompt, ids, tuple(-n / 1024 for n in range(124)), "x" * 400, "stop")
        for number in range(1500)
    ]
    if source == "parts":
        write(tmp_path, "round-1", rollouts, batch=100).close()
    else:
        store.seal(tmp_path, "round-1", rollouts, round_number=1, checkpoint="c", temperature=1.0)
    read = {"parts": store.read_parts, "sealed": store.read_sealed}[source]
    tracemalloc.start()
    try:
        found = read(tmp_path, "round-1", {"p": asked})
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == rollouts
    assert held / len(found) <= 9 * 2**10
    assert most - held <= 2 * 256 * 60 * 2**10, "on the way, no more than two batches of rows with their prompts"

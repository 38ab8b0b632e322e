"""Which checkpoints are candidates, and with which of them a run of any algorithm ends."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rlreason.algorithms.selection import candidates, chosen, ended
from rlreason.config.updates import CANDIDATES

FIRST, SECOND, THIRD = Path("init"), Path("round-1"), Path("round-2")


def test_a_later_checkpoint_stands_within_one_standard_error() -> None:
    # Of 100 questions and a best of 0.8, the standard error is 0.04.
    assert chosen({FIRST: 0.1, SECOND: 0.8, THIRD: 0.765}, 100) == THIRD
    assert chosen({FIRST: 0.1, SECOND: 0.8, THIRD: 0.755}, 100) == SECOND


def test_equal_checkpoints_leave_the_last_and_a_collapse_the_start() -> None:
    assert chosen({FIRST: 0.9, SECOND: 0.9, THIRD: 0.9}, 200) == THIRD
    assert chosen({FIRST: 0.9, SECOND: 0.3, THIRD: 0.0}, 200) == FIRST
    assert chosen({FIRST: 0.0, SECOND: 0.0}, 200) == SECOND


def test_candidates_are_fine_at_the_beginning_and_stand_where_a_quarter_did() -> None:
    assert candidates(7, 128) == [4, 8, 16, 32, 64, 96, 128]
    assert candidates(4, 140) == [35, 70, 105, 140]


@given(st.integers(1, len(CANDIDATES)), st.integers(1, 1000))
def test_few_batches_have_few_candidates_and_always_the_last(evaluations: int, batches: int) -> None:
    found = candidates(evaluations, batches)
    assert found == sorted(set(found)) and found[-1] == batches
    assert found[0] >= 1
    assert len(found) <= min(evaluations, batches)


def test_what_a_run_ends_with_names_the_last_checkpoint_where_another_is_selected() -> None:
    fell = ended({FIRST: 0.1, SECOND: 0.8, THIRD: 0.5}, 100, 64, "all batches are done")
    assert (fell.policy, fell.last, fell.samples_seen) == (SECOND, THIRD, 64)
    assert "from 0.100 to 0.800" in fell.verdict and "the last one has 0.500" in fell.verdict
    rose = ended({FIRST: 0.1, SECOND: 0.8}, 100, 64, "all batches are done")
    assert rose.policy == rose.last == SECOND
    assert "last" not in rose.verdict

"""Which checkpoint an on-policy run ends with."""

from pathlib import Path

from rlreason.algorithms.on_policy import chosen

FIRST, SECOND, THIRD = Path("init"), Path("round-1"), Path("round-2")


def test_a_later_checkpoint_stands_within_one_standard_error() -> None:
    # Of 100 questions and a best of 0.8, the standard error is 0.04.
    assert chosen({FIRST: 0.1, SECOND: 0.8, THIRD: 0.765}, 100) == THIRD
    assert chosen({FIRST: 0.1, SECOND: 0.8, THIRD: 0.755}, 100) == SECOND


def test_equal_checkpoints_leave_the_last_and_a_collapse_the_start() -> None:
    assert chosen({FIRST: 0.9, SECOND: 0.9, THIRD: 0.9}, 200) == THIRD
    assert chosen({FIRST: 0.9, SECOND: 0.3, THIRD: 0.0}, 200) == FIRST
    assert chosen({FIRST: 0.0, SECOND: 0.0}, 200) == SECOND

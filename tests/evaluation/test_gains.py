"""A gain is split without a remainder, and its parts are covered at the rate that they state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.evaluation.gains import LEAST_FOUND, split_gain

STUDIES = 250


def answers(generator, seeds, questions, found, right, spread=0.0):
    """Whether an answer is found, and right, of questions that differ in how hard they are and seeds that differ."""
    shares = np.clip(right + generator.normal(0, spread, (seeds, 1)), 0.02, 0.98)
    there = generator.random((seeds, questions)) < found
    return there.astype(float), (there & (generator.random((seeds, questions)) < shares)).astype(float)


def split(before, after):
    return split_gain((before[0], after[0]), (before[1], after[1]))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.floats(0.4, 1), st.floats(0.4, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_parts_add_up_to_the_gain(seed, found_before, found_after, right_before, right_after):
    generator = np.random.default_rng(seed)
    before = answers(generator, 2, 80, found_before, right_before)
    after = answers(generator, 2, 80, found_after, right_after)
    made = split(before, after)
    if made is not None:
        assert made.by_found.value + made.by_right.value == pytest.approx(made.gain.value, abs=1e-12)
        assert made.gain.value == pytest.approx(after[1].mean() - before[1].mean(), abs=1e-12)
        for there, (correct, (found, right)) in zip(
            (before[0], after[0]), zip((before[1], after[1]), made.shares, strict=True), strict=True
        ):
            assert (found, found * right) == pytest.approx((there.mean(), correct.mean()))


def test_a_split_worked_by_hand():
    found = np.array([[1.0] * 40 + [0.0] * 60]), np.array([[1.0] * 80 + [0.0] * 20])
    right = np.array([[1.0] * 20 + [0.0] * 80]), np.array([[1.0] * 20 + [0.0] * 20 + [1.0] * 30 + [0.0] * 30])
    made = split_gain(found, right)
    assert made.shares == ((0.4, 0.5), (0.8, 0.625))
    assert made.by_found.value == pytest.approx(0.4 * (0.5 + 0.625) / 2)
    assert made.by_right.value == pytest.approx(0.125 * (0.4 + 0.8) / 2)
    assert made.gain.value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("found", "right", "spread"),
    [((0.3, 0.95), (0.4, 0.4), 0.03), ((0.95, 0.95), (0.2, 0.6), 0.05), ((0.6, 0.6), (0.3, 0.3), 0.0)],
    ids=["the form alone is learned", "answers alone are learned", "nothing is learned"],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_parts_are_covered_and_nothing_that_is_not_there_is_found(found, right, spread, seeds):
    generator = np.random.default_rng(5)
    truth = {
        "found": found[1] - found[0],
        "right": right[1] - right[0],
        "by_found": (found[1] - found[0]) * sum(right) / 2,
        "by_right": (right[1] - right[0]) * sum(found) / 2,
    }
    covered = dict.fromkeys(truth, 0)
    mostly_form = 0
    for _ in range(STUDIES):
        spreads = spread if seeds > 1 else 0.0  # one seed says nothing of others
        ends = [answers(generator, seeds, 150, *shares, spreads) for shares in zip(found, right, strict=True)]
        made = split(*ends)
        for name, value in truth.items():
            covered[name] += getattr(made, name).low <= value <= getattr(made, name).high
        mostly_form += made.gain.low > 0 and made.found_more.low > 0
    assert min(covered.values()) / STUDIES >= 0.92
    form_is_learned = truth["by_found"] > truth["by_right"]
    assert mostly_form / STUDIES >= 0.6 if form_is_learned else mostly_form / STUDIES <= 0.05


def test_half_a_gain_by_either_is_seldom_called_mostly_form():
    generator = np.random.default_rng(6)
    called = 0
    for _ in range(STUDIES):  # 0.5 x 0.5 to 0.7 x 0.7: both parts are 0.12
        made = split(answers(generator, 3, 150, 0.5, 0.5), answers(generator, 3, 150, 0.7, 0.7))
        called += made.gain.low > 0 and made.found_more.low > 0
    assert called / STUDIES <= 0.05


def test_what_hardly_answers_is_not_split():
    nothing = np.zeros((1, 100))
    everything = np.ones((1, 100))
    few = nothing.copy()
    few[0, : LEAST_FOUND - 1] = 1
    assert split_gain((few, everything), (nothing, everything)) is None
    enough = nothing.copy()
    enough[0, :LEAST_FOUND] = 1
    assert split_gain((enough, everything), (nothing, everything)) is not None


def test_an_answer_that_was_not_found_is_not_right():
    with pytest.raises(ValueError, match="cannot be right"):
        split_gain((np.zeros((1, 30)), np.ones((1, 30))), (np.ones((1, 30)), np.ones((1, 30))))


def test_changes_that_were_not_seen_leave_no_certainty():
    made = split((np.ones((1, 100)), np.zeros((1, 100))), (np.ones((1, 100)), np.tile([0.0, 1.0], (1, 50))))
    assert made.by_found.low < 0 < made.by_found.high
    assert made.right == made.gain

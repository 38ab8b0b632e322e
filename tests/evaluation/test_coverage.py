"""What two policies solve with many samples, and where their curves cross, against policies whose truth is known."""

import numpy as np
import pytest

from rlreason.evaluation.coverage import SOLVED, coverage, crossing
from rlreason.evaluation.statistics import crossed_estimate

SAMPLES, STUDIES = 8, 150


def counts(generator, chances, seeds, samples=SAMPLES):
    drawn = generator.binomial(samples, np.tile(chances, (seeds, 1)))
    return np.full(drawn.shape, samples), drawn


def two_policies(generator, questions):
    """A start that solves much now and then, and an end that solves less of it, and that for sure."""
    start = generator.beta(0.6, 1.5, questions)
    return start, np.where(start > 0.25, np.minimum(1, start * 1.8), start * 0.25)


def test_questions_worked_by_hand():
    start = np.array([[4, 4, 4, 4]]), np.array([[1, 2, 0, 0]])
    end = np.array([[4, 4, 4, 4]]), np.array([[4, 0, 1, 0]])
    made = coverage(start, end)
    assert [(name, item.value) for name, item in zip(SOLVED, made.solved, strict=True)] == [
        ("both", 0.25), ("start only", 0.25), ("end only", 0.25), ("neither", 0.25)]  # fmt: skip
    assert (made.samples, made.end_more.value) == (4, 0.0)


def test_more_samples_of_one_end_count_as_few():
    start = np.full((1, 50), 4), np.tile([0, 1, 2, 4, 3], (1, 10))
    end = np.full((1, 50), 16), np.tile([0, 1, 2, 4, 16], (1, 10))
    made = coverage(start, end)
    assert made.samples == 4
    assert sum(item.value for item in made.solved) == pytest.approx(1)
    assert made.solved[2].value - made.solved[1].value == pytest.approx(made.end_more.value)


def test_the_place_of_a_crossing_is_covered():
    start, end = two_policies(np.random.default_rng(0), 200_000)
    curve = [float(((1 - start) ** k - (1 - end) ** k).mean()) for k in range(1, SAMPLES + 1)]
    last = next(k for k, difference in enumerate(curve) if difference < 0)
    truth = last + curve[last - 1] / (curve[last - 1] - curve[last])
    generator = np.random.default_rng(1)
    covered = shown = 0
    for _ in range(STUDIES):
        first, second = two_policies(generator, 150)
        found = coverage(counts(generator, first, 2), counts(generator, second, 2)).crossing
        covered += found.low <= truth <= (found.high or np.inf)
        shown += "[" in found.text
    assert covered / STUDIES >= 0.93
    assert shown / STUDIES > 0.3


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_unchanged_policy_gains_and_loses_nothing_and_crosses_nowhere(seeds):
    generator = np.random.default_rng(2)
    covered = shown = 0
    for _ in range(STUDIES):
        chances = generator.beta(0.6, 1.5, 150)
        found = coverage(counts(generator, chances, seeds), counts(generator, chances, seeds))
        covered += found.end_more.low <= 0 <= found.end_more.high
        shown += "[" in found.crossing.text
    assert covered / STUDIES >= 0.92
    assert shown / STUDIES <= 0.05


def differences(*values, reach=0.05):
    made = crossed_estimate(np.tile([0.0, 1.0], 20))
    return [type(made)(value, value - reach, value + reach, 1.0, 1, 40, made.spread) for value in values]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.2, 0.1, 0.06, 0.01, -0.02, -0.06, -0.1), "5 [3, 6]"),
        ((-0.2, -0.1, 0.01, 0.1), "3 [2, 4]"),  # the end is better with many samples
        ((0.2, 0.1, 0.01), "none up to 3"),
        ((0.2, 0.1, -0.01), "3 (not shown)"),
        ((0.04, 0.01, -0.1), "3 (not shown)"),
        ((0.2,), "none up to 1"),
        ((0.0, 0.0), "none up to 2"),
    ],
)
def test_where_curves_cross(values, text):
    assert crossing(differences(*values)).text == text

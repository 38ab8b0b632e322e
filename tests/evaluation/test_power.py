"""What a study can see, against studies that are drawn."""

import math

import numpy as np
import pytest

from rlreason.evaluation.power import needed, smallest_seen
from rlreason.evaluation.statistics import Spread, crossed_estimate


def test_the_smallest_difference_of_one_set_of_questions_is_the_textbook_one():
    # 1,319 questions of which 20 % differ: 2.80 standard errors, 3.4 points.
    assert smallest_seen(Spread(0, 0.2, 0), 1, 1319) == pytest.approx(2.80 * math.sqrt(0.2 / 1319), rel=0.01)


@pytest.mark.parametrize(("seeds", "of_seeds"), [(1, 0.0), (3, 0.0), (5, 0.03), (8, 0.1)])
def test_four_of_five_studies_see_the_smallest_difference(seeds, of_seeds):
    generator = np.random.default_rng(2)
    difference = smallest_seen(Spread(of_seeds**2, 0.09, 0.09), seeds, 200)
    found = 0
    for _ in range(400):
        noise = generator.normal(0, 0.3, (seeds, 200)) + generator.normal(0, 0.3, (1, 200))
        found += crossed_estimate(difference + noise + generator.normal(0, of_seeds, (seeds, 1))).low > 0
    assert 0.72 <= found / 400 <= 0.92  # three seeds know their own spread too badly for an exact figure


def test_what_is_needed_is_enough_and_hardly_more():
    values = np.random.default_rng(1).normal(0.02, 0.3, (3, 400)) + np.array([[-0.02], [0.0], [0.02]])
    estimate = crossed_estimate(values)
    found = needed(estimate, 0.02)
    assert found.seeds > 3
    assert (
        smallest_seen(estimate.spread, found.seeds, 400) <= 0.02 < smallest_seen(estimate.spread, found.seeds - 1, 400)
    )
    assert found.questions is None  # the seeds' own spread stays, however many questions there are
    alike = crossed_estimate(np.repeat(values[:1], 3, axis=0))
    more = needed(alike, 0.02)
    assert more.seeds is None  # the questions' own spread stays, however many seeds there are
    assert smallest_seen(alike.spread, 3, more.questions) <= 0.02 < smallest_seen(alike.spread, 3, more.questions - 1)


def test_no_study_sees_no_difference():
    found = needed(crossed_estimate(np.random.default_rng(1).normal(0, 1, (3, 20))), 0.0)
    assert (found.seeds, found.questions) == (None, None)

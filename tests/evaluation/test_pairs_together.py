"""All pairs of some arms, judged by one spread of seeds: against the analysis of variance, and against its null."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t

from rlreason.evaluation.statistics import crossed_estimate, holm, p_values_together

SEEDS, QUESTIONS = 3, 200


def pairs(values):
    """The differences of all pairs; shape of the values: `(arms, seeds, questions)`."""
    return [crossed_estimate(one - other, kind="difference") for one, other in combinations(values, 2)]


def test_means_without_questions_have_the_test_of_an_analysis_of_variance():
    means = np.array([[0.1, 0.2, 0.15], [0.5, 0.4, 0.75], [0.3, 0.9, 0.2]])
    found = [crossed_estimate(np.repeat((one - other)[:, None], 50, axis=1)) for one, other in combinations(means, 2)]
    rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    pooled = 2 * (rest**2).sum() / 4
    of_pairs = [np.var(one - other, ddof=1) for one, other in combinations(means, 2)]
    expected = [
        2 * t.sf(abs(item.value) / math.sqrt(max(pooled, own) / 3), 4)
        for item, own in zip(found, of_pairs, strict=True)
    ]
    assert pooled == pytest.approx(np.mean(of_pairs))
    assert p_values_together(found, 3) == pytest.approx(expected)


def test_two_arms_and_single_seeds_keep_their_own_test():
    generator = np.random.default_rng(0)
    two, many = generator.random((2, SEEDS, 40)), generator.random((4, 1, 40))
    assert p_values_together(pairs(two), 2) == [pairs(two)[0].p_value]
    assert p_values_together(pairs(many), 4) == [item.p_value for item in pairs(many)]


def drawn(generator, arms, spread, lower=0.0):
    """Answers of arms that are equally good but for the first."""
    chances = 0.9 * generator.beta(2, 1, QUESTIONS)
    moved = spread * generator.normal(size=(arms, SEEDS))
    moved[0] -= lower
    return (generator.random((arms, SEEDS, QUESTIONS)) < np.clip(chances + moved[..., None], 0, 1)).astype(float)


def called(values, judged):
    """The arms that are called lower than the one with the highest mean."""
    best = int(values.mean(axis=(1, 2)).argmax())
    names = list(combinations(range(len(values)), 2))
    return {
        sum(pair) - best
        for pair, p_value in zip(names, holm(judged(pairs(values), len(values))), strict=True)
        if best in pair and p_value < 0.05
    }


def apart(differences, arms):
    return [item.p_value for item in differences]


@pytest.mark.parametrize(
    ("arms", "spread", "studies"), [(2, 0.02, 400), (5, 0.05, 200), (14, 0.0, 80), (14, 0.05, 120), (26, 0.02, 40)]
)
def test_of_equal_arms_hardly_one_is_called_lower_than_the_best_whatever_the_spread_of_seeds(arms, spread, studies):
    """The best was picked for being high, so the correction is for all pairs."""
    generator = np.random.default_rng(1)
    wrong = sum(bool(called(drawn(generator, arms, spread), p_values_together)) for _ in range(studies))
    assert wrong <= 0.05 * studies + 1.6 * math.sqrt(0.05 * studies)


def test_an_arm_that_is_much_lower_is_called_so_more_often_than_by_its_own_seeds_alone():
    generator = np.random.default_rng(2)
    studies = [drawn(generator, 14, 0.03, lower=0.2) for _ in range(20)]
    found = [sum(0 in called(values, judged) for values in studies) for judged in (p_values_together, apart)]
    assert found[0] >= 18 > 10 >= found[1]

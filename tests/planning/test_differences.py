"""What a plan says that an experiment could show is what the simulated intervals show."""

import re

import numpy as np
import pytest
from tests_support import composed

from rlreason.evaluation.power import ASSUMED, smallest_seen
from rlreason.evaluation.statistics import crossed_estimate
from rlreason.planning.differences import difference_lines, measured_questions, seen_line
from rlreason.sweep import differences_seen

STUDIES = 250


def test_a_plan_says_what_its_questions_can_show_and_what_smaller_differences_take() -> None:
    lines = difference_lines(composed())
    assert [line.partition(" show")[0] for line in lines[:3]] == [
        "400 questions and 1 seed, which says nothing of others,",
        "400 questions and 3 seeds",
        "400 questions and 5 seeds",
    ]
    shown = [float(re.search(r"of (0\.\d+) four", line)[1]) for line in lines[:3]]
    assert shown[2] < shown[1]
    assert [line[:22] for line in lines[3:6]] == [f"a difference of {size} t" for size in ("0.01", "0.02", "0.05")]
    assert lines[6].startswith("assumed: ")
    for line, size in zip(lines[3:6], (0.01, 0.02, 0.05), strict=True):
        for seeds, questions in re.findall(r"(\d+) seeds on ([\d,]+) questions", line):
            assert smallest_seen(ASSUMED, int(seeds), int(questions.replace(",", ""))) <= size


def test_questions_are_those_that_are_asked() -> None:
    assert measured_questions(composed("eval.split=validation")) == 200
    assert measured_questions(composed("data=gsm8k")) == 1319
    assert measured_questions(composed("data=files", "data.path=x.csv", "data.test_size=70")) == 70
    unknown = composed("data=files", "data.path=x.csv")
    assert measured_questions(unknown) is None
    assert difference_lines(unknown) == [
        "which differences it could show is unknown: so is the number of its questions"
    ]
    assert differences_seen([unknown]) is None


def test_a_sweep_counts_its_seeds_and_its_fewest_questions() -> None:
    sizes = [composed(f"seed={seed}", f"data.test_size={size}") for seed in (0, 1, 2) for size in (300, 100)]
    assert differences_seen(sizes) == seen_line(100, 3)


@pytest.mark.parametrize(("seeds", "questions"), [(3, 400), (5, 200)])
def test_what_is_assumed_is_seen_in_four_of_five_studies_and_nothing_is_in_one_of_twenty(seeds, questions) -> None:
    generator = np.random.default_rng(3)

    def seen(difference: float) -> float:
        found = 0
        for _ in range(STUDIES):
            of_seeds = generator.normal(0, ASSUMED.seeds**0.5, (seeds, 1))
            of_questions = generator.normal(0, ASSUMED.problems**0.5, (1, questions))
            rest = generator.normal(0, ASSUMED.rest**0.5, (seeds, questions))
            found += crossed_estimate(difference + of_seeds + of_questions + rest).low > 0
        return found / STUDIES

    assert 0.72 <= seen(smallest_seen(ASSUMED, seeds, questions)) <= 0.93
    assert seen(0.0) <= 0.05

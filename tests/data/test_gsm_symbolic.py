"""Questions generated from GSM8K's templates."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from rlreason.data.gsm_symbolic import SPLIT_SHARES, generate, split_of

SIZE = 300


def test_problems_have_steps_and_a_number_as_answer() -> None:
    problems = generate("train", SIZE, seed=0)
    assert len(problems) == SIZE
    assert len({problem.id for problem in problems}) == SIZE
    assert len({problem.question for problem in problems}) == SIZE
    assert all(problem.steps for problem in problems)
    assert 20 < len({problem.cluster for problem in problems}) < 100, "questions of one template belong together"
    assert not any("####" in step for problem in problems for step in problem.steps)
    assert all(re.fullmatch(r"-?\d+(\.\d+)?", problem.answer) for problem in problems)


def test_the_same_seed_gives_the_same_problems_and_a_larger_size_extends_them() -> None:
    # More than one chunk of draws, for a split that keeps a tenth of them.
    many = generate("validation", 250, seed=3)
    assert generate("validation", 20, seed=3) == many[:20]
    assert generate("validation", 20, seed=4) != many[:20]


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLIT_SHARES, 2)))
def test_splits_share_no_question_even_across_seeds(one: str, other: str) -> None:
    questions = [
        {problem.question.lower() for seed in (0, 1) for problem in generate(split, SIZE, seed)}
        for split in (one, other)
    ]
    assert not questions[0] & questions[1]


def test_other_names_stay_in_the_same_split() -> None:
    assert split_of("Ann has 3 cats and buys 2.5.", "5") == split_of("Bob has 3 dogs and buys 2.5.", "5")
    assert len({split_of(f"Ann has {number} cats.", "1") for number in range(50)}) == len(SPLIT_SHARES)


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="unknown split 'ood'"):
        generate("ood", 1, 0)

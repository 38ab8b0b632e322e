"""Generated word problems: right solutions, and splits that share nothing."""

from __future__ import annotations

import operator
import re
from itertools import combinations

import pytest

from rlreason.data.wordproblems import NAMES, SPLIT_SHARES, THINGS, generate
from rlreason.types import Problem

SPLITS = (*SPLIT_SHARES, "ood")
EQUATION = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def without_names(question: str) -> str:
    """What is left of a question when names and things are taken out: sentences and numbers."""
    return re.sub(rf"\b({'|'.join(NAMES + THINGS)})\b", "_", question)


def results(problem: Problem) -> list[int]:
    """The results of all equations of the solution, each checked."""
    found = []
    for step in problem.steps:
        equations = EQUATION.findall(step)
        assert len(equations) == 1, step
        left, symbol, right, result = equations[0]
        assert APPLY[symbol](int(left), int(right)) == int(result), step
        found.append(int(result))
    return found


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_solution_is_right(split: str, seed: int) -> None:
    for problem in generate(split, 200, seed):
        values = results(problem)
        assert problem.answer == str(values[-1])
        assert all(value > 0 for value in values)


def test_every_step_continues_from_the_one_before() -> None:
    for problem in generate("train", 300, seed=0):
        first = int(re.findall(r"\d+", problem.question)[0])
        values = [first, *results(problem)]
        for step, before in zip(problem.steps, values, strict=False):
            left, _, right, _ = EQUATION.findall(step)[0]
            together = step is problem.steps[-1] and re.search(r"together\?|in all\?", problem.question)
            assert before == int(right if together else left), problem


@pytest.mark.parametrize("split", SPLITS)
def test_number_of_steps(split: str) -> None:
    steps = {len(problem.steps) for problem in generate(split, 200, seed=0)}
    assert steps == ({5, 6} if split == "ood" else {2, 3, 4})


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_split_has_a_question_of_another_even_under_other_names(seed: int) -> None:
    questions = {split: {without_names(item.question) for item in generate(split, 500, seed)} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not questions[one] & questions[other]


def test_no_split_has_a_question_of_another_under_another_seed() -> None:
    train = {without_names(problem.question) for seed in range(4) for problem in generate("train", 500, seed)}
    test = {without_names(problem.question) for seed in range(4, 8) for problem in generate("test", 500, seed)}
    assert not train & test


def test_ids_and_questions_are_unique_across_splits() -> None:
    problems = [problem for split in SPLITS for problem in generate(split, 300, seed=0)]
    assert len({problem.id for problem in problems}) == len(problems)
    assert len({problem.question for problem in problems}) == len(problems)


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_gives_the_same_problems_and_a_larger_size_extends_them(split: str) -> None:
    assert generate(split, 20, seed=5) == generate(split, 50, seed=5)[:20]
    assert generate(split, 20, seed=5) != generate(split, 20, seed=6)


def test_the_first_problem_stays_what_it_is() -> None:
    # The embedded models were trained on the pretrain split: a change of the stream could leak test problems into it.
    assert generate("test", 1, seed=0)[0].id == FIRST_TEST_ID


FIRST_TEST_ID = "wordproblems-13ed0b9a1c6d"


def test_no_problems() -> None:
    assert generate("train", 0, seed=0) == []


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        generate("dev", 1, 0)

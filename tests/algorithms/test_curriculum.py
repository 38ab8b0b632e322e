"""Which questions come when, and where their solutions start."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from toy_policy import PPO

from rlreason.algorithms.curriculum import Curriculum
from rlreason.types import Asked, Problem, Rollout

PROBLEMS = [Problem(str(number), "?", "1", ("one", "two")) for number in range(10)]
PREFIXES = {problem.id: [(), (1,), (1, 2)] for problem in PROBLEMS}


def outcomes(asked: list[Asked], right: dict[str, float], samples: int = 4) -> list[Rollout]:
    return [
        Rollout(item.problem, sample, 0, (), (), (), "", "stop", correct=sample < right[item.problem.id] * samples)
        for item in asked
        for sample in range(samples)
    ]


@given(st.integers(1, 10), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_uniform_passes_ask_every_question_equally_often(count: int, seed: int) -> None:
    curriculum = Curriculum(replace(PPO, questions=count, samples=32), PROBLEMS, {}, seed)
    batches = [[item.problem.id for item in curriculum.choose(number)] for number in range(1, 11)]
    assert all(len(set(batch)) == count for batch in batches)
    if 10 % count == 0:
        asked = sorted(problem for batch in batches for problem in batch)
        assert asked == sorted([problem.id for problem in PROBLEMS] * count)


def test_a_start_moves_back_as_it_is_mastered() -> None:
    config = replace(PPO, questions=2, samples=16, backtracking=True)
    curriculum = Curriculum(config, PROBLEMS[:2], PREFIXES, 0)
    starts = []
    for number in range(1, 5):
        asked = curriculum.choose(number)
        starts.append({item.problem.id: item.given_ids for item in asked})
        curriculum.learn(number, asked, outcomes(asked, {"0": 0.75, "1": 0.25}))
    assert [start["0"] for start in starts] == [(1, 2), (1,), (), ()]
    assert [start["1"] for start in starts] == [(1, 2)] * 4


def test_questions_that_teach_more_are_asked_more_often() -> None:
    """Half right teaches most, always right or wrong nothing; what is not asked for long comes back all the same."""
    config = replace(PPO, questions=2, samples=16, replay="prioritized")
    curriculum = Curriculum(config, PROBLEMS, {}, 0)
    right = {problem.id: 0.5 if int(problem.id) < 3 else 1.0 for problem in PROBLEMS}
    counts = dict.fromkeys(right, 0)
    for number in range(1, 401):
        asked = curriculum.choose(number)
        curriculum.learn(number, asked, outcomes(asked, right))
        for item in asked:
            counts[item.problem.id] += 1
    hard, easy = [counts[str(n)] for n in range(3)], [counts[str(n)] for n in range(3, 10)]
    assert min(hard) > 2 * max(easy)
    assert min(easy) > 5


def test_a_curriculum_that_is_told_the_same_batches_chooses_the_same() -> None:
    config = replace(PPO, questions=3, samples=32, minibatch_size=32, replay="prioritized", backtracking=True)
    first, second = (Curriculum(config, PROBLEMS, PREFIXES, 7) for _ in range(2))
    right = {problem.id: int(problem.id) / 10 for problem in PROBLEMS}
    for number in range(1, 6):
        asked = first.choose(number)
        assert asked == second.choose(number)
        for curriculum in (first, second):
            curriculum.learn(number, asked, outcomes(asked, right))

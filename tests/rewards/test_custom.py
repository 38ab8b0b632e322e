"""Rewards of the user's own: what they are given, what they may give, and how each mistake is met."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.answers.steps import StepSplitter
from rlreason.errors import UserError
from rlreason.rewards.base import RewardConfig
from rlreason.rewards.custom import CUSTOM, CustomRewardConfig, check_function, with_own
from rlreason.rewards.dense import DenseRewardConfig, dense_reward
from rlreason.rewards.sparse import SparseRewardConfig, sparse_reward
from rlreason.types import Problem, Rollout

OWN = """
import asyncio
import time
import numpy as np

def sparse(problem, completion):
    return float(completion.correct)

def seen(problem, completion):
    assert problem.question == "How many?" and problem.answer == "15" and problem.steps == ("3*5=15",)
    assert problem.columns == {"level": 3}
    assert completion.text.startswith("3*4=12") and completion.answer == "15"
    assert completion.steps == ("3*4=12", "#### 15") and completion.finish_reason == "stop"
    return problem.columns["level"]

def every_step(problem, completion):
    return [0.25] * len(completion.steps)

def array(problem, completion):
    return np.full(len(completion.steps), 0.25)

def whole(problem, completion):
    return True

def scalar(problem, completion):
    return np.array(1.0)

def in_batch(problems, completions, batch=True):
    return [len(completion.steps) for completion in completions]

waiting = []

async def awaited(problem, completion):
    waiting.append(completion)
    while len(waiting) < 4:  # comes to an end only where four are awaited at a time
        await asyncio.sleep(0)
    return float(completion.correct)

def slow(problem, completion):
    time.sleep(0.06)
    return 1.0

async def awaited_in_batch(problems, completions, batch=True):
    await asyncio.sleep(0)
    return [1.0] * len(problems)

def raises(problem, completion):
    return 1 / 0

def nothing(problem, completion):
    pass

def not_a_number(problem, completion):
    return float("nan")

def endless(problem, completion):
    return float("inf")

def text(problem, completion):
    return "1"

def too_many(problem, completion):
    return [1.0] * 9

def wrong_step(problem, completion):
    return [None] * len(completion.steps)

def hangs(problem, completion):
    while True:
        pass

def hangs_though_guarded(problem, completion):
    try:
        time.sleep(100)
    except Exception:
        return 1.0

async def never_done(problem, completion):
    await asyncio.sleep(100)

async def never_gives_back(problem, completion):
    time.sleep(100)

def batch_raises(problems, completions, batch=True):
    raise KeyError("key")

def batch_too_few(problems, completions, batch=True):
    return [1.0]

def batch_number(problems, completions, batch=True):
    return 1.0

def batch_hangs(problems, completions, batch=True):
    time.sleep(100)

def other_arguments(text):
    return 1.0

def keyword(problem, completion, *, level):
    return 1.0

number = 3
"""
PROBLEM = Problem("own-7", "How many?", "15", ("3*5=15",), {"level": 3})


class Characters:
    """A tokeniser of one token per character."""

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids))


SPLITTER = StepSplitter(Characters())


def graded(text, correct):
    ids = tuple(map(ord, text))
    steps = SPLITTER.split(ids, text)
    return Rollout(PROBLEM, 0, 0, (1,), ids, (-1.0,) * len(ids), text, "stop", steps, "15", correct)


RIGHT = graded("3*4=12\n#### 15\nand more", True)
WRONG = graded("3*4=12\n#### 15", False)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "my_rewards.py"
    path.write_text(OWN, encoding="utf-8")
    return lambda name: f"{path}:{name}"


def custom(function, weight=1.0, seconds=60.0):
    return CustomRewardConfig(
        name="custom", threshold=1.0, function=function, function_weight=weight, function_seconds=seconds
    )


def earned(config: RewardConfig, *rollouts):
    return with_own(partial(CUSTOM.score, settings=config), config)(rollouts)


def returns(config, *rollouts):
    return [sum(step.value for step in steps) for steps in earned(config, *rollouts)]


def test_a_function_sees_the_problem_with_its_columns_and_the_completion_with_its_steps(own):
    assert returns(custom(own("seen")), RIGHT) == [3.0]


@pytest.mark.parametrize("name", ["whole", "scalar"])
def test_a_number_is_earned_by_the_step_of_the_answer(own, name):
    ((credit,),) = earned(custom(own(name)), RIGHT)
    assert RIGHT.text[credit.start : credit.end] == "#### 15\n"
    assert credit.value == 1.0


@pytest.mark.parametrize("name", ["every_step", "array"])
def test_one_number_for_every_step_is_earned_by_each(own, name):
    (credits,) = earned(custom(own(name), weight=2.0), RIGHT)
    assert [(RIGHT.text[item.start : item.end], item.value) for item in credits] == [
        ("3*4=12\n", 0.5),
        ("#### 15\n", 0.5),
    ]


def test_a_function_that_says_what_the_sparse_reward_says_gives_the_same_to_the_last_bit(own):
    assert earned(custom(own("sparse")), RIGHT, WRONG) == sparse_reward([RIGHT, WRONG])


@pytest.mark.parametrize(("name", "expected"), [("in_batch", [2.0, 2.0]), ("awaited_in_batch", [1.0, 1.0])])
def test_a_function_with_a_parameter_batch_takes_lists(own, name, expected):
    assert returns(custom(own(name)), RIGHT, WRONG) == expected


def test_async_functions_are_awaited_together(own):
    assert returns(custom(own("awaited"), seconds=5), *[RIGHT, WRONG] * 2) == [1.0, 0.0] * 2


@pytest.mark.parametrize("name", ["sparse", "in_batch", "awaited", "awaited_in_batch"])
def test_no_rollouts_earn_nothing(own, name):
    assert earned(custom(own(name))) == []


@given(st.floats(-3, 3), st.lists(st.booleans(), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_added_to_another_reward_its_values_count_by_their_weight(own, weight, outcomes):
    shared = {"function": own("every_step"), "function_weight": weight, "function_seconds": 60.0}
    rollouts = [RIGHT if outcome else WRONG for outcome in outcomes]
    for config, score in (
        (SparseRewardConfig(name="sparse", threshold=1.0, **shared), sparse_reward),
        (DenseRewardConfig(name="dense", threshold=1.0, weight=0.5, **shared), dense_reward),
    ):
        shipped = score(rollouts, config)
        both = with_own(partial(score, settings=config), config)(rollouts)
        for item, own_part, alone in zip(rollouts, both, shipped, strict=True):
            expected = sum(credit.value for credit in alone) + 2 * 0.25 * weight
            assert sum(credit.value for credit in own_part) == pytest.approx(expected)
            assert [credit.start for credit in own_part] == sorted({credit.start for credit in own_part})
            assert all(credit.value != 0 and credit.end <= len(item.completion_ids) for credit in own_part)


def test_without_a_function_a_reward_is_itself(own):
    config = SparseRewardConfig(name="sparse", threshold=1.0, function=None, function_weight=1.0, function_seconds=60.0)
    assert with_own(sparse_reward, config) is sparse_reward


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "raised ZeroDivisionError: division by zero in line"),
        ("nothing", "gave None, which is no number"),
        ("not_a_number", "gave nan, which is no finite number"),
        ("endless", "gave inf, which is no finite number"),
        ("text", "gave '1', which is no number"),
        ("too_many", "gave 9 values for 2 steps"),
        ("wrong_step", "gave [None, None], which is no number"),
        ("hangs", "took longer than reward.function_seconds=0.1"),
        ("hangs_though_guarded", "took longer than reward.function_seconds=0.1"),
        ("never_done", "took longer than reward.function_seconds=0.1"),
        ("never_gives_back", "took longer than reward.function_seconds=0.1"),
        ("batch_raises", "raised KeyError: 'key' in line"),
        ("batch_too_few", "gave 1 values for 2 completions"),
        ("batch_number", "gave 1.0, which is no list"),
        ("batch_hangs", "took longer than reward.function_seconds=0.1"),
    ],
)
def test_what_a_function_does_wrong_is_one_line_that_names_it_and_the_question(own, name, words):
    with pytest.raises(UserError) as caught:
        earned(custom(own(name), seconds=0.1), RIGHT, WRONG)
    line = str(caught.value)
    assert line.startswith(f"reward.function={own(name)} {words}"), line
    assert "own-7 ('How many?')" in line
    assert "\n" not in line


def test_calls_may_take_longer_together_than_each_of_them_may(own):
    assert returns(custom(own("slow"), seconds=0.3), *[RIGHT] * 6) == [1.0] * 6


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other_arguments", "must take (problem, completion): too many positional arguments"),
        ("keyword", "must take (problem, completion): missing a required argument: 'level'"),
        ("number", "is no function"),
        ("missing", "has no attribute 'missing'"),
    ],
)
def test_what_cannot_be_called_is_refused_before_the_run(own, name, words):
    with pytest.raises(UserError) as caught:
        check_function(own(name))
    assert f"reward.function={own(name)}" in str(caught.value)
    assert words in str(caught.value)


def test_a_function_that_shows_no_signature_is_refused():
    with pytest.raises(UserError, match=r"reward\.function=math:hypot must take \(problem, completion\)"):
        check_function("math:hypot")


def test_what_can_be_called_is_not_refused(own):
    for name in ("sparse", "in_batch", "awaited", "awaited_in_batch", "raises"):
        check_function(own(name))


def test_a_reward_without_its_function_is_refused():
    with pytest.raises(
        UserError, match=r"reward\.function is missing; name the function of your own .*: FILE\.py:NAME"
    ):
        custom(None)


def test_a_weight_of_zero_leaves_the_other_reward_alone(own):
    config = SparseRewardConfig(
        name="sparse", threshold=1.0, function=own("every_step"), function_weight=0.0, function_seconds=60.0
    )
    assert with_own(partial(sparse_reward, settings=config), config)([RIGHT, WRONG]) == sparse_reward([RIGHT, WRONG])

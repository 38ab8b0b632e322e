"""Rewards of control: a coin that no solution moves, and the form without the content."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from rewards.test_rewards import graded

from rlreason.rewards.controls import FormatRewardConfig, RandomRewardConfig, format_reward, random_reward

SHARED = {"threshold": 1.0, "function": None, "function_weight": 1.0, "function_seconds": 60.0}
COIN = RandomRewardConfig(name="random", probability=0.3, **SHARED)
FORM = FormatRewardConfig(name="format", **SHARED)
RIGHT, WRONG = graded("3*4=12\n#### 15\nmore", True), graded("I do not know", False)


def test_a_coin_has_its_mean_and_does_not_look_at_the_solution() -> None:
    thrown = [replace(RIGHT, seed=seed) for seed in range(4000)]
    values = [bool(earned) for earned in random_reward(thrown, COIN)]
    assert abs(sum(values) / len(values) - 0.3) < 0.03
    assert [bool(earned) for earned in random_reward([replace(WRONG, seed=n) for n in range(4000)], COIN)] == values


@given(st.permutations(range(8)), st.integers(1, 7))
def test_a_resumed_run_throws_the_same_coins_in_whatever_order_and_parts(order: list[int], part: int) -> None:
    thrown = [replace(RIGHT, seed=seed, sample=seed % 3) for seed in range(8)]
    whole = random_reward(thrown, COIN)
    shuffled = [thrown[number] for number in order]
    parts = random_reward(shuffled[:part], COIN) + random_reward(shuffled[part:], COIN)
    assert parts == [whole[number] for number in order]


def test_the_form_pays_any_stated_answer_at_the_end_of_its_line() -> None:
    right, wrong, none, heading, empty = format_reward(
        [RIGHT, graded("#### 99", False), WRONG, graded("#### Step 1\n3*4=12", False), graded("", False)], FORM
    )
    assert [(item.value, RIGHT.text[item.start : item.end]) for item in right] == [(1.0, "#### 15\n")]
    assert [item.value for item in wrong] == [1.0]
    assert (none, heading, empty) == ((), (), ())


def test_an_empty_completion_has_no_token_to_be_paid_at() -> None:
    empty = graded("", False)
    assert random_reward([replace(empty, seed=seed) for seed in range(20)], COIN) == [()] * 20

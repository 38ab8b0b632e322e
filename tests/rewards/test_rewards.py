"""Sparse and dense rewards: hand-worked examples, and what no solution may gain by."""

import re
from dataclasses import replace

import pytest
from gsm8k_like import write_gsm8k
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import composed

from rlreason.answers.extraction import extract_answer
from rlreason.answers.steps import StepSplitter
from rlreason.data.gsm8k import load
from rlreason.errors import UserError
from rlreason.rewards.dense import DenseRewardConfig, dense_reward, lacks_results, matched_results, reference_results
from rlreason.rewards.sparse import sparse_reward
from rlreason.types import Problem, Rollout

CONFIG = DenseRewardConfig(
    name="dense", weight=0.5, threshold=0.833, function=None, function_weight=1.0, function_seconds=60.0
)
PROBLEM = Problem(
    "p",
    "Tom has 3 bags of 4 apples. He eats 2 apples and buys 5 pears. How many fruits are there?",
    "15",
    ("He has 3*4=<<3*4=12>>12 apples.", "After eating, 12-2=<<12-2=10>>10 stay.", "In all 10+5=<<10+5=15>>15 fruits."),
)


class Characters:
    """A tokeniser of one token per character."""

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids))


SPLITTER = StepSplitter(Characters())


def graded(text, correct, problem=PROBLEM):
    ids = tuple(map(ord, text))
    steps = SPLITTER.split(ids, text)
    return Rollout(problem, 0, 0, (1,), ids, (-1.0,) * len(ids), text, "stop", steps, extract_answer(text), correct)


BEST = 1 + CONFIG.weight  # by which everything is divided


def total(text, correct, problem=PROBLEM, config=CONFIG):
    return sum(step.value for step in dense_reward([graded(text, correct, problem)], config)[0])


def test_sparse_pays_a_right_answer_at_the_end_of_its_line():
    text = "3*4=12\n#### 15\nand more"
    (reward,) = sparse_reward([graded(text, True)])[0]
    assert (reward.value, text[reward.start : reward.end]) == (1.0, "#### 15\n")
    assert sparse_reward([graded(text, False), graded("", False)]) == [(), ()]


def test_dense_by_hand():
    text = "3*4=12\n12-2=11\n10+5=15\n#### 15"
    rewards = dense_reward([graded(text, True)], CONFIG)[0]
    assert [(text[item.start : item.end], pytest.approx(item.value * BEST)) for item in rewards] == [
        ("3*4=12\n", 0.5 / 3),
        ("12-2=11\n", -0.5 / 3),
        ("10+5=15\n", 0.5 / 3),
        ("#### 15", 1.0),
    ]
    assert total("3*4=12\n12-2=10\n10+5=15\n#### 15", True) == pytest.approx(1.0)
    assert total("#### 15", True) == pytest.approx(1.0 / BEST)
    assert total("3*4=12\n12-2=10\n10+5=15\n#### 16", False) == pytest.approx(0.5 / BEST)


@pytest.mark.parametrize(
    "text",
    [
        "3*4=12\n3*4=12\n3*4=12\n#### 1",
        "So 3 x 4 = 12 apples.\n#### 1",
        "3 * 4 = $12.00\n#### 1",
        "<<3*4=12>>\n#### 1",
        "3*4=12\n#### 1\n12-2=10\n10+5=15",
        "2*6=12\n#### 1",
        "- 3 + 4 * 2 + 1 = 12 apples\n#### 1",
        "3*4=12\n4*3=12\n6+6=12\n#### 1",
        "5*3=15\n3*4=12\n12-1=11\n#### 1",
    ],
)
def test_one_result_is_worth_the_same_however_it_is_written(text):
    assert total(text, False) == pytest.approx(0.5 / 3 / BEST)


@pytest.mark.parametrize(
    "text",
    [
        *("", PROBLEM.question, "Tom has 3 bags of 4 apples.\n#### 9", "#### 15", "12-2=9", "I do not know."),
        *(
            "That makes 12 apples",
            "total = 12",
            "12 = 12",
            "(12) = 12",
            "7*7=12\n1-1=10\n2/1=15",
            "x+1=12",
            "3+4=12=12",
        ),
        *("3*4=12\n3*3=9", "5*4=20\n3*4=12", "2^3 = 12", "1/0=12"),
    ],
)
def test_what_earns_nothing(text):
    assert total(text, False) == 0


def listed(last, form):
    return [form.format(number) for number in range(1, last + 1)]


CHEATS = {
    "numbers, one a line": "\n".join(listed(60, "{}")),
    "false equations, one a line": "\n".join(listed(60, "0={}")),
    "false equations in one line": " ".join(listed(60, "0={}")),
    "annotations without an operation": "".join(listed(60, "<<{0}={0}>>")),
    "annotations of false equations": "".join(listed(60, "<<1+1={}>>")),
    "operations that change nothing": "\n".join(listed(60, "{0}+0={0}")),
    "the same in one line": " ".join(listed(60, "{0}*1={0}")),
    "equations with names": "\n".join(listed(60, "x={}")),
    "prose": "\n".join(listed(60, "There are {} of them.")),
    "one equation with many right sides": "3*4" + "".join(listed(60, "={}")),
    "guesses, then the results": "\n".join([*listed(60, "{0}+0={0}"), "3*4=12", "12-2=10", "10+5=15"]),
    "the results, then guesses": "\n".join(["3*4=12", "12-2=10", "10+5=15", *listed(60, "{0}-0={0}")]),
    "every operation on the question's numbers": "\n".join(
        f"{a}{sign}{b}={result}"
        for a in (3, 4, 2, 5)
        for b in (3, 4, 2, 5)
        for sign, result in (("+", a + b), ("-", a - b), ("*", a * b))
        if a != b
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_listing_numbers_and_guessing_equations_earn_nothing(cheat):
    assert total(f"{CHEATS[cheat]}\n#### 0", False) == pytest.approx(0)
    assert total(f"{CHEATS[cheat]}\n#### 15", True) == pytest.approx(1 / BEST), "nor do they spoil a right answer"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("+-*"), st.integers(0, 30), st.integers(-9, 60)), max_size=12
    )
)
def test_what_is_not_computed_or_not_in_the_reference_is_never_worth_adding(guesses):
    right = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
    wrong = [f"{a}{sign}{b}={c}" for a, sign, b, c in guesses if right[sign](a, b) != c or c not in (12, 10, 15)]
    text = "\n".join([*wrong[: len(wrong) // 2], "3*4=12", *wrong[len(wrong) // 2 :]])
    assert 0 <= total(text, False) <= total("3*4=12", False) + 1e-9
    assert total(text, False) == pytest.approx(0 if wrong else 0.5 / 3 / BEST)


def test_rounded_results_and_percentages_hold():
    problem = Problem("p", "?", "20", ("7/3=2.33", "20% * 50 = 10", "10/50=20%"))
    assert total("7/3=2.33\n0.2*50=10\n5/25=20%", False, problem) == pytest.approx(0.5 / BEST)
    assert total("7/3=2.33\n20*50=10", False, problem) == 0, "what is false costs as much as what is found earns"


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_every_question_can_earn_one_and_no_wrong_answer_reaches_the_threshold(weight):
    config = replace(CONFIG, weight=weight)
    none, one = Problem("p", "How many?", "2", ("Just think.",)), Problem("p", "How many?", "2", ("1+1=2",))
    for problem in (PROBLEM, none, one):
        whole = "\n".join(problem.steps)
        assert total(f"{whole}\n#### 2", True, problem, config) == pytest.approx(1)
        assert total(f"{whole}\n#### 1", False, problem, config) < config.threshold


def test_the_shipped_threshold_is_a_right_answer_and_at_least_half_of_the_results():
    shipped = composed("reward=dense").reward
    kept = {count: (1 + shipped.weight * count / 4) / (1 + shipped.weight) >= shipped.threshold for count in range(5)}
    assert kept == {0: False, 1: False, 2: True, 3: True, 4: True}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["reward=dense", "reward.threshold=1.25"], "reward.threshold=1.25 is out of reach"),
        (["reward.threshold=2"], "reward.threshold=2 is out of reach: with reward=sparse"),
        (["reward=orm", "reward.threshold=1.01"], "reward.threshold=1.01 is out of reach"),
        (["algo=ei", "algo.threshold=1.25", "reward=dense"], "algo.threshold=1.25 is out of reach"),
    ],
)
def test_a_threshold_that_no_solution_reaches_is_refused(override, message):
    with pytest.raises(UserError, match=message):
        composed(*override)


def test_a_function_of_the_users_own_may_add_to_what_can_be_earned():
    added = ["reward.function=posixpath:join", "reward.threshold=2", "algo.threshold=3"]
    assert composed("algo=ei", *added).reward.threshold == 2


def test_a_reference_without_results_falls_back_to_the_outcome():
    problem = Problem("p", "How many?", "2", ("Just think.",))
    assert lacks_results(problem)
    assert lacks_results(Problem("p", "How many?", "2"))
    assert total("1+1=2\n#### 2", True, problem) == 1.0
    assert total("1+1=2\n#### 3", False, problem) == 0.0


LINES = st.lists(
    st.sampled_from(["3*4=12", "12-2=10", "10+5=15", "12-2=11", "4*3=12", "so 12", "10", "#### 15", "", "2+3=5"]),
    max_size=9,
)


@settings(deadline=None)
@given(LINES, st.booleans())
def test_properties_of_the_dense_reward(lines, correct):
    text = "\n".join(lines)
    value = total(text, correct)
    steps = total(text, False)
    right = 1 / BEST if correct else 0
    assert -1e-9 <= steps <= CONFIG.weight / BEST + 1e-9, "every reference result is credited at most once"
    assert value == pytest.approx(steps + (right if text else 0))
    assert total(text + "\n#### 15\n3*4=12\n12-2=10\n10+5=15", correct) <= max(value, steps + right) + 1e-9
    assert total(re.sub(r"([-+*=])", r"  \1 ", text), correct) == pytest.approx(value)
    assert matched_results(lines + lines, PROBLEM)[-1:] == matched_results(lines, PROBLEM)[-1:]


def test_reference_solutions_earn_everything_and_corrupted_ones_less(tmp_path):
    folder = str(write_gsm8k(tmp_path))
    for problem in load("train", folder) + load("test", folder):
        count = len(reference_results(problem))
        text = "\n".join(problem.steps) + f"\n#### {problem.answer}"
        assert total(text, True, problem) == pytest.approx(1), problem.id
        annotated = list(re.finditer(r"=(-?[0-9.]+)>>", text))
        assert 1 <= len(annotated) <= count, "lines without annotations may have results too"
        for match in annotated:
            # The annotation's result only: what the calculator said decides, whatever the prose repeats.
            corrupted = f"{text[: match.start(1)]}98765{text[match.end(1) :]}"
            # One is missing, and one is there that should not be.
            share = max(0, 1 - 2 / count)
            assert total(corrupted, True, problem) == pytest.approx((1 + CONFIG.weight * share) / BEST), problem.id


NUMBERS = st.integers(0, 10**6)


@given(st.lists(st.tuples(NUMBERS, st.sampled_from("+-*"), NUMBERS), min_size=1, max_size=6), st.booleans(), st.data())
def test_every_annotated_result_of_any_reference_earns_its_part(operations, commas, data):
    results = [{"+": a + b, "-": a - b, "*": a * b}[sign] for a, sign, b in operations]
    lines = [
        f"That is {a} {sign} {b} = <<{a}{sign}{b}={result}>>{format(result, ',') if commas else result} in all."
        for (a, sign, b), result in zip(operations, results, strict=True)
    ]
    problem = Problem("p", "How many?", str(results[-1]), tuple(lines))
    assert [value for _, value in reference_results(problem)] == results
    whole = "\n".join(lines) + f"\n#### {results[-1]}"
    assert total(whole, True, problem) == pytest.approx(1)
    missing = data.draw(st.integers(0, len(lines) - 1))
    without = "\n".join(lines[:missing] + lines[missing + 1 :]) + f"\n#### {results[-1]}"
    share = (len(lines) - 1) / len(lines)
    assert total(without, True, problem) == pytest.approx((1 + CONFIG.weight * share) / BEST)

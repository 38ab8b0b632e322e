"""Sparse and dense rewards: hand-worked examples, and what no solution may gain by."""

import re

import pytest
from gsm8k_like import write_gsm8k
from hypothesis import given, settings
from hypothesis import strategies as st

from rlreason.answers.steps import StepSplitter
from rlreason.data.gsm8k import load
from rlreason.rewards.dense import DenseRewardConfig, dense_reward, lacks_results, matched_results, reference_results
from rlreason.rewards.sparse import sparse_reward
from rlreason.types import Problem, Rollout

CONFIG = DenseRewardConfig(
    name="dense", weight=0.5, threshold=1.25, function=None, function_weight=1.0, function_seconds=60.0
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
    return Rollout(problem, 0, 0, (1,), ids, (-1.0,) * len(ids), text, "stop", steps, None, correct)


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
    assert [(text[item.start : item.end], pytest.approx(item.value)) for item in rewards] == [
        ("3*4=12\n", 0.5 / 3),
        ("10+5=15\n", 0.5 / 3),
        ("#### 15", 1.0),
    ]
    assert total("3*4=12\n12-2=10\n10+5=15\n#### 15", True) == pytest.approx(1.5)
    assert total("#### 15", True) == pytest.approx(1.0)
    assert total("3*4=12\n12-2=10\n10+5=15\n#### 16", False) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "text",
    [
        "3*4=12\n3*4=12\n3*4=12\n#### 1",
        "So 3 x 4 = 12 apples.\n#### 1",
        "3 * 4 = $12.00\n#### 1",
        "<<3*4=12>>\n#### 1",
        "3*4=12\n#### 1\n12-2=10\n10+5=15",
        "That makes 12 apples\n#### 1",
    ],
)
def test_one_result_is_worth_the_same_however_it_is_written(text):
    assert total(text, False) == pytest.approx(0.5 / 3)


@pytest.mark.parametrize(
    "text", ["", PROBLEM.question, "Tom has 3 bags of 4 apples.\n#### 9", "#### 15", "12-2=9", "I do not know."]
)
def test_what_earns_nothing(text):
    assert total(text, False) == 0


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
    assert -1e-9 <= steps <= CONFIG.weight + 1e-9, "every reference result is credited at most once"
    assert value == pytest.approx(steps + (correct and bool(text)))
    assert total(text + "\n#### 15\n3*4=12\n12-2=10\n10+5=15", correct) <= max(value, steps + correct) + 1e-9
    assert total(re.sub(r"([-+*=])", r"  \1 ", text), correct) == pytest.approx(value)
    assert sum(matched_results(lines + lines, PROBLEM)) >= sum(matched_results(lines, PROBLEM))


def test_reference_solutions_earn_everything_and_corrupted_ones_less(tmp_path):
    folder = str(write_gsm8k(tmp_path))
    for problem in load("train", folder) + load("test", folder):
        count = len(reference_results(problem))
        text = "\n".join(problem.steps) + f"\n#### {problem.answer}"
        assert total(text, True, problem) == pytest.approx(1 + CONFIG.weight), problem.id
        annotated = list(re.finditer(r"=(-?[0-9.]+)>>", text))
        assert 1 <= len(annotated) <= count, "lines without annotations may have results too"
        for match in annotated:
            # The annotation's result only: what the calculator said decides, whatever the prose repeats.
            corrupted = f"{text[: match.start(1)]}98765{text[match.end(1) :]}"
            assert total(corrupted, True, problem) == pytest.approx(1 + CONFIG.weight * (1 - 1 / count)), problem.id


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
    assert total(whole, True, problem) == pytest.approx(1 + CONFIG.weight)
    missing = data.draw(st.integers(0, len(lines) - 1))
    without = "\n".join(lines[:missing] + lines[missing + 1 :]) + f"\n#### {results[-1]}"
    assert total(without, True, problem) == pytest.approx(1 + CONFIG.weight * (1 - 1 / len(lines)))

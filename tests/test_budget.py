"""`budget=N`: an algorithm draws at most that many training rollouts, and hardly fewer, or names what it can draw."""

import json
import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import composed

from rlreason.algorithms.budget import ENOUGH, whole
from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.budget import outcome_model_rollouts, within_budget
from rlreason.data.base import training_questions
from rlreason.data.registry import DATASETS
from rlreason.errors import UserError

QUESTIONS, JUDGED = 1500, 1500 * 8 + 200 * 4  # of wordproblems; solutions that train and calibrate an ORM
PLAIN = {  # algorithms that learn from no outcome reward model
    "ei": ("algo=ei",),
    "ei, few questions": ("algo=ei", "algo.questions=128", "algo.rounds=7"),
    "rcrl": ("algo=rcrl", "algo.labels=outcome"),
    "ppo": ("algo=ppo",),
    "ppo, warm-up of the critic": ("algo=ppo", "algo.value_warmup=9"),
    "grpo": ("algo=grpo",),
}
JUDGING = {  # those that do
    "ei": ("algo=ei", "reward=orm"),
    "rcrl": ("algo=rcrl",),
    "ppo": ("algo=ppo", "reward=orm"),
    "ppo, critic": ("algo=ppo", "algo.critic=separate", "algo.critic_start=orm", "algo.kl_in=loss"),
    "grpo": ("algo=grpo", "reward=orm"),
}
EVERY = [*PLAIN.values(), *JUDGING.values()]

cached = cache(composed)


def drawn(config):
    """Training rollouts of an experiment, its outcome reward model's included."""
    questions = training_questions(config.data, DATASETS[config.data.name])
    return ALGORITHMS[config.algo.name].rollouts(config.algo, questions) + outcome_model_rollouts(config, questions)


def attempt(function, *arguments):
    """What a function gives, and what the user is told instead where it refuses."""
    try:
        return function(*arguments), None
    except UserError as refusal:
        return None, refusal


def refusal(config):
    with pytest.raises(UserError) as caught:
        within_budget(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nearest(message):
    return [int(found) for found in re.findall(r"budget=(\d+)", message.partition("; the nearest ")[2])]


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 3000), st.integers(1, 20))
def test_whole_rounds_use_a_budget_or_the_nearest_that_they_can_use_are_named(budget, size, least):
    fitting = [count for count in range(least, budget // size + 1) if ENOUGH * budget <= count * size]
    count, refused = attempt(whole, budget, size, "a round", least)
    assert count == (fitting[-1] if fitting else None)
    if refused is not None:
        assert f"takes {size:,} rollouts" in str(refused)
        for other in refused.nearest:
            assert whole(other, size, "a round", least) * size == other
        below, above = ([other for other in refused.nearest if (other > budget) == more] for more in (False, True))
        assert above == [max(budget // size + 1, least) * size]
        assert below == ([budget // size * size] if budget // size >= least else [])


@settings(deadline=None)
@given(st.sampled_from(EVERY), st.integers(1, 200_000))
def test_an_experiment_draws_at_most_its_budget_and_hardly_less(overrides, budget):
    asked = replace(cached(*overrides), budget=budget)
    config, refused = attempt(within_budget, asked)
    if refused is not None:
        others = nearest(str(refused))
        assert others or f"takes {JUDGED:,} rollouts alone" in str(refused)
        for other in others:
            assert ENOUGH * other <= drawn(within_budget(replace(asked, budget=other))) <= other
    else:
        assert ENOUGH * budget <= drawn(config) <= budget
        assert getattr(config.algo, "rounds", 0) <= getattr(asked.algo, "rounds", 0)


@pytest.mark.parametrize(
    ("overrides", "budget", "words"),
    [
        (PLAIN["ei"], QUESTIONS - 1, "one sample of each of the 1,500 questions of a round takes 1,500 rollouts"),
        (PLAIN["rcrl"], QUESTIONS - 1, "one sample of each of the 1,500 questions takes 1,500 rollouts"),
        (PLAIN["ppo"], 255, "takes 256 rollouts"),
        (PLAIN["grpo"], 255, "takes 256 rollouts"),
        (JUDGING["ei"], JUDGED + QUESTIONS - 1, "beside 12,800 for the outcome reward model; the nearest is"),
    ],
)
def test_a_budget_below_one_round_batch_or_sample_is_refused_with_the_nearest(overrides, budget, words):
    config = replace(cached(*overrides), budget=budget)
    message = refusal(config)
    assert message.startswith(f"budget={budget} cannot be met: ")
    assert words in message
    assert min(nearest(message)) > budget
    assert refusal(replace(config, budget=1)).startswith("budget=1 cannot be met: ")


def test_a_budget_that_pays_for_fewer_batches_than_the_critic_warms_up_is_refused():
    config = replace(cached("algo=ppo", "algo.value_warmup=3"), budget=2 * 256)
    message = refusal(config)
    assert "algo.value_warmup=3" in message
    assert nearest(message) == [4 * 256]


def test_a_budget_is_spent_on_the_outcome_reward_model_first():
    budget = JUDGED + 6 * QUESTIONS
    config = within_budget(replace(cached(*JUDGING["ei"]), budget=budget))
    assert config.algo.rounds * config.algo.samples * QUESTIONS == budget - JUDGED
    message = refusal(replace(config, budget=JUDGED))
    assert "takes 12,800 rollouts alone; raise the budget, or lower orm.samples" in message


@pytest.mark.parametrize("free", [("reward=orm", "orm=local", "orm.path=/some/folder"), ("eval.orm=train",)])
def test_a_model_that_is_given_or_only_reranks_costs_nothing(free):
    config = cached("algo=ei", *free)
    assert outcome_model_rollouts(config, QUESTIONS) == 0
    assert within_budget(replace(config, budget=36_000)).algo == cached("algo=ei", "budget=36000").algo


def test_stepwise_labels_have_no_price_beforehand():
    message = refusal(replace(cached("algo=ei", "reward=orm", "orm=rollout"), budget=36_000))
    assert "orm=outcome" in message and "orm.path=FOLDER" in message
    within_budget(replace(cached("algo=ei", "eval.orm=train", "orm=rollout"), budget=36_000))


def test_questions_of_unknown_number_are_counted_by_reading_them(tmp_path):
    for name, first, count in (("train", 0, 40), ("validation", 50, 10), ("test", 70, 5)):
        rows = [
            json.dumps({"question": f"{number}+1?", "answer": number + 1}) for number in range(first, first + count)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    own = ("data=files", f"data.path={tmp_path}")
    assert cached(*own, "algo=rcrl", "algo.labels=outcome", "budget=400").algo.samples == 10
    few = ("data.train_size=20", "algo=rcrl", "algo.labels=outcome", "budget=400")
    assert cached(*own, *few).algo.samples == 20
    judged = cached(*own, "algo=ei", "reward=orm")
    assert outcome_model_rollouts(judged, 40) == 40 * judged.orm.samples + 10 * 4
    (tmp_path / "train.jsonl").unlink()
    assert "has no train questions" in attempt(composed, *own, "budget=400")[1].args[0]


def test_a_budget_counts_the_questions_that_there_are():
    assert cached("data=gsm8k", "algo=rcrl", "algo.labels=outcome", "budget=69730").algo.samples == 10  # of 7,473 - 500
    few = cached("data=gsm8k", "data.train_size=100", "algo=rcrl", "algo.labels=outcome", "budget=69730")
    assert few.algo.samples == 697


def test_without_a_budget_the_section_decides():
    assert cached("algo=ei").algo.samples == 8
    assert cached("algo=ei", "budget=36000").algo.samples == 8  # in 3 rounds
    assert cached("algo=ei", "budget=9000", "task=evaluate").algo.samples == 8


def test_what_samples_nothing_or_learns_from_stored_rollouts_has_any_budget():
    assert cached("algo=sft", "budget=1").algo == cached("algo=sft").algo
    stored = ("algo=rcrl", "algo.labels=outcome", "algo.rollouts=runs/there")
    assert cached(*stored, "budget=1").algo == cached(*stored).algo


@pytest.mark.parametrize("budget", ["0", "-5", "many", "1.5"])
def test_a_budget_is_a_whole_number_of_rollouts(budget):
    with pytest.raises(UserError, match=r"^budget=.* must be a whole number of at least 1, or null"):
        composed(f"budget={budget}")

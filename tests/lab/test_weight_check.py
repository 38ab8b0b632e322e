"""What the probe's answers are taken for, with made-up answers of three tokens each."""

import pytest
from tests_support import composed

from rlreason.errors import UserError
from rlreason.lab.weight_check import WeightCheck, limit
from rlreason.models.probe import Probe


class Answers:
    """An engine that says what it is told to, and a run that remembers."""

    def __init__(self):
        self.says = ()
        self.asked = 0
        self.facts = {}

    def score(self, token_ids):
        self.asked += 1
        return self.says[: len(token_ids) - 1]

    def note(self, **facts):
        self.facts = facts


@pytest.fixture
def answers():
    return Answers()


def checkpoint(folder, name, *logprobs):
    (folder / name).mkdir()
    Probe(tuple(range(len(logprobs) + 1)), logprobs).save(folder / name)
    return folder / name


def look(check, answers, policy, *says):
    answers.says = says
    check(answers, policy, answers, answers)


def test_the_mean_difference_is_kept_and_limited(tmp_path, answers):
    check = WeightCheck(0.05, 100)
    look(check, answers, checkpoint(tmp_path, "fine", -1.0, -2.0, -3.0), -1.03, -1.97, -3.06)
    assert answers.facts == {"probe_gap": pytest.approx(0.04)}
    with pytest.raises(UserError, match=r"stale or broken .* 0\.060 nats a token, more than engine\.probe_limit=0\.05"):
        look(check, answers, checkpoint(tmp_path, "far", -1.0, -2.0, -3.0), -1.06, -1.94, -3.06)
    with pytest.raises(UserError, match="nan nats"):
        look(check, answers, checkpoint(tmp_path, "none", -1.0, -2.0, -3.0), float("nan"), -2.0, -3.0)


def test_the_limit_follows_the_precision_unless_it_is_said():
    asked = {
        0.05: ("model=tiny",),
        0.1: ("model=qwen2.5-0.5b",),
        0.02: ("model=qwen2.5-0.5b", "engine.probe_limit=0.02"),
    }
    for expected, overrides in asked.items():
        config = composed(*overrides)
        assert limit(config.engine, config.model) == expected


def test_an_engine_that_never_moves_is_stale_before_the_limit(tmp_path, answers):
    check = WeightCheck(0.05, 100)
    stale = (-1.0, -2.0, -3.0)
    look(check, answers, checkpoint(tmp_path, "a", -1.0, -2.0, -3.0), *stale)
    look(check, answers, checkpoint(tmp_path, "b", -1.015, -2.015, -3.015), *stale)
    with pytest.raises(UserError, match=r"stale weights .* moved by 0\.030"):
        look(check, answers, checkpoint(tmp_path, "c", -1.03, -2.03, -3.03), *stale)


def test_an_engine_that_moves_with_the_trainer_is_not(tmp_path, answers):
    check = WeightCheck(0.05, 100)
    for number in range(5):
        logprobs = (-1.0 - 0.03 * number, -2.0, -3.0 - 0.03 * number)
        policy = checkpoint(tmp_path, str(number), *logprobs)
        look(check, answers, policy, *(value + 0.01 for value in logprobs))
    assert answers.asked == 5


def test_a_policy_is_asked_once_and_again_after_the_engine_has_slept(tmp_path, answers):
    check = WeightCheck(0.05, 100)
    policy = checkpoint(tmp_path, "a", -1.0, -2.0, -3.0)
    for _ in range(3):
        look(check, answers, policy, -1.0, -2.0, -3.0)
    assert answers.asked == 1
    check.again()
    look(check, answers, policy, -1.0, -2.0, -3.0)
    assert answers.asked == 2


def test_the_probe_is_cut_to_the_context(tmp_path, answers):
    look(WeightCheck(0.05, 3), answers, checkpoint(tmp_path, "a", -1.0, -2.0, -99.0), -1.0, -2.0, -3.0)
    assert answers.facts["probe_gap"] == 0.0

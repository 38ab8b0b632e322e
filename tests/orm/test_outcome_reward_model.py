"""The outcome reward model: balance, labels, its loss against a float64 loop, batches, rewards, refusals."""

import dataclasses
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import composed

from rlreason.errors import UserError
from rlreason.lab.context import Splits, Start
from rlreason.orm import training as subject
from rlreason.orm.calibration import Calibration
from rlreason.orm.model import TOKENS_PER_BATCH, Card, OutcomeModel, batches
from rlreason.orm.update import outcome_loss
from rlreason.rewards.orm import outcome_model_reward
from rlreason.types import Problem, Rollout, Step

CONFIG = composed("algo=orm").orm
REWARD = composed("reward=orm").reward


def graded(problem: str, correct: bool, ends=(2, 4, 5), sample=0) -> Rollout:
    kinds = ["reasoning"] * (len(ends) - 2) + ["answer", "after"]
    starts = (0, *ends)
    steps = tuple(Step(start, end, "x", kind) for start, end, kind in zip(starts, ends, kinds, strict=False))
    ids = tuple(range(ends[-1]))
    asked = Problem(problem, "q", "1")
    return Rollout(asked, sample, 0, (1, 2), ids, (-1.0,) * len(ids), "x", "stop", steps, "1", correct)


MIXED = [graded("a", True), graded("a", False), graded("a", False), graded("b", False), graded("c", True)]


def test_right_and_wrong_solutions_count_the_same_together():
    weights = subject.outcome_weights(MIXED)
    totals = {outcome: sum(weights[outcome] for item in MIXED if item.correct == outcome) for outcome in (True, False)}
    assert totals[True] == pytest.approx(totals[False])
    assert sum(totals.values()) == pytest.approx(len(MIXED))


@pytest.mark.parametrize("outcome", [True, False])
def test_equal_outcomes_are_refused(run, outcome):
    with pytest.raises(UserError, match=r"training questions.*nothing to learn.*orm.samples"):
        run(CONFIG, training=[graded("a", outcome), graded("b", outcome)])


def test_labels_end_with_the_final_answer():
    item = graded("a", True, ends=(2, 4, 7))
    at_steps = subject.labelled(item, [0.25, 1.0], "steps", 1.0)
    assert at_steps.labels == {1: 0.25, 3: 1.0}
    assert at_steps.completion_ids == (0, 1, 2, 3)
    assert subject.labelled(item, [0.25, 1.0], "tokens", 1.0).labels == {0: 0.25, 1: 0.25, 2: 1.0, 3: 1.0}


def test_the_loss_equals_a_float64_loop():
    import torch

    from rlreason.models.scalar_head import ScalarHeadOutput

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, generator=generator) * 3
    logprobs = -torch.rand(3, 6, generator=generator)
    labels = torch.full((3, 6), -100.0)
    labels[0, 2:5] = torch.tensor([1.0, 0.25, 1.0])
    labels[1, 5] = 0.0
    labels[2, 1] = 1.0
    weights = torch.tensor([0.5, 2.0, 1.0])
    learned = torch.zeros(3, 6, dtype=torch.bool)
    learned[0, 2:5] = learned[2, 1:3] = True
    loss = 0.0
    for row in range(3):
        judged, written = [], []
        for position in range(6):
            if labels[row, position] != -100:
                p = 1 / (1 + math.exp(-logits[row, position].item()))
                label = labels[row, position].item()
                judged.append(-label * math.log(p) - (1 - label) * math.log(1 - p))
            if learned[row, position]:
                written.append(-logprobs[row, position].item())
        loss += weights[row].item() * sum(judged) / len(judged) / 3
        loss += (sum(written) / len(written) if written else 0.0) / 3
    found = outcome_loss(ScalarHeadOutput(logits, logprobs), labels, weights, learned, len(labels))
    assert found.item() == pytest.approx(loss, rel=1e-5)
    without = outcome_loss(ScalarHeadOutput(logits, None), labels, weights, learned, len(labels))
    assert without.item() < found.item()


class Script:
    """Answers an outcome model's training with given solutions and remembers what it was asked."""

    def __init__(self, training, validation):
        self.given = {"training": training, "validation": validation}
        self.prefixes, self.trained = [], []

    def solutions(self, cache, purpose, problems, samples, temperature):
        return self.given[purpose]

    def continuations(self, cache, prefixes, samples, temperature):
        self.prefixes += prefixes
        return [0.5] * len(prefixes)

    def learn(self, cache, start, learned, config, output):
        self.trained.append((start, learned))

    def raw_scores(self, cache, model, items):
        return [(0.0, 2.0 if item.correct else -2.0) for item in items]


@pytest.fixture
def run(monkeypatch):
    """Trains by a configuration on given solutions; the calibration and what was asked."""

    def trained(orm, training=MIXED, validation=MIXED):
        script = Script(training, validation)
        for name in ("solutions", "continuations", "learn", "raw_scores"):
            monkeypatch.setattr(subject, name, getattr(script, name))
        config = dataclasses.replace(composed("algo=orm"), orm=orm)
        cache = SimpleNamespace(
            config=config, start=Start(Path("base"), Path("init")), splits=Splits((), (), ()), run=None
        )
        return subject.outcome_reward_model(cache, Path("model")), script

    return trained


def test_outcome_labels_and_calibration(run):
    calibration, script = run(CONFIG)
    assert calibration.probability(2.0) > 0.9 > 0.1 > calibration.probability(-2.0)
    (start, solutions) = script.trained[0]
    assert start == Path("init")
    assert len(solutions) == 5
    assert {value for item in solutions for value in item.labels.values()} == {0.0, 1.0}
    assert not script.prefixes


def test_labels_from_continuations_of_every_prefix_but_the_last(run):
    _, script = run(dataclasses.replace(CONFIG, label="rollout", loss_on="steps"))
    assert [end for _, end in script.prefixes] == [2] * 5
    _, solutions = script.trained[0]
    assert [sorted(item.labels.items()) for item in solutions] == [
        [(1, 0.5), (3, float(item.correct))] for item in MIXED
    ]


def test_validation_solutions_of_one_kind_are_refused(run):
    with pytest.raises(UserError, match=r"validation questions.*data.validation_size"):
        run(CONFIG, validation=[graded("a", True)])


@given(st.lists(st.integers(0, 3000), max_size=60))
def test_batches_hold_every_sequence_once_and_keep_their_size(lengths):
    found = list(batches(lengths))
    assert sorted(row for rows in found for row in rows) == [row for row, length in enumerate(lengths) if length]
    for rows in found:
        assert len(rows) == 1 or max(lengths[row] for row in rows) * len(rows) <= TOKENS_PER_BATCH


class Scores:
    def step_scores(self, items):
        return [(0.25, 0.75) if item.steps else () for item in items]


@pytest.mark.parametrize(
    ("at", "expected"), [("end", [(2, 4, 0.75)]), ("steps", [(0, 2, 0.25), (2, 4, pytest.approx(0.5))])]
)
def test_scores_become_rewards_that_sum_to_the_final_score(at, expected):
    config = dataclasses.replace(composed("reward=orm").reward, at=at)
    empty = dataclasses.replace(graded("a", False), steps=())
    (rewards, nothing) = outcome_model_reward([graded("a", True), empty], config, Scores())
    assert [(item.start, item.end, item.value) for item in rewards] == expected
    assert nothing == ()


@pytest.fixture
def events(monkeypatch):
    """What happens when solutions are scored: the engine gives its memory back, a model is brought to its device."""
    noted = []

    def load(folder, dtype):
        noted.append("judge")
        raise InterruptedError

    monkeypatch.setattr("rlreason.models.loading.load_model", load)
    return noted


def test_whoever_scores_makes_room_first(events):
    judge = OutcomeModel(Path("judge"), Card("", True, Calibration(1.0, 0.0, 0.5), ()), lambda: events.append("room"))
    for score in (judge.logits, judge.step_scores, lambda items: outcome_model_reward(items, REWARD, judge)):
        events.clear()
        with pytest.raises(InterruptedError):
            score(MIXED)
        assert events == ["room", "judge"]


def test_the_engine_of_a_run_is_released_before_its_outcome_model_is_calibrated(events):
    cache = SimpleNamespace(
        config=composed("algo=orm"),
        engine=SimpleNamespace(release=lambda: events.append("released")),
        display=SimpleNamespace(bar=lambda description: nullcontext()),
        run=SimpleNamespace(timed=lambda kind: nullcontext()),
    )
    with pytest.raises(InterruptedError):
        subject.raw_scores(cache, Path("model"), MIXED)
    assert events == ["released", "judge"]


def test_every_outcome_model_of_a_run_releases_its_engine(monkeypatch):
    card = Card("tokens", True, Calibration(1.0, 0.0, 0.5), ())
    monkeypatch.setattr(subject, "read_card", lambda folder: card)
    monkeypatch.setattr(subject, "fingerprint", lambda tokenizer: "tokens")
    engine = SimpleNamespace(release=lambda: None)
    context = SimpleNamespace(config=composed("reward=orm", "orm.path=judge"), tokenizer=None, engine=engine)
    assert subject.outcome_model(context).make_room is engine.release

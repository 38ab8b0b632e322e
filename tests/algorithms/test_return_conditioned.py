"""Return-conditioned RL: labels, tags without loss, refusals."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import composed

from rlreason.algorithms.base import Questions
from rlreason.algorithms.return_conditioned import distinct, return_conditioned, tagged
from rlreason.answers.steps import StepSplitter
from rlreason.errors import UserError
from rlreason.lab.context import Start
from rlreason.models.return_condition import ReturnCondition, condition_of
from rlreason.training.supervised import Example
from rlreason.types import Problem, Rollout, Step, StepReward

CONFIG = composed("algo=rcrl").algo
PROBLEMS = [Problem(f"p{number}", "q", "3") for number in range(3)]
START = Start(Path("base"), Path("init"))
CONDITION = ReturnCondition((90, 91), (95,), True)
STEPS = (Step(0, 2, "1+2=3", "reasoning"), Step(2, 5, "#### 3", "answer"), Step(5, 6, "more", "after"))


def solution(problem_id, right, text="1+2=3\n#### 3", sample=0):
    ids = (10, 11, 12, 13, 14, 15)
    asked, rewards = Problem(problem_id, "q", "3"), (StepReward(0, 5, 1.0),) if right else ()
    return Rollout(asked, sample, 0, (1,), ids, (-1.0,) * 6, text, "stop", STEPS, "3", right, rewards)


def test_a_tag_before_every_step_carries_no_loss():
    example = Example((1,), (10, 11, 12, 13, 14, 2))
    found = tagged(example, STEPS, [True, False], CONDITION)
    assert found.completion_ids == (90, 91, 10, 11, 95, 12, 13, 14, 2)
    assert found.labels() == [-100, -100, -100, 10, 11, -100, 12, 13, 14, 2]


def test_one_tag_before_the_solution():
    example = Example((1,), (10, 11, 12, 13, 14, 2))
    found = tagged(example, STEPS, [False], CONDITION)
    assert found.completion_ids == (95, 10, 11, 12, 13, 14, 2)
    assert found.labels() == [-100, -100, 10, 11, 12, 13, 14, 2]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.data())
def test_without_its_tags_a_tagged_solution_is_what_it_was(sizes, data):
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    starts = [0, *ends]
    steps = [Step(start, end, "x", "reasoning") for start, end in zip(starts, ends, strict=False)]
    labels = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    example = Example((1, 2), tuple(range(ends[-1])))
    found = tagged(example, steps, labels, CONDITION)
    assert [token for token in found.labels() if token != -100] == list(example.completion_ids)
    assert sum(end - start for start, end in found.inserted) == sum(2 if label else 1 for label in labels)


class Script:
    """Answers the algorithm's requests and remembers its update."""

    def __init__(self, rollouts, scores=(0.9, 0.2)):
        self.rollouts, self.scores = rollouts, scores
        self.orm_threshold = 0.5
        self.validation_questions = 100
        self.evaluated, self.reports = [], []

    def sample(self, round_number, policy, problems, samples, temperature):
        self.asked = policy
        return self.rollouts

    def stored(self, path):
        return self.rollouts

    def policy_of_study(self, algo):
        return Path(f"policy of {algo}"), 1000

    def steps(self, rollout):
        return STEPS

    def is_finished(self, rollout):
        return StepSplitter(None).is_finished(rollout)

    def step_scores(self, name, scored):
        return [self.scores for _ in scored]

    def example(self, rollout):
        return Example((1,), (*rollout.completion_ids[:5], 2))

    def with_tokens(self, checkpoint, tokens):
        return Path(f"{checkpoint}+{len(tokens)}")

    def token_ids(self, text, checkpoint):
        return tuple(text.encode())

    def update(self, round_number, start, examples, config, snapshots=(), condition=None):
        self.start, self.examples, self.condition = start, examples, condition
        return [Path("policy")]

    def evaluate(self, round_number, policy, samples_seen, facts=None):
        self.evaluated.append((policy, samples_seen))
        return 0.1

    def report(self, round_number, facts, not_kept):
        self.reports.append(facts)


def run(config, rollouts, **keywords):
    script = Script(rollouts, **keywords)
    return return_conditioned(config, START, Questions(PROBLEMS, {}), 0, script), script


MIXED = [solution("p0", True), solution("p0", False, "2+2=4\n#### 4"), solution("p1", False, "1+1=2\n#### 2")]


def test_labels_of_the_outcome_reward_model_are_per_step():
    trained, script = run(CONFIG, MIXED)
    assert script.condition.every_step
    tags = [tuple(example.completion_ids[start:end]) for example in script.examples for start, end in example.inserted]
    assert tags == [script.condition.good, script.condition.bad] * 3
    assert trained.policy == Path("policy")
    assert script.start == Path("base+2")
    assert trained.samples_seen == 3


def test_labels_of_the_outcome_and_per_solution():
    _, script = run(dataclasses.replace(CONFIG, labels="outcome", per="solution"), MIXED)
    assert not script.condition.every_step
    tags = [tuple(example.completion_ids[start:end]) for example in script.examples for start, end in example.inserted]
    assert tags == [script.condition.good, script.condition.bad, script.condition.bad]


CUT = "1+2=3\n3-"
UNFINISHED = {
    "cut before its answer": (CUT, "length", None),
    "cut in the number of its answer": ("1+2=3\n#### 3", "length", "3"),
    "cut behind another statement of an answer": ("1+2=3\nThe answer is 3", "length", "3"),
    "ended without an answer": ("1+2=3\nI stop", "stop", None),
}


@pytest.mark.parametrize("per", ["step", "solution"])
@pytest.mark.parametrize("labels", ["orm", "outcome"])
@pytest.mark.parametrize("case", UNFINISHED)
def test_no_score_makes_an_unfinished_solution_good(case, labels, per):
    text, finish, answer = UNFINISHED[case]
    cheat = dataclasses.replace(solution("p2", True), text=text, finish_reason=finish, answer=answer)
    config = dataclasses.replace(CONFIG, labels=labels, per=per)
    _, script = run(config, [solution("p0", True), solution("p1", False), cheat], scores=(0.9, 0.9))
    tags = [script.examples[-1].completion_ids[start:end] for start, end in script.examples[-1].inserted]
    assert tags[-1] == script.condition.bad
    first = script.examples[0]
    assert first.completion_ids[first.inserted[-1][0] : first.inserted[-1][1]] == script.condition.good


def test_what_is_cut_after_its_answer_keeps_its_label():
    rambling = dataclasses.replace(solution("p2", True), text="1+2=3\n#### 3\nmore", finish_reason="length")
    _, script = run(CONFIG, [*MIXED, rambling], scores=(0.2, 0.9))
    [*_, (start, end)] = script.examples[-1].inserted
    assert script.examples[-1].completion_ids[start:end] == script.condition.good


def test_solutions_of_expert_iterations_policy_cost_what_that_has_learned_from_too():
    trained, script = run(dataclasses.replace(CONFIG, policy="ei"), MIXED)
    assert script.asked == Path("policy of ei")
    assert trained.samples_seen == 1000 + 3
    assert script.evaluated == [(START.init, 0), (Path("policy"), 1003)]
    with pytest.raises(UserError, match="choose one"):
        dataclasses.replace(CONFIG, policy="ei", rollouts="runs/other").check()


def test_a_policy_that_became_worse_is_the_last_and_not_the_selected_one():
    script = Script(MIXED)
    script.evaluate = lambda number, policy, samples_seen, facts=None: 0.1 if number else 0.9
    trained = return_conditioned(CONFIG, START, Questions(PROBLEMS, {}), 0, script)
    assert (trained.policy, trained.last) == (START.init, Path("policy"))


def test_added_tokens_go_into_the_checkpoint_that_is_trained():
    _, script = run(dataclasses.replace(CONFIG, restart="init"), MIXED)
    assert script.start == Path("init+2")


def test_tags_that_would_mean_nothing_are_refused():
    with pytest.raises(UserError, match="all 6 steps are good"):
        run(CONFIG, MIXED, scores=(0.9, 0.8))
    with pytest.raises(UserError, match=r"all 2 steps are bad.*algo.threshold"):
        run(dataclasses.replace(CONFIG, labels="outcome"), [solution("p0", False)])


def test_right_and_wrong_solutions_with_the_same_steps_are_both_kept():
    same = [solution("p0", True), solution("p0", False), solution("p0", True, sample=1)]
    assert [item.correct for item in distinct(same, "steps")] == [True, False]
    assert len(distinct(same, "none")) == 3


def test_the_condition_travels_with_the_checkpoint(tmp_path):
    assert condition_of(tmp_path) is None
    CONDITION.save(tmp_path)
    assert condition_of(tmp_path) == CONDITION

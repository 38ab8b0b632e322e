"""Expert iteration against a laboratory without models: what it keeps, where it restarts, when it stops."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.algorithms.base import Questions, choose_questions
from rlreason.algorithms.expert_iteration import ExpertIterationConfig, expert_iteration, keep
from rlreason.lab.context import Start
from rlreason.training.supervised import Example
from rlreason.types import Problem, Rollout, StepReward

CONFIG = ExpertIterationConfig(
    name="ei",
    rounds=3,
    samples=2,
    questions=0,
    temperature=1.0,
    keep="return",
    threshold=1.0,
    deduplicate="steps",
    aggregate=True,
    restart="base",
    patience=2,
    learning_rate=1e-4,
    epochs=1,
    batch_size=4,
    micro_batch_size=4,
    warmup_ratio=0.0,
    schedule="cosine",
    weight_decay=0.0,
    max_grad_norm=1.0,
)
PROBLEMS = [Problem(f"p{number}", f"q{number}", "3", ("1+2=3",)) for number in range(4)]
START = Start(Path("base"), Path("init"))


def solution(problem_id: str, text: str, right: bool, sample: int = 0) -> Rollout:
    return rewarded(problem_id, text, right, (StepReward(0, 2, 1.0),) if right else (), sample)


def rewarded(problem_id: str, text: str, right: bool, rewards, sample: int = 0) -> Rollout:
    asked = Problem(problem_id, "q", "3")
    ids, logprobs = (2, 3), (-1.0, -1.0)
    return Rollout(asked, sample, 0, (1,), ids, logprobs, text, "stop", (), "3", right, rewards)


class Script:
    """Answers the algorithm's requests from lists and remembers them."""

    reward_threshold = 1.0
    validation_questions = 100

    def __init__(self, texts_by_round, accuracies):
        self.texts_by_round = texts_by_round
        self.accuracies = iter(accuracies)
        self.updates, self.sampled, self.reports, self.not_kept = [], [], [], []

    def sample(self, round_number, policy, problems, samples, temperature):
        self.sampled.append((round_number, policy, [problem.id for problem in problems], samples, temperature))
        return [
            solution(problem.id, text, right, sample)
            for problem in problems
            for sample, (text, right) in enumerate(self.texts_by_round[round_number - 1])
        ]

    def example(self, rollout):
        return Example(rollout.prompt_ids, (hash(rollout.text) % 1000,))

    def update(self, round_number, start, examples, config):
        self.updates.append((round_number, start, list(examples)))
        return [Path(f"policy-{round_number}")]

    def evaluate(self, round_number, policy, samples_seen):
        return next(self.accuracies)

    def report(self, round_number, facts, not_kept):
        self.reports.append(facts)
        self.not_kept.append(not_kept)


def run(config, texts_by_round, accuracies, problems=PROBLEMS):
    script = Script(texts_by_round, accuracies)
    references = {problem.id: Example((1,), (9, 9)) for problem in problems}
    return expert_iteration(config, START, Questions(problems, references), 0, script), script


RIGHT, OTHER, WRONG = ("1+2=3\n#### 3", True), ("2+1=3\n#### 3", True), ("1+1=2\n#### 2", False)


def test_rounds_restart_from_the_pretrained_base_and_aggregate():
    trained, script = run(CONFIG, [[RIGHT, WRONG], [OTHER, WRONG], [RIGHT, OTHER]], [0.1, 0.2, 0.3, 0.4])
    assert [start for _, start, _ in script.updates] == [Path("base")] * 3
    assert [len(examples) for _, _, examples in script.updates] == [4, 8, 8]
    assert [policy for _, policy, *_ in script.sampled] == [Path("init"), Path("policy-1"), Path("policy-2")]
    assert trained.policy == Path("policy-3")
    assert trained.samples_seen == 3 * 4 * 2


@pytest.mark.parametrize(("restart", "starts"), [("init", ["init", "init"]), ("policy", ["init", "policy-1"])])
def test_other_restarts(restart, starts):
    config = dataclasses.replace(CONFIG, restart=restart, rounds=2)
    _, script = run(config, [[RIGHT, WRONG]] * 2, [0.1, 0.2, 0.3])
    assert [str(start) for _, start, _ in script.updates] == starts


@pytest.mark.parametrize("aggregate", [True, False])
def test_every_rollout_is_learned_from_or_told_of(aggregate):
    config = dataclasses.replace(CONFIG, aggregate=aggregate, rounds=2)
    _, script = run(config, [[RIGHT, WRONG], [RIGHT, OTHER]], [0.1, 0.2, 0.3])
    new = [4, 4 if aggregate else 8]
    counted = [(item.drawn, item.too_low, item.copies) for item in script.not_kept]
    assert counted == [(8, 4, 0), (8, 0, 8 - new[1])]


def test_without_aggregation_only_the_latest_round_counts():
    config = dataclasses.replace(CONFIG, aggregate=False, rounds=2)
    _, script = run(config, [[RIGHT, OTHER], [RIGHT, WRONG]], [0.1, 0.2, 0.3])
    assert [len(examples) for _, _, examples in script.updates] == [8, 4]


@pytest.mark.parametrize("aggregate", [True, False])
def test_questions_solved_are_a_share_of_those_that_were_asked(aggregate):
    config = dataclasses.replace(CONFIG, aggregate=aggregate, rounds=3, questions=2)
    _, script = run(config, [[RIGHT, WRONG], [WRONG, WRONG], [RIGHT, OTHER]], [0.1, 0.2, 0.3, 0.4])
    rounds = [set(asked) for _, _, asked, *_ in script.sampled]
    expected, asked, solved = [], set(), set()
    for right, questions in zip((True, False, True), rounds, strict=True):
        asked = questions | (asked if aggregate else set())
        solved = (questions if right else set()) | (solved if aggregate else set())
        expected.append(len(solved) / len(asked))
    assert [report["questions_solved"] for report in script.reports] == expected
    assert expected[0] == 1.0


def test_it_stops_on_validation_where_it_is_asked_to_and_returns_the_selected_policy():
    config = dataclasses.replace(CONFIG, patience=1)
    trained, script = run(config, [[RIGHT, WRONG]] * 3, [0.1, 0.3, 0.2])
    assert len(script.updates) == 2
    assert (trained.policy, trained.last) == (Path("policy-1"), Path("policy-2"))
    assert "did not improve" in trained.verdict


def test_without_patience_it_uses_its_whole_budget_however_little_it_gains():
    config = dataclasses.replace(CONFIG, patience=None)
    trained, script = run(config, [[RIGHT, WRONG]] * 3, [0.3, 0.2, 0.1, 0.3])
    assert len(script.updates) == 3
    assert trained.policy == trained.last == Path("policy-3")


def test_a_later_policy_within_one_standard_error_is_taken_as_for_every_algorithm():
    trained, _ = run(dataclasses.replace(CONFIG, patience=None), [[RIGHT, WRONG]] * 3, [0.1, 0.8, 0.79, 0.78])
    assert trained.policy == Path("policy-3")


def test_a_round_without_a_right_solution_goes_on():
    trained, script = run(CONFIG, [[WRONG, WRONG], [RIGHT, WRONG], [RIGHT, WRONG]], [0.0, 0.1, 0.2])
    assert [number for number, _, _ in script.updates] == [2, 3]
    assert trained.policy == Path("policy-3")


def test_no_right_solution_at_all_is_a_verdict():
    trained, script = run(CONFIG, [[WRONG, WRONG]] * 3, [0.0])
    assert trained.policy == START.init
    assert script.updates == []
    assert "no solution of 24" in trained.verdict


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["1+2=3", "2+1=3", " 1 + 2 = 3 "]), st.booleans())))
def test_what_is_kept(items):
    scored = [solution(problem, f"{line}\n#### 3", right) for problem, line, right in items]
    kept = keep({}, scored, CONFIG, 1.0)
    assert all(item.correct for item in kept.values())
    expected = {(problem, line.replace(" ", "")) for problem, line, right in items if right}
    assert len(kept) == len(expected)
    assert keep(kept, scored, CONFIG, 1.0) == kept
    none = dataclasses.replace(CONFIG, deduplicate="none")
    assert len(keep({}, scored, none, 1.0)) == sum(right for *_, right in items)


@pytest.mark.parametrize(
    ("keeps", "kept"), [("return", {"lucky", "good"}), ("correct", {"good", "unlucky"}), ("both", {"good"})]
)
def test_kept_by_return_by_truth_or_by_both(keeps, kept):
    def item(text, right, value):
        return rewarded("p0", text, right, (StepReward(0, 2, value),))

    items = [item("good", True, 0.9), item("lucky", False, 0.8), item("unlucky", True, 0.2), item("bad", False, 0.1)]
    found = keep({}, items, dataclasses.replace(CONFIG, keep=keeps), 0.8)
    assert {value.text for value in found.values()} == kept


def test_a_sum_of_rounded_step_rewards_reaches_its_threshold():
    rewards = tuple(StepReward(number, number + 1, 0.1) for number in range(3))
    item = rewarded("p0", "x", True, rewards)
    assert keep({}, [item], CONFIG, 0.3)
    assert sum(0.1 for _ in range(3)) != 0.3


def test_questions_of_a_round_are_a_seeded_draw():
    many = [Problem(f"p{number}", "q", "1") for number in range(50)]
    first = choose_questions(many, 10, 1, 0)
    assert choose_questions(many, 10, 1, 0) == first
    assert choose_questions(many, 10, 2, 0) != first
    assert len({problem.id for problem in first}) == 10
    assert choose_questions(many, 0, 1, 0) == many

"""Trying a reward on answers in a file: values, agreement, cost, examples; and what cannot be tried."""

import json
from io import StringIO

import pytest
from rich.console import Console
from tests_support import composed

from rlreason.errors import UserError
from rlreason.tasks.try_reward import agreement, chosen_examples, example, solutions, try_reward
from rlreason.types import Problem, Rollout, Step, StepReward

QUESTION = "Tom has 3 books. Tom buys 4 more. How many books does Tom have now?"


def write(folder, rows, name="answers.jsonl"):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def row(completion, answer="7", question=QUESTION, **columns):
    return {"question": question, "answer": answer, "solution": "3+4=7", "completion": completion, **columns}


def shown(path, *overrides):
    console = Console(file=StringIO(), width=140)
    try_reward(composed("task=try_reward", f"task.rollouts={path}", *overrides), console)
    return console.file.getvalue()


@pytest.fixture
def answers(tmp_path):
    return write(tmp_path, [row("3+4=7\n#### 7"), row("3+4=8\n#### 8"), row("The answer is 7."), row("I do not know")])


def test_answers_in_a_file_are_graded_with_their_question_gold_and_columns(tmp_path):
    path = write(tmp_path, [row("3+4=7\n#### 7", level=2), row("#### 8", answer="9", question="Other?", level=1)])
    found = solutions(composed("task=try_reward", f"task.rollouts={path}"), path, 10)
    first, second = found.rollouts
    assert (first.correct, second.correct) == (True, False)
    assert (first.answer, second.answer) == ("7", "8")
    assert [step.text for step in first.steps] == ["3+4=7", "#### 7"]
    assert first.problem.columns["level"] == 2
    assert first.problem.steps == ("3+4=7",)
    assert first.problem.id != second.problem.id


def test_a_shipped_reward_is_shown_with_its_agreement_and_its_cost(answers):
    text = shown(answers, "reward=dense")
    assert f"reward=dense on 4 solutions of 1 questions from {answers}" in text
    assert "a right solution earns more than a wrong one with probability 1.000" in text
    assert "1 of 1 questions have solutions with different returns" in text
    assert "s for a thousand" in text
    assert "right" in text and "wrong" in text


def test_an_own_reward_is_named_with_its_weight_and_shown_step_by_step(answers, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def steps(problem, completion):\n    return [0.5] * len(completion.steps)\n")
    text = shown(answers, "reward=sparse", f"reward.function={path}:steps", "reward.function_weight=0.5")
    assert f"reward=sparse + 0.5 x {path}:steps" in text
    assert "+0.250  3+4=8" in text and "+1.250  #### 7" in text
    assert f"reward={path}:steps on" in shown(answers, "reward=custom", f"reward.function={path}:steps")


def test_most_takes_solutions_from_everywhere(tmp_path):
    path = write(tmp_path, [row(f"#### {number}") for number in range(100)])
    found = solutions(composed("task=try_reward", f"task.rollouts={path}"), path, 10)
    assert [item.answer for item in found.rollouts] == [str(number) for number in range(0, 100, 10)]
    assert found.there == 100


def rollout(number, correct, value):
    steps = (Step(0, 1, "a", "reasoning"), Step(1, 2, "#### 1", "answer"))
    rewards = (StepReward(1, 2, value),) if value else ()
    return Rollout(
        Problem(f"p{number // 2}", "?", "1"),
        number,
        0,
        (1,),
        (1, 2),
        (0.0, 0.0),
        "",
        "stop",
        steps,
        "1",
        correct,
        rewards,
    )


def test_agreement_is_chance_for_a_reward_that_knows_nothing_and_none_for_one_sided_solutions():
    tried = [rollout(number, number % 2 == 0, 1.0) for number in range(8)]
    lines = agreement(tried, 0.5)
    assert "probability 0.500" in lines[0]
    assert "within a question 0.500, over questions that have both, of which there are 4" in lines[1]
    assert lines[2:] == [
        "0 of 4 questions have solutions with different returns",
        "8 solutions earn reward.threshold=0.5 or more, of which 4 are wrong",
    ]
    assert agreement([rollout(0, True, 1.0)], None)[0] == "all solutions are right: agreement cannot be seen"
    assert agreement([rollout(0, False, 1.0)], None)[0] == "all solutions are wrong: agreement cannot be seen"


def test_examples_are_the_best_rewarded_wrong_and_the_worst_rewarded_right_ones():
    tried = [rollout(number, number < 3, float(number)) for number in range(6)]
    assert [item.sample for item in chosen_examples(tried, 4)] == [5, 0, 4, 1]
    assert [item.sample for item in chosen_examples(tried[:3], 2)] == [0, 1]
    assert example(tried[5])[-1] == "  +5.000  #### 1"


@pytest.mark.parametrize(
    ("rows", "overrides", "words"),
    [
        ([{"question": "?", "answer": "1"}], [], "no column has a name that is known for the completion"),
        ([{"question": "?", "answer": "1", "completion": 3}], [], "the column 'completion' must be text"),
        ([{"completion": "#### 1"}], [], "no column has a name that is known for the question"),
        ([row("#### 7")], ["reward=orm"], "reward=orm needs a trained outcome reward model: orm.path=FOLDER"),
    ],
)
def test_what_cannot_be_tried_is_one_line(tmp_path, rows, overrides, words):
    path = write(tmp_path, rows)
    with pytest.raises(UserError) as caught:
        shown(path, *overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_and_a_path_that_is_not_there_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"is no run folder \(it has no config\.yaml\)"):
        shown(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        shown(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"task\.rollouts is missing"):
        composed("task=try_reward")


def test_what_models_write_does_not_steer_the_terminal(tmp_path):
    text = shown(
        write(tmp_path, [row("\x1b[2J[red]3+4=7[/red]\n#### 7"), row("\x9b31m \u202e\n#### 8")]), "reward=sparse"
    )
    assert not set(text) & set("\x1b\x9b\u202e")
    assert "\\x1b[2J[red]3+4=7[/red]" in text

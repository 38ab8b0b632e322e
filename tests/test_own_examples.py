"""The examples of docs/own.md: taken out of the page and run outside the repository."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tests_support import BATCHES, LABORATORY, UPDATE

PAGE = (Path(__file__).parent.parent / "docs/own.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\S+)`[^\n]*:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [shlex.split(line.partition("  #")[0]) for line in re.findall(r"^ {4}rlreason (.*)$", PAGE, re.MULTILINE)]
TINY = ["engine=transformers", *(item for item in LABORATORY if not item.startswith("data."))]
SIZES = ["data.train_size=24", "data.validation_size=8", "data.test_size=10", "data.max_completion_tokens=80"]


def write_examples(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "make_questions.py"], cwd=folder, check=True)
    return folder


def command(*words: str) -> list[str]:
    """The one command of the page that has these words."""
    (found,) = [item for item in COMMANDS if all(any(word in part for part in item) for word in words)]
    return found


@pytest.mark.engine
def test_a_table_of_questions_and_a_length_penalty(rlreason, tmp_path):
    folder = write_examples(tmp_path)
    asked = command("questions.csv", "rewards.py:short")
    rlreason(folder, *asked, *TINY, *SIZES, *UPDATE, "algo.rounds=1", "name=own").check()
    rollouts = pd.read_parquet(folder / "runs/own/rollouts/round-1.parquet")
    words = rollouts["text"].str.split().str.len()
    assert rollouts["reward"].tolist() == pytest.approx((rollouts["correct"].astype(float) - 0.01 * words).tolist())
    assert rollouts["correct"].any()
    questions = set(pd.read_csv(folder / "questions.csv")["problem"])
    assert len(questions) == 300
    config = (folder / "runs/own/config.yaml").read_text()
    assert "rewards.py:short: " in config
    (kept,) = (folder / "runs/own/own").iterdir()
    assert kept.read_text() == FILES["rewards.py"]
    reward = [word for word in asked if word.startswith("reward.")]
    shown = rlreason(folder, "task=try_reward", "task.rollouts=runs/own", *reward, "task.examples=2").check()
    assert "reward=sparse + 0.01 x rewards.py:short on 72 solutions of 24 questions from runs/own" in shown.output
    assert "a right solution earns more than a wrong one with probability" in shown.output
    assert "s for a thousand" in shown.output


@pytest.mark.engine
def test_a_reward_for_steps_reaches_ppo_step_by_step(rlreason, tmp_path):
    folder = write_examples(tmp_path)
    asked = command("algo=ppo", "steps.py:correct_arithmetic")
    rlreason(folder, *asked, *TINY, *SIZES, *BATCHES, "name=own").check()
    rollouts = pd.concat(map(pd.read_parquet, sorted((folder / "runs/own/rollouts").glob("batch-*.parquet"))))
    values = [round(credit["value"], 6) for credits in rollouts["step_rewards"] for credit in credits]
    assert 0.1 in values
    assert set(values) <= {0.1, 1.0, 1.1}
    assert any(len(credits) > 1 for credits in rollouts["step_rewards"])


@pytest.mark.engine
def test_an_advantage_is_compared_with_the_shipped_ones_by_one_study_and_its_report(rlreason, tmp_path):
    folder = write_examples(tmp_path)
    asked = ["seed=0" if word.startswith("seed=") else word for word in command("-m", "above_median")]
    rlreason(folder, *asked, *TINY, *SIZES, *BATCHES, "algo.batches=1").check()
    rlreason(folder, *command("task=report"), "tracker=none").check()
    report = (folder / "runs/advantages/report.md").read_text()
    assert "## Own code" in report
    assert re.search(
        r"\| algo\.advantage \| advantages\.py:above\\_median \| \S+/own/\w+-advantages\.py \| 1 \|", report
    )
    results = pd.read_csv(folder / "runs/advantages/results.csv")
    assert sorted(results["variant"].unique()) == [
        f"algo.advantage={name}" for name in ("advantages.py:above_median", "dr_grpo", "group", "rloo")
    ]
    assert (results["seeds"] == 1).all()


@pytest.mark.engine
def test_an_own_reward_that_equals_the_sparse_one_gives_the_same_rollouts_and_weights(rlreason, tmp_path):
    (tmp_path / "mine.py").write_text("def same(problem, completion):\n    return float(completion.correct)\n")
    for algorithm, sizes in (("ei", [*UPDATE, "algo.rounds=1"]), ("grpo", [*BATCHES, "algo.batches=2"])):
        runs = []
        for reward in (["reward=sparse"], ["reward=custom", "reward.function=mine.py:same"]):
            name = f"{algorithm}-{len(reward)}"
            rlreason(tmp_path, f"algo={algorithm}", *TINY, *SIZES, *sizes, *reward, f"name={name}").check()
            runs.append(tmp_path / "runs" / name)
        one, other = runs
        files = sorted(path.name for path in (one / "rollouts").glob("*.parquet"))
        assert files == sorted(path.name for path in (other / "rollouts").glob("*.parquet")) and files
        for name in files:
            pd.testing.assert_frame_equal(*(pd.read_parquet(run / "rollouts" / name) for run in runs))
        weights = [(run / "checkpoints/round-1/model.safetensors").read_bytes() for run in runs]
        assert weights[0] == weights[1]
        tokens = [json.loads((run / "result.json").read_text())["tokens"] for run in runs]
        assert [item["sample"] for item in tokens][:1] * 2 == [item["sample"] for item in tokens]


@pytest.mark.engine
def test_a_reward_that_fails_keeps_what_was_sampled_and_may_be_mended(rlreason, tmp_path):
    mine = tmp_path / "mine.py"
    sound = "def scored(problem, completion):\n    return float(completion.correct)\n"
    mine.write_text(sound.replace("return", "return 1 / completion.correct, ") + "# 1/0 for what is wrong\n")
    asked = ["algo=ei", *TINY, *SIZES, *UPDATE, "algo.rounds=1", "reward=custom", "reward.function=mine.py:scored"]
    failed = rlreason(tmp_path, *asked, "name=mended")
    assert failed.code == 2
    line = failed.output.strip().splitlines()[-1]
    assert line.startswith("rlreason: reward.function=mine.py:scored raised ZeroDivisionError: ")
    assert "for the question wordproblems-" in line
    (part,) = (tmp_path / "runs/mended/rollouts").glob("round-1.part-*.arrows")
    sampled = part.read_bytes()
    assert not (tmp_path / "runs/mended/result.json").exists()
    mine.write_text(sound)
    again = rlreason(tmp_path, *asked, "name=mended").check()
    assert "sampling 72 from init" not in again.output.split("round-1")[-1]
    rollouts = pd.read_parquet(tmp_path / "runs/mended/rollouts/round-1.parquet")
    assert len(rollouts) == 72 and len(sampled) > 0
    assert (rollouts["reward"] == rollouts["correct"].astype(float)).all()
    kept = sorted(path.name.split("-", 1)[1] for path in (tmp_path / "runs/mended/own").iterdir())
    assert kept == ["mine.py", "mine.py"]
    mine.write_text(sound + "# another\n")
    refused = rlreason(tmp_path, *asked, "name=mended")
    assert refused.code == 2
    assert "mine.py:scored has changed since" in refused.output

"""Data sets, rewards, algorithms, metrics and models from outside the package: the recipes of CONTRIBUTING.md."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests_support import LABORATORY

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
METRIC = "eval.metrics=[tokens.solution_tokens]"
OWN = ["--config-dir", "conf", "model=my-llama", "data=sums", "reward=brevity", "algo=rejection", METRIC]
TINY = [*LABORATORY, "engine=transformers", "algo.samples=3", "algo.batch_size=4", "algo.micro_batch_size=4"]


def write_recipes(folder: Path) -> Path:
    for name, text in RECIPES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "rlreason/models/weights/tiny", folder / "my-llama")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recipes(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def refusal(folder, cold_rlreason):
    """The one line with which a command is refused."""

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
        done = cold_rlreason(folder, "--config-dir", "conf", *arguments, "tracker=none", env=environment)
        assert done.code == 2, done.output
        (line,) = done.output.strip().splitlines()
        assert not (folder / "runs").exists()
        return line

    return run


def choice(folder: Path, group: str, file: str, module: str = "", **changes: object) -> None:
    """A choice that is a recipe's with other values, and a module that its row may be in."""
    recipe = {"data": "sums", "reward": "brevity", "algo": "rejection"}[group]
    values = {**yaml.safe_load(RECIPES[f"conf/{group}/{recipe}.yaml"]), "name": file, **changes}
    kept = {key: value for key, value in values.items() if value != "left out"}
    (folder / f"conf/{group}/{file}.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    if module:
        (folder / f"{module}.py").write_text(RECIPES[f"{recipe}.py"], encoding="utf-8")


def test_no_file_of_a_recipe_is_long():
    assert set(RECIPES) == {
        *("sums.py", "conf/data/sums.yaml", "brevity.py", "conf/reward/brevity.yaml"),
        *("rejection.py", "conf/algo/rejection.yaml", "tokens.py", "conf/model/my-llama.yaml"),
    }
    assert {name: len(text.splitlines()) for name, text in RECIPES.items() if len(text.splitlines()) >= 40} == {}


@pytest.mark.engine
def test_a_data_set_a_reward_an_algorithm_a_metric_and_a_model_from_outside_run_together(rlreason, tmp_path):
    folder = write_recipes(tmp_path)
    rlreason(folder, *OWN, *TINY, "model.kind=embedded", "name=own").check()
    run = folder / "runs/own"
    result = json.loads((run / "result.json").read_text())
    assert result["rollouts"]["round-1"] == 24 * 3
    rollouts = pd.read_parquet(run / "rollouts/round-1.parquet")
    assert rollouts["problem_id"].str.startswith("sums-").all()
    right = rollouts["correct"]
    assert right.any()
    assert (rollouts[right]["reward"] < 1).all() and (rollouts[right]["reward"] > 0.5).all()
    assert (rollouts[~right]["reward"] == 0).all()
    assert "; validation maj@1 went from" in result["verdict"]
    assert result["tokens"]["train"] > 0
    metric = result["evaluations"][-1]["metrics"]["solution_tokens"]
    assert 1 < metric["value"] < 80 and metric["low"] <= metric["value"] <= metric["high"]
    assert result["model_source"] == "folder"
    kept = pd.read_parquet(run / "evaluations/test-final.parquet")
    drawn = pd.read_parquet(run / "rollouts/test-final-sampled.parquet")
    lengths = drawn["token_ids"].map(len).groupby(drawn["problem_id"]).mean()
    assert kept.set_index("problem_id")["solution_tokens"].to_dict() == pytest.approx(lengths.to_dict())


@pytest.mark.engine
@pytest.mark.parametrize(
    "own", [["data=sums"], ["reward=brevity"], ["algo=rejection"], ["model=my-llama", "model.kind=embedded", METRIC]]
)
def test_each_choice_from_outside_runs_beside_those_of_the_package(rlreason, tmp_path, own):
    folder = write_recipes(tmp_path)
    rounds = [] if own == ["algo=rejection"] else ["algo.rounds=1"]
    rlreason(folder, "--config-dir", "conf", *own, *TINY, *rounds, "name=own").check()
    assert json.loads((folder / "runs/own/result.json").read_text())["rollouts"]["round-1"] == 24 * 3


def test_a_mistake_in_every_job_of_a_sweep_over_choices_from_outside_is_one_line(folder, refusal):
    line = refusal("-m", "algo=rejection,ei", "data=sums", "algo.samples=0")
    assert "algo.samples=0 must be a whole number of at least 1" in line


def test_a_budget_reaches_an_algorithm_from_outside(refusal):
    line = refusal("algo=rejection", "data=sums", "budget=100")
    assert "one sample of every question takes 200 rollouts; the nearest is budget=200" in line


def test_processes_that_train_together_find_choices_from_outside(folder):
    script = (
        "import sys\nfrom rlreason.cli import main\nfrom rlreason.distributed import launch\n"
        "launch.start = lambda config, on_each, arguments: print(*arguments)\n"
        "sys.argv = ['rlreason', '--config-dir', 'conf', 'data=sums', 'launcher=accelerate', 'nproc=2']\nmain()"
    )
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["--config-dir", f"{folder}/conf", "data=sums", "launcher=accelerate", "nproc=2"]


def test_help_shows_choices_from_outside(folder, cold_rlreason):
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    shown = cold_rlreason(folder, "--config-dir", "conf", "--help", env=environment).check().output
    assert "One round of rejection sampling." in shown
    shown = cold_rlreason(folder, "--config-dir=conf", "--help", "reward", env=environment).check().output
    assert "reward.price=0.05" in shown
    assert "taken from a right answer's reward for every step" in shown


@pytest.mark.parametrize(
    ("group", "recipe", "fact"),
    [("data", "sums", "licence"), ("reward", "brevity", "needs_solutions"), ("algo", "rejection", "for_budget")],
)
def test_a_row_that_lacks_a_fact_is_refused_and_the_fact_is_named(folder, refusal, group, recipe, fact):
    module = f"without_{fact}"
    choice(folder, group, "half", module, row=f"{module}.{recipe.upper()}")
    text = re.sub(rf"\b{fact}=[^,\n]+,(?=\s)", "", RECIPES[f"{recipe}.py"])
    assert text != RECIPES[f"{recipe}.py"]
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    line = refusal(f"{group}=half")
    assert f"{group}.row={module}.{recipe.upper()} is not a whole row" in line
    assert f"'{fact}'" in line


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("nowhere.SUMS", "No module named 'nowhere'); put its folder on PYTHONPATH"),
        ("sums.SUM", "has no attribute 'SUM'); did you mean SUMS?"),
        ("SUMS", "Empty module name); put its folder on PYTHONPATH"),
    ],
)
def test_a_row_that_is_not_there_is_refused(folder, refusal, row, words):
    choice(folder, "data", "lost", row=row)
    line = refusal("data=lost")
    assert f"data.row={row} cannot be imported" in line
    assert words in line


def test_a_row_of_another_kind_is_refused(folder, refusal):
    choice(folder, "data", "mixed", row="brevity.BREVITY")
    assert "data=mixed: its row is of type RewardRow, not Dataset" in refusal("data=mixed")


def test_settings_that_the_program_cannot_read_are_refused(folder, refusal):
    choice(folder, "reward", "bare", "bare", row="bare.BREVITY")
    (folder / "bare.py").write_text(RECIPES["brevity.py"].replace("settings=BrevityConfig", "settings=dict"))
    assert "reward=bare: the settings of its row must extend RewardConfig" in refusal("reward=bare")


def test_a_name_of_the_package_cannot_have_another_row(folder, refusal):
    choice(folder, "data", "mine", name="gsm8k")
    assert "data=gsm8k is declared already; give the row another name" in refusal("data=mine")


def test_a_name_without_a_row_is_refused(folder, refusal):
    choice(folder, "algo", "bare", row="left out")
    line = refusal("algo=bare")
    assert "algo=bare is not declared; choose from: ei, ppo" in line
    assert "row: PACKAGE.MODULE.NAME" in line


def test_an_unknown_choice_is_met_with_the_nearest_of_both_places(refusal):
    line = refusal("algo=rejektion")
    assert "algo=rejektion is unknown; did you mean rejection?" in line
    assert "choose from: ei, grpo" in line


def test_a_setting_of_a_choice_from_outside_is_checked(refusal):
    line = refusal("reward=brevity", "reward.price=1")
    assert "reward.price=1.0 must be a number of at least 0 and below 0.1" in line


def test_a_metric_that_is_not_there_is_refused(refusal):
    assert "eval.metrics=tokens.none cannot be imported" in refusal("eval.metrics=[tokens.none]")

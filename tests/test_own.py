"""What the user has written and names by file or module: found, kept, and part of what a run is."""

import sys
from pathlib import Path

import pytest
import yaml
from tests_support import composed

from rlreason.config.compose import own_parts
from rlreason.errors import FolderRefused, UserError
from rlreason.own import imported, names_own
from rlreason.run.folder import Run
from rlreason.run.stage import sampling_round
from rlreason.study.report import own_code


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_named_by_its_path_and_imports_what_stands_beside_it(tmp_path, monkeypatch):
    write(tmp_path, "own_helpers_of_test.py", "def double(x):\n    return 2 * x\n")
    path = write(tmp_path, "my part.py", "from own_helpers_of_test import double\ndef four():\n    return double(2)\n")
    part = imported("reward.function", f"{path}:four")
    assert part.value() == 4
    assert (part.name, part.file, part.source) == ("four", path, path.read_text())
    monkeypatch.chdir(tmp_path)
    assert imported("reward.function", "my part.py:four").value is part.value
    assert not list(tmp_path.glob("__pycache__/my*"))


def test_two_files_of_one_name_are_two_modules(tmp_path):
    for number in (1, 2):
        write(tmp_path, f"{number}/mine.py", f"def number():\n    return {number}\n")
    assert [imported("k", f"{tmp_path}/{number}/mine.py:number").value() for number in (1, 2)] == [1, 2]


@pytest.mark.parametrize("form", ["json:dumps", "json.dumps"])
def test_a_module_is_named_as_python_finds_it(form):
    assert imported("eval.metrics", form).value is sys.modules["json"].dumps


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", "mine.py cannot be imported (SyntaxError"),
        ("raise OSError('disk')\n", "mine.py cannot be imported (OSError: disk in line 1 of mine.py)"),
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all'"),
        ("import sys\nsys.exit(3)\n", "mine.py cannot be imported (SystemExit: 3"),
        ("def g():\n    pass\n", "mine.py has no attribute 'f'); it defines g"),
        ("def ff():\n    pass\n", "did you mean ff?"),
        ("import os\n", "it defines nothing"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, text, words):
    path = write(tmp_path, "mine.py", text)
    with pytest.raises(UserError) as caught:
        imported("reward.function", f"{path}:f")
    line = str(caught.value)
    assert line.startswith(f"reward.function={path}:f")
    assert words in line and "\n" not in line


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"there is no file mine\.py in .*; give FILE\.py:NAME"):
        imported("reward.function", f"{tmp_path}/mine.py:f")


@pytest.mark.parametrize(
    ("value", "own"),
    [("a.py:f", True), ("/x y/a.py:f", True), ("pkg.mod:f", True), ("group", False), ("a.b", False), (None, False)],
)
def test_own_things_are_told_from_choices(value, own):
    assert names_own(value) == own


def test_an_unknown_choice_is_met_with_the_choices_and_the_form_of_own_ones():
    with pytest.raises(
        UserError, match=r"must be one of group, dr_grpo, rloo, or FILE\.py:NAME or PACKAGE\.MODULE:NAME"
    ):
        composed("algo=grpo", "algo.advantage=mean")


def test_every_own_part_of_a_configuration_is_found(tmp_path):
    path = write(
        tmp_path,
        "mine.py",
        "def reward(problem, completion):\n    return 1.0\n"
        "def advantage(returns):\n    return returns - returns.mean()\n"
        "def loss(logprobs, old_logprobs, reference_logprobs, advantages, mask):\n    return -logprobs * advantages\n"
        "def metric(problem, k):\n    return {}\n",
    )
    config = composed(
        *("algo=grpo", f"algo.advantage={path}:advantage", f"algo.loss={path}:loss"),
        *(f"reward.function={path}:reward", f"eval.metrics=['{path}:metric']"),
    )
    found = [(part.key, part.name) for part in own_parts(config)]
    assert found == [
        ("algo.loss", "loss"),
        ("algo.advantage", "advantage"),
        ("reward.function", "reward"),
        ("eval.metrics", "metric"),
    ]
    assert own_parts(composed("algo=grpo")) == []


def config_with(digest: str, metrics: tuple[str, ...] = ()) -> dict:
    return {"seed": 0, "eval": {"metrics": list(metrics)}, "sources": {"mine.py:f": digest}}


def test_own_code_that_has_changed_since_rollouts_were_stored_is_another_configuration(tmp_path):
    with_rollouts = Run(tmp_path, config_with("one"))
    with_rollouts.commit(sampling_round(1), rollouts=4)
    with_rollouts.close()
    Run(tmp_path, config_with("one")).close()
    with pytest.raises(FolderRefused, match=r"mine\.py:f has changed since; .*own has what it was"):
        Run(tmp_path, config_with("two"))


def test_own_code_may_be_mended_until_rollouts_are_stored(tmp_path):
    Run(tmp_path, config_with("one")).close()
    Run(tmp_path, config_with("two")).close()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["sources"] == {"mine.py:f": "two"}
    with pytest.raises(FolderRefused, match="seed=0 there, 1 asked for"):
        Run(tmp_path, {**config_with("three"), "seed": 1})


def test_a_metric_may_not_change_within_a_run(tmp_path):
    Run(tmp_path, config_with("one", ("mine.py:f",))).close()
    with pytest.raises(FolderRefused, match="has changed since"):
        Run(tmp_path, config_with("two", ("mine.py:f",)))


def test_a_report_lists_own_code_with_where_it_is_kept(tmp_path):
    from types import SimpleNamespace

    write(tmp_path, "run/own/abc-mine.py", "")
    settings = {"reward.function": "mine.py:f", "eval.metrics": [], "sources.mine.py:f": "abc", "algo.loss": None}
    runs = [SimpleNamespace(settings=settings, folder=tmp_path / "run")] * 2
    assert own_code(runs) == [("reward.function", "mine.py:f", "run/own/abc-mine.py", 2)]

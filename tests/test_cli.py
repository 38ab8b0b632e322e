"""The command line as a user meets it: help, completion, names, and one line for every mistake."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from tests_support import hydra_section

from rlreason.jobs import run_folder
from rlreason.run.folder import Run


def test_help_names_every_group_and_choice(cold_rlreason, tmp_path):
    shown = cold_rlreason(tmp_path, "--help").check().output
    for word in (
        "algo",
        "expert iteration",
        "llama13b",
        "wordproblems",
        "few_shot",
        "standard",
        "wandb",
        "rlreason -m",
    ):
        assert word.lower() in shown.lower()


def test_help_of_a_group_explains_its_fields(cold_rlreason, tmp_path):
    shown = cold_rlreason(tmp_path, "--help", "algo").check().output
    assert "algo.restart=base" in shown
    assert "pretrained, as in the paper" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["algo=ppoo"],
        ["algo.samples=0"],
        ["--cfg", "job"],
        ["model=local", "model.path=/none"],
        ["task=watch", "study=none"],
        ["-m", "algo=ei,sft", "algo.epochs=0"],
    ],
)
def test_what_needs_no_model_loads_no_heavy_library(arguments, tmp_path):
    script = (
        "import sys\nfrom rlreason.cli import main\n"
        f"sys.argv = ['rlreason', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "loaded = {'torch', 'transformers', 'trl', 'vllm', 'wandb', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["algo=eii"], ["algo=eii is unknown", "did you mean ei"]),
        (["model=lama7b"], ["did you mean llama7b"]),
        (["algo.sample=3"], ["algo.samples"]),
        (["sead=3"], ["seed"]),
        (["algo.rounds=three"], ["algo.rounds", "three"]),
        (["algo.samples=0"], ["algo.samples=0 must be a whole number of at least 1"]),
        (["data=gsm8k", "data.path=/nowhere"], ["/nowhere"]),
        (["model=local", "model.path=/nowhere"], ["/nowhere"]),
        (["model=llama13b", "data=wordproblems"], ["llama13b", "GiB"]),
        (["runs_dir=/proc/runs"], ["cannot write", "runs_dir"]),
        (["study=a/b"], ["study='a/b'", "plain name"]),
        (["study=cache"], ["study=cache", "choose another"]),
        (["task=watch"], ["study=NAME"]),
        (["-m", "algo=ei,sft", "algo.epochs=0"], ["epochs=0"]),
        (["-m", "seed=0,1", "hydra/launcher=jobli"], ["joblib"]),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(cold_rlreason, tmp_path, arguments, words):
    options = [item for item in arguments if item == "-m"]
    done = cold_rlreason(tmp_path, *options, "tracker=none", *(item for item in arguments if item != "-m"))
    assert done.code == 2, done.output
    lines = done.output.strip().splitlines()
    assert len(lines) == 1, done.output
    for word in words:
        assert word in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_configuration_is_refused(cold_rlreason, tmp_path):
    Run(tmp_path / "runs" / "mine", {"seed": 5, "algo": {"name": "sft"}, "gpu_hour_price": None}).close()
    done = cold_rlreason(tmp_path, "tracker=none", "name=mine")
    assert done.code == 2
    assert "belongs to another configuration" in done.output


def test_tab_completion_offers_choices(cold_rlreason, tmp_path):
    environment = {**os.environ, "COMP_LINE": "rlreason algo=", "COMP_POINT": "14", "COMP_CWORD": "1"}
    shown = cold_rlreason(tmp_path, "-sc", "query=bash", env=environment)
    assert shown.code == 0
    assert {"algo=ei", "algo=sft"} <= set(shown.output.split())


def test_the_composed_configuration_can_be_shown(cold_rlreason, tmp_path):
    shown = cold_rlreason(tmp_path, "--cfg", "job", "--resolve", "algo.samples=5").check().output
    assert "samples: 5" in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trouble", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_line(trouble, monkeypatch, tmp_path, capsys):
    from rlreason import cli, jobs

    def finished_result(folder, plain):
        raise OSError(trouble, os.strerror(trouble), "runs/x/rollouts/round-1.parquet")

    monkeypatch.setattr(jobs, "finished_result", finished_result)
    monkeypatch.setattr(sys, "argv", ["rlreason", "tracker=none"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 2
    shown = capsys.readouterr().err.strip()
    assert "\n" not in shown
    assert "runs/x/rollouts/round-1.parquet" in shown
    assert os.strerror(trouble) in shown


def folder_of_run(choices, overrides, settings=None, **general):
    """The run folder that Hydra's choices and overrides of a job lead to."""
    config = SimpleNamespace(
        **{"name": None, "study": None, "runs_dir": "runs", "seed": 0, "task": SimpleNamespace(name="train"), **general}
    )
    return run_folder(config, hydra_section(choices, overrides, settings))


def test_the_run_is_named_by_what_was_asked_for():
    choices = {"algo": "ei", "model": "local", "data": "gsm8k", "init": "sft", "reward": "sparse", "eval": "paper"}
    overrides = ["algo=ei", "init=sft", "eval=paper", "algo.samples=96", "model.path=/models/my-llama"]
    overrides += ["seed=3", "runs_dir=runs", "tracker.project=x"]
    name = folder_of_run(choices, overrides, seed=3).name
    assert name == "ei-local-gsm8k-sft-sparse-algo.samples=96-eval=paper-model.path=my-llama-seed3"
    assert folder_of_run(choices, overrides, seed=3, name="mine").name == "mine"


CHOICES = {"algo": "ei", "model": "tiny", "data": "gsm8k", "init": "sft", "reward": "sparse"}


def test_the_runs_of_a_study_lie_together_and_are_not_named_by_its_experiment():
    found = folder_of_run(CHOICES, ["experiment=s", "study=s"], study="s")
    assert str(found) == "runs/s/ei-tiny-gsm8k-sft-sparse-seed0"
    assert "experiment=other" in folder_of_run(CHOICES, ["experiment=other"], study="s").name


def test_the_run_is_named_by_what_was_asked_for_beside_what_its_study_sets():
    settings = {"algo=ei": ["algo.epochs=4"], "algo=sft": ["algo.evaluations=4"]}
    overrides = ["algo.epochs=4", "algo=ei", "algo.evaluations=4"]
    name = folder_of_run(CHOICES, overrides, settings).name
    assert name == "ei-tiny-gsm8k-sft-sparse-algo.evaluations=4-seed0"

"""`rlreason task=report` as a user meets it."""

import subprocess
import sys

import pytest
from study.made import make_run


@pytest.fixture
def folder(tmp_path):
    make_run(tmp_path / "runs/mine", accuracies=(0.2, 0.6), ood=False, scores=False)
    make_run(tmp_path / "runs/mine", "ppo", accuracies=(0.2, 0.4), ood=False, scores=False)
    make_run(tmp_path / "runs/mine", "sft", finished=False)
    return tmp_path


def test_the_headline_results_and_the_place_of_the_report_are_shown(folder, cold_rlreason):
    shown = cold_rlreason(folder, "task=report", "study=mine").check().output
    for words in ("word problems, test questions, prompt=plain, K = 4: tiny", "EI sparse, 1 seed", "maj@1", "pass@4"):
        assert words in shown
    assert "not finished yet: 1 of the runs" in shown
    assert shown.rstrip().endswith("the report is in runs/mine/report.html")
    assert (folder / "runs/mine/report.html").exists()
    # Elsewhere the folder of studies is named, and the report is no run of the study.
    again = cold_rlreason(folder / "runs", "task=report", "study=mine", "runs_dir=.").check().output
    assert "the report is in mine/report.html" in again


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "task=report needs study=NAME"),
        (["study=none"], "there is no study in runs/none"),
        (["study=a/b"], "study='a/b' must be a plain name"),
        (["study=empty"], "no finished run in runs/empty"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, cold_rlreason, arguments, words):
    (tmp_path / "runs/empty").mkdir(parents=True)
    done = cold_rlreason(tmp_path, "task=report", *arguments)
    assert done.code == 2, done.output
    assert len(done.output.strip().splitlines()) == 1, done.output
    assert words in done.output


def test_no_heavy_library_is_loaded(folder):
    script = (
        "import sys\nfrom rlreason.cli import main\nsys.argv = ['rlreason', 'task=report', 'study=mine']\nmain()\n"
        "loaded = {'torch', 'transformers', 'trl', 'vllm', 'wandb', 'datasets', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

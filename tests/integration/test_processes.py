"""A run in two processes ends with what one process counts; it survives the death of one, and leaves none behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from tests_support import BATCHES, JUDGE, LABORATORY, UPDATE, composed, journal, rollout_counts

from rlreason.distributed import launch
from rlreason.errors import UserError

pytestmark = pytest.mark.engine

COMMAND = [
    *LABORATORY,
    *UPDATE,
    "init=sft",
    "init.batch_size=2",
    "init.micro_batch_size=1",
    "checkpoint_seconds=0",
    # As little as shows it: vLLM takes its time to start, and is beside the two processes of PPO below.
    "engine=transformers",
    "data.train_size=12",
    "data.validation_size=4",
    "data.test_size=4",
    "eval.k=1",
    "name=run",
]
TWO = ["launcher=accelerate", "nproc=2"]


def started(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "rlreason", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def of_rank(command, rank):
    """The process of a rank, once it is there."""
    for child in psutil.Process(command.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank) and "rlreason" in " ".join(child.cmdline()):
            return child
    return None


@pytest.mark.parametrize(
    "algorithm",
    [["algo=ei", "algo.rounds=1"], pytest.param(["algo=rcrl", *JUDGE, "orm.samples=4"], marks=pytest.mark.faults)],
)
def test_one_of_two_processes_is_killed_and_the_same_command_completes_the_run(rlreason, tmp_path, algorithm):
    asked = [*COMMAND, *algorithm]
    command = started(tmp_path, *asked, *TWO)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("runs/cache/sft-*/training/sft/checkpoint-*/complete")):
        assert command.poll() is None, command.stdout.read()[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(command.pid).children(recursive=True)
    os.kill(of_rank(command, 1).pid, signal.SIGKILL)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 1, output[-4000:]
    # Two processes write to it, and one may not have ended its line.
    (line,) = [line for line in output.splitlines() if "rlreason: " in line]
    assert "process 1 of 2 was killed by SIGKILL" in line and "the same command continues" in line
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive

    resumed = started(tmp_path, *asked, *TWO)
    output, _ = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, output[-4000:]
    two = tmp_path / "runs/run"

    (tmp_path / "alone").mkdir()
    rlreason(tmp_path / "alone", *asked).check()
    one = tmp_path / "alone/runs/run"
    assert rollout_counts(two) == rollout_counts(one)
    results = [json.loads((run / "result.json").read_text()) for run in (one, two)]
    assert results[0]["rollouts"] == results[1]["rollouts"]
    assert [record["stage"] for record in journal(two)] == [record["stage"] for record in journal(one)]
    (here,), (there,) = ([item for item in journal(run) if item["stage"] == "sft"] for run in (one, two))
    assert there["steps"] == here["steps"]
    assert there["loss"] == pytest.approx(here["loss"], abs=0.02)  # two threads round otherwise in bfloat16


@pytest.mark.faults
def test_ppo_that_is_split_over_two_processes_counts_what_one_counts(rlreason, tmp_path):
    """With a separate critic and a reference model, each split by FSDP2; the engine gets the weights gathered."""
    command = [*LABORATORY, *BATCHES, "algo=ppo", "algo.critic=separate", "algo.micro_batch_size=2", "name=run"]
    split = started(tmp_path, *command, *TWO, "sharding=fsdp2")
    output, _ = split.communicate(timeout=600)
    assert split.returncode == 0, output[-4000:]
    (tmp_path / "alone").mkdir()
    rlreason(tmp_path / "alone", *command).check()
    two, one = tmp_path / "runs/run", tmp_path / "alone/runs/run"
    assert rollout_counts(two) == rollout_counts(one)
    assert [record["stage"] for record in journal(two)] == [record["stage"] for record in journal(one)]
    results = [json.loads((run / "result.json").read_text()) for run in (one, two)]
    starts = [result["evaluations"][0]["metrics"]["maj@1"] for result in results]
    assert starts[0] == starts[1], "nothing is trained yet"
    assert all(gap < 0.05 for gap in results[1]["probe_gaps"].values())


NODES = ["launcher=accelerate", "launcher.nodes=2", "name=run"]


def test_a_port_in_use_and_a_machine_that_does_not_answer(cold_rlreason, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = cold_rlreason(tmp_path, *NODES, f"launcher.address={address}")
        assert (done.code, len(done.output.strip().splitlines())) == (2, 1)
        assert f"launcher.address={address}: the port is in use" in done.output
    monkeypatch.setattr(launch, "SECONDS_TO_MEET", 3)
    config = composed(*NODES, "launcher.node_rank=1", f"launcher.address={address}")
    with pytest.raises(UserError, match="machine 0 does not answer"):
        launch.start(config.launcher, 1, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*TWO, "algo.batch_size=5", "algo.micro_batch_size=5"], "algo.batch_size=4 or 6"),
        (["nproc=2"], "launcher=accelerate"),
        (["sharding=fsdp2"], "there is one"),
    ],
)
def test_what_processes_cannot_do_is_one_line(cold_rlreason, tmp_path, arguments, words):
    done = cold_rlreason(tmp_path, *arguments)
    assert done.code == 2, done.output
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1

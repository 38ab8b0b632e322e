"""A run folder of which any file was emptied, cut or removed: the same command does again what is lost, or names it."""

import json
import shutil

import pytest
from tests_support import BATCHES, JUDGE, LABORATORY, UPDATE, assert_same

from rlreason.run.left_out import Trouble

pytestmark = pytest.mark.engine

SMALL = [*LABORATORY, "checkpoint_seconds=0", "engine=transformers", "name=run"]
COMMANDS = {
    "ei": [*SMALL, *UPDATE, "algo.rounds=2", "algo.threshold=0"],
    "ppo": [*SMALL, *BATCHES, "algo=ppo"],
    "grpo": [*SMALL, *BATCHES, "algo=grpo", "reward=dense", "init=sft"],
    "rcrl": [*SMALL, *UPDATE, *JUDGE, "algo=rcrl"],
    "sft": [*SMALL, "algo=sft", "algo.epochs=1", "algo.evaluations=2"],
}
DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "removed": lambda path: path.unlink(),
}
# Nobody reads these again.
NOT_READ = (".lock", "output.txt")
A_FEW = (
    "result.json",
    "config.yaml",
    "rollouts/round-1.parquet",
    "checkpoints/round-1/model.safetensors",
)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_READ)


@pytest.mark.parametrize("where", [pytest.param("run", id="run"), pytest.param("cache", marks=pytest.mark.faults)])
@pytest.mark.parametrize(
    ("algorithm", "chosen"),
    [("ei", A_FEW), *(pytest.param(name, None, marks=pytest.mark.faults) for name in COMMANDS)],
)
def test_whatever_file_is_lost_the_same_command_ends_as_the_whole_run_did(rlreason, tmp_path, algorithm, chosen, where):
    command = COMMANDS[algorithm]
    (tmp_path / "whole").mkdir()
    rlreason(tmp_path / "whole", *command).check()
    whole = tmp_path / "whole/runs/run"
    shutil.copytree(tmp_path / "whole/runs", tmp_path / "runs")
    run = tmp_path / "runs/run"
    damaged = tmp_path / "runs" / where
    names = [path.relative_to(damaged) for path in files(damaged)] if chosen is None else chosen
    for number, name in enumerate(names):
        kinds = [list(DAMAGES)[number % 3]] if chosen else list(DAMAGES)
        for kind in kinds:
            if not (damaged / name).exists():  # what is remade may have another name, as the folders of W&B have
                continue
            DAMAGES[kind](damaged / name)
            (run / "result.json").unlink(missing_ok=True)
            done = rlreason(tmp_path, *command)
            if done.code == 2:
                lines = [line for line in done.output.splitlines() if line.startswith("rlreason:")]
                assert len(lines) == 1 and str(name) in lines[0], f"{name} {kind}: {done.output[-2000:]}"
                (damaged / name).unlink(missing_ok=True)
                done = rlreason(tmp_path, *command)
            assert done.code == 0, f"{name} {kind}: {done.output[-3000:]}"
            assert_same(run, whole)
    if where == "run" and chosen is not None:
        told = {row["what"]: row["count"] for row in json.loads((run / "result.json").read_text())["left_out"]}
        assert told[Trouble.REDONE] == 2  # of the rollouts and of the checkpoint

"""Two processes learn what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import several_processes
from safetensors.torch import load_file

pytestmark = pytest.mark.engine
TESTS = Path(__file__).parent.parent


def in_two_processes(folder, *how):
    """What two processes find."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
         str(TESTS / "several_processes.py"), str(folder), *how],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "found.json").read_text())


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    two = in_two_processes(folders[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlreason.models.loading.bfloat16_is_fast", lambda: False)
        one = several_processes.cases(folders[0])
    return one, two, folders


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
@pytest.mark.parametrize("update", ["supervised", "outcome", *several_processes.ON_POLICY])
def test_losses_and_counts_are_those_of_one_process(one_and_two, update, sharding):
    one, two, _ = one_and_two
    alone = one[f"{update} none"]
    assert len(alone) > 3
    assert two[f"{update} {sharding}"] == pytest.approx(alone, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
@pytest.mark.parametrize("update", ["sft", "orm", *several_processes.ON_POLICY])
def test_weights_are_those_of_one_process(one_and_two, update, sharding):
    _, _, folders = one_and_two
    one, two = weights(folders[0] / f"{update}-none"), weights(folders[1] / f"{update}-{sharding}")
    assert one.keys() == two.keys() and one
    for name, values in one.items():
        assert two[name] == pytest.approx(values, abs=2e-4), name


@pytest.mark.parametrize(("number", "sharding"), [(0, "none"), (1, "none"), (1, "fsdp2")])
def test_policy_and_critic_go_on_from_a_checkpoint(one_and_two, number, sharding):
    """The second of two batches, learned again from the checkpoint after the first, ends in the same weights."""
    _, _, folders = one_and_two
    found, again = (weights(folders[number] / f"separate-{sharding}{ending}") for ending in ("", "-again"))
    assert found.keys() == again.keys()
    for name, values in found.items():
        assert again[name] == pytest.approx(values, abs=1e-6), name


@pytest.mark.parametrize("rank", [0, 1])
def test_no_model_is_left_after_the_updates_of_a_process(one_and_two, rank):
    _, _, folders = one_and_two
    assert json.loads((folders[1] / f"alive-{rank}.json").read_text()) == 0


@pytest.mark.faults
def test_activations_that_are_computed_twice_change_nothing_in_two_processes(one_and_two, tmp_path):
    _, two, _ = one_and_two
    again = in_two_processes(tmp_path, "checkpointing")
    assert again.keys() == two.keys()
    for name, values in two.items():
        assert again[name] == pytest.approx(values, abs=1e-5, rel=1e-5), name


def weights(folder):
    """Of every model in a checkpoint: its own, adapters, a head."""
    return {
        f"{path.relative_to(folder)} {name}": values
        for path in folder.rglob("*.safetensors")
        for name, values in load_file(path).items()
    }

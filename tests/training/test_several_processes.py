"""Two processes learn what one does."""

import json

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.engine
# One of each kind: a critic on the policy's trunk and one apart, adapters, groups.
A_FEW = ("supervised", "outcome", "ppo", "separate", "separate-lora", "grpo")
OTHERS = ("grpo-lora",)
UPDATES = [*A_FEW, *(pytest.param(name, marks=pytest.mark.faults) for name in OTHERS)]


class Found:
    """What one process and two find, and the folders with their weights; each update is done when it is asked for."""

    def __init__(self, rlreason, folder):
        self.rlreason = rlreason
        self.folder = folder
        self.known = {}

    def __call__(self, processes, names=A_FEW, how="kept"):
        """The losses and counts of some updates, and the folder."""
        if (key := (processes, names, how)) not in self.known:
            folder = self.folder / "-".join(map(str, (processes, len(self.known), how)))
            folder.mkdir()
            arguments = (str(folder), " ".join(names), how)
            self.rlreason.in_processes(processes, folder, "several_processes:one_of_several", *arguments).check()
            self.known[key] = json.loads((folder / "found.json").read_text()), folder
        return self.known[key]

    def with_others(self, processes, name):
        return self(processes, A_FEW if name in A_FEW else OTHERS)


@pytest.fixture(scope="module")
def found(rlreason, tmp_path_factory):
    return Found(rlreason, tmp_path_factory.mktemp("found"))


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
@pytest.mark.parametrize("update", UPDATES)
def test_losses_and_counts_are_those_of_one_process(found, update, sharding):
    (one, _), (two, _) = (found.with_others(processes, update) for processes in (1, 2))
    alone = one[f"{update} none"]
    assert len(alone) > 3
    assert two[f"{update} {sharding}"] == pytest.approx(alone, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
@pytest.mark.parametrize("update", UPDATES)
def test_weights_are_those_of_one_process(found, update, sharding):
    (_, one), (_, two) = (found.with_others(processes, update) for processes in (1, 2))
    assert_close(weights(one / f"{update}-none"), weights(two / f"{update}-{sharding}"), 2e-4)


@pytest.mark.parametrize(("number", "sharding"), [(1, "none"), (2, "none"), (2, "fsdp2")])
def test_policy_and_critic_go_on_from_a_checkpoint(found, number, sharding):
    """The second of two batches, learned again from the checkpoint after the first, ends in the same weights."""
    _, folder = found(number)
    assert_close(*(weights(folder / f"separate-{sharding}{ending}") for ending in ("", "-again")), 1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_no_model_is_left_after_the_updates_of_a_process(found, rank):
    _, folder = found(2)
    assert json.loads((folder / f"alive-{rank}.json").read_text()) == 0


@pytest.mark.faults
def test_activations_that_are_computed_twice_change_nothing_in_two_processes(found):
    (two, _), (again, _) = found(2), found(2, how="checkpointing")
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


def assert_close(one, two, difference):
    assert one.keys() == two.keys() and one
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=0, atol=difference, msg=lambda text, name=name: name + text)

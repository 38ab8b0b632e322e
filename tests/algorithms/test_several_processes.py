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


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
         str(TESTS / "several_processes.py"), str(folders[1])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlreason.models.loading.bfloat16_is_fast", lambda: False)
        one = several_processes.cases(folders[0])
    return one, json.loads((folders[1] / "found.json").read_text()), folders


@pytest.mark.parametrize("update", ["supervised", "outcome", "ppo", "grpo", "sharded supervised", "sharded outcome"])
def test_losses_and_counts_are_those_of_one_process(one_and_two, update):
    one, two, _ = one_and_two
    alone = one[update.removeprefix("sharded ")]
    assert len(alone) > 3
    assert two[update] == pytest.approx(alone, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
@pytest.mark.parametrize(
    "file", ["sft/model.safetensors", "orm/scalar_head.safetensors", "ppo/model.safetensors", "grpo/model.safetensors"]
)
def test_weights_are_those_of_one_process(one_and_two, file, sharding):
    _, _, folders = one_and_two
    if file.startswith(("sft", "orm")):
        one = load_file(folders[0] / file.replace("/", "-none/"))
        two = load_file(folders[1] / file.replace("/", f"-{sharding}/"))
    else:
        one, two = (load_file(folder / file) for folder in folders)
    assert one.keys() == two.keys()
    for name, weights in one.items():
        assert two[name] == pytest.approx(weights, abs=2e-4), name

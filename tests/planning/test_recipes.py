"""The recipes of docs/gpu.md fit the hardware that they name, and take about the hours that they say."""

import re
from pathlib import Path

import pytest
import yaml
from tests_support import composed

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.planning.fit import check_devices, check_splits, few_cores, shortages
from rlreason.planning.hardware import GIB, Hardware
from rlreason.planning.plan import make_plan
from rlreason.planning.shape import model_shape

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `rlreason (.+)` \| (\d+) \| (\d+) GiB \| (\d+) \| (\d+) \|$", re.MULTILINE)
RECIPES = ROW.findall((ROOT / "docs/gpu.md").read_text())


@pytest.mark.parametrize(("command", "gpus", "memory", "cores", "hours"), RECIPES, ids=lambda value: value)
def test_a_recipe_fits_its_hardware(command, gpus, memory, cores, hours, tmp_path):
    machine = Hardware(int(gpus), 80 * GIB, "NVIDIA H100 80GB HBM3", int(memory) * GIB, int(cores), fast_bfloat16=True)
    config = composed(*command.split(), f"gpus={gpus}", "gpu_memory=80", "gpu_name=h100", f"runs_dir={tmp_path}")
    shape = model_shape(config.model)
    assert shape is not None
    check_devices(config, machine)
    check_splits(config, shape)
    assert shortages(config, shape, machine) == []
    assert few_cores(config, machine) is None
    assert make_plan(config).hours == pytest.approx(float(hours), rel=0.3, abs=0.6)
    assert config.model.gradient_checkpointing
    assert config.checkpoint_seconds == 1800


def test_there_are_recipes_for_both_sizes_on_one_gpu_and_on_eight():
    named = {(size, gpus) for command, gpus, *_ in RECIPES for size in ("7b", "13b") if size in command}
    assert named == {("7b", "1"), ("13b", "1"), ("7b", "8"), ("13b", "8")}


@pytest.mark.parametrize(("launcher", "gpus"), [("slurm", "1"), ("slurm_gpu80x8", "8")])
def test_slurm_is_asked_for_what_the_recipes_say(launcher, gpus):
    asked = yaml.safe_load((ROOT / f"conf/hydra/launcher/{launcher}.yaml").read_text())
    found = {(int(memory), int(cores)) for _, of_recipe, memory, cores, _ in RECIPES if of_recipe == gpus}
    assert found == {(asked["mem_gb"], asked["cpus_per_task"])}
    assert asked["gpus_per_node"] == int(gpus)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_engine_takes_most_of_a_gpu_where_training_keeps_nothing_there_meanwhile(algorithm):
    config = composed("hardware=gpu80x8", "model=llama7b", "data=gsm8k", f"algo={algorithm}")
    update = ALGORITHMS[algorithm].plan(config.algo).update
    beside = update is not None and update.rollouts > 0
    assert config.engine.memory_share == (0.5 if beside else 0.85)

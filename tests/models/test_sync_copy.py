"""Weights on their way to an engine: in its precision, which rounds them as it would itself."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file
from tests_support import composed

from rlreason.lab.on_policy import sync_bytes
from rlreason.models.loading import load_model, load_tokenizer, save_for_engine, save_snapshot
from rlreason.models.probe import probe_of
from rlreason.planning.shape import model_shape

TINY = Path(__file__).parents[2] / "rlreason/models/weights/tiny"


@pytest.fixture(scope="module")
def model():
    return load_model(TINY, "float32")


@pytest.mark.parametrize(("dtype", "share"), [("auto", 1.0), ("float32", 1.0), ("bfloat16", 0.5), ("float16", 0.5)])
def test_weights_are_written_as_the_engine_will_hold_them(tmp_path, model, dtype, share):
    tokenizer = load_tokenizer(TINY)
    save_snapshot(model, tokenizer, tmp_path / "snapshot")
    save_for_engine(model, tokenizer, tmp_path / "sync", None, dtype)
    whole, sync = (load_file(tmp_path / name / "model.safetensors") for name in ("snapshot", "sync"))
    assert whole.keys() == sync.keys()
    assert sum(value.nbytes for value in sync.values()) == share * sum(value.nbytes for value in whole.values())
    # Read in the engine's precision both are the same to the last bit, and both say the same of the probe.
    ours, theirs = (load_model(tmp_path / name, dtype).state_dict() for name in ("sync", "snapshot"))
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    assert probe_of(tmp_path / "sync") == probe_of(tmp_path / "snapshot")


@pytest.mark.parametrize(("dtype", "each"), [("auto", 4), ("float32", 4), ("bfloat16", 2)])
def test_bytes_on_the_way_follow_the_precision(dtype, each):
    config = composed("algo=ppo", f"model.dtype={dtype}")
    assert sync_bytes(SimpleNamespace(config=config)) == each * model_shape(config.model).parameters

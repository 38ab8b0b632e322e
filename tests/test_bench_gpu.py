"""The measurements of docs/gpu.md: their arithmetic, and that they run where there is no GPU."""

import json

import pytest
import torch

from bench.gpu import MEASUREMENTS, main
from rlreason.planning.flops import training_flops_per_token, utilisation

H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


def test_flops_of_a_token():
    # 6 x 100 for the weights; attention 12 x 2 layers x 3 wide x 5 tokens
    assert training_flops_per_token(100, 2, 3, 5, lora=False) == 600 + 360
    assert training_flops_per_token(100, 2, 3, 5, lora=True) == 400 + 360


def test_utilisation_is_of_all_devices_and_unknown_where_a_peak_is():
    found = utilisation(1000.0, 989.5e9, [H100, H100])
    assert found["mfu"] == pytest.approx(0.5)
    assert "data sheet" in found["peak"]
    assert utilisation(1000.0, 1e9, [H100, A100])["mfu"] == pytest.approx(1e12 / (989.5e12 + 312e12))
    for devices in ([], ["an unknown GPU"], [H100, "an unknown GPU"]):
        assert utilisation(1000.0, 1e9, devices) == {"mfu": None, "flops_per_token": 1e9, "peak": None}


def test_the_page_names_every_measurement(pytestconfig):
    page = (pytestconfig.rootpath / "docs/gpu.md").read_text()
    for name in MEASUREMENTS:
        assert f"-m bench.gpu {name}" in page


@pytest.mark.engine
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_training_on_a_cpu_is_measured_and_has_no_mfu(tmp_path):
    sizes = ["algo.batch_size=2", "algo.micro_batch_size=1", "--length", "16", "--steps", "2"]
    main(["memory", "model=tiny", *sizes, "--to", str(tmp_path)])
    (path,) = tmp_path.glob("memory-tiny-*.json")
    record = json.loads(path.read_text())
    assert record["unit"] == "GiB" and 0.1 < record["value"] < 16
    assert record["further"]["tokens_per_second"] == pytest.approx(2 * 16 / record["further"]["step_seconds"])
    assert record["further"]["mfu"] is None and record["further"]["flops_per_token"] > 6 * 913_408
    assert record["settings"]["parameters"] == 913_408
    assert record["settings"]["batch_size"] == 2 and record["settings"]["length"] == 16
    assert record["hardware"]["gpus"] == []
    assert {"commit", "versions", "command", "made"} <= set(record)


@pytest.mark.engine
@pytest.mark.parametrize("lora", [[], ["model.lora_rank=4", "engine.adapters=alone"]], ids=["whole", "adapters"])
def test_weight_sync_is_measured_from_where_the_model_is_trained(tmp_path, lora):
    main(["sync", "model=tiny", "engine=transformers", *lora, "--repeats", "1", "--to", str(tmp_path)])
    (path,) = tmp_path.glob("sync-tiny-*.json")
    record = json.loads(path.read_text())
    assert record["value"] == pytest.approx(sum(record["further"].values()))
    assert record["settings"]["engine"] == "TransformersEngine"
    assert record["settings"]["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert record["settings"]["adapters_alone"] == bool(lora)
    assert record["settings"]["parameters"] == 913_408

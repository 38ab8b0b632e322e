"""A finished run done again: on one machine, with the engine of transformers, everything is equal to the last bit."""

import json

import pyarrow.parquet as pq
import pytest
import yaml
from tests_support import LABORATORY, UPDATE

RUN = [*LABORATORY, *UPDATE, "algo.rounds=1", "algo.threshold=0", "engine=transformers", "init=sft", "name=run"]


@pytest.fixture(scope="module")
def finished(rlreason, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    rlreason(folder, *RUN).check()
    return folder


@pytest.mark.engine
def test_a_run_is_repeated_to_the_last_bit_and_what_differs_is_named(rlreason, finished):
    shown = rlreason(finished, "task=repeat", "task.run=runs/run").check().output
    assert "run again: everything is equal" in shown
    found = {item["what"]: item for item in json.loads((finished / "runs/run-repeated/repeat.json").read_text())}
    assert {"settings", "versions", "hardware", "losses", "rollouts of round-1", "weights of round-1"} <= found.keys()
    assert "log-probs within 0 nats" in found["rollouts of round-1"]["says"]

    path = finished / "runs/run-repeated/run/rollouts/round-1.parquet"
    table = pq.read_table(path).to_pydict()
    table["token_ids"][0] = table["token_ids"][0][:-1]
    pq.write_table(pq.read_table(path).from_pydict(table, schema=pq.read_schema(path)), path)
    weights = finished / "runs/run-repeated/run/checkpoints/round-1/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    shown = rlreason(finished, "task=repeat", "task.run=runs/run").check().output
    assert "run again: 2 of" in shown
    found = {item["what"]: item for item in json.loads((finished / "runs/run-repeated/repeat.json").read_text())}
    different = {what for what, item in found.items() if not item["equal"]}
    assert different == {"rollouts of round-1", "weights of round-1"}
    assert "71 of 72 have the same tokens" in found["rollouts of round-1"]["says"]


@pytest.mark.engine
def test_a_run_scored_again_is_equal_to_the_last_bit(rlreason, finished):
    shown = rlreason(finished, "task=rescore", "task.run=runs/run").check().output
    assert "every metric equal to the run's to the last bit" in shown
    refused = rlreason(finished, "task=rescore", "task.run=runs/nothing")
    assert (refused.code, refused.output.count("rlreason: there is no run in runs/nothing")) == (2, 1)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: (run / "result.json").unlink(), "has not finished"),
        (lambda run: (run / "config.yaml").write_text(""), "is empty or cut"),
        (lambda run: with_config(run, lambda config: config["algo"].update(colour=3)), "made by another version"),
        (lambda run: with_config(run, lambda config: config.pop("prompt")), "made by another version"),
        (lambda run: with_config(run, lambda config: config.update(nproc=2)), "trained by 2 processes"),
        (
            lambda run: with_config(run, lambda config: config["contents"].update({"model.path": "0"})),
            "what lies at model.path has changed",
        ),
        (lambda run: None, "there is no run in"),
    ],
)
def test_what_cannot_be_repeated_is_one_line(rlreason, finished, tmp_path, change, message):
    import shutil

    run = tmp_path / "runs" / "run"
    shutil.copytree(finished / "runs" / "run", run)
    change(run)
    if message == "is empty or cut":
        (run / "result.json").write_text('{"config": null}')
    asked = "runs/other" if message == "there is no run in" else "runs/run"
    done = rlreason(tmp_path, "task=repeat", f"task.run={asked}")
    assert done.code == 2, done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("rlreason:")]
    assert message in line
    assert not (tmp_path / "runs" / "run-repeated").exists()


def with_config(run, change):
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

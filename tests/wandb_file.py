"""Reads what W&B stored offline, without W&B's own program: LevelDB's log format, one protocol buffer a record."""

import json
import struct
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024
HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    found, whole, position = [], b"", 7
    while position + HEADER.size <= len(data):
        if BLOCK - position % BLOCK < HEADER.size:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(data, position)
        position += HEADER.size
        whole += data[position : position + length]
        position += length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            found.append(record)
            whole = b""
    return found


def offline_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Config, history and summary of the only W&B run below a run folder."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            items = record.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        elif kind == "summary":
            items = record.summary.update
            summary |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    return config, history, summary


def assert_tracked(run: Path) -> None:
    """W&B has the run's configuration, every metric at its samples, the example rollouts and the final numbers."""
    import yaml

    config, history, summary = offline_run(run)
    asked = yaml.safe_load((run / "config.yaml").read_text())
    assert {name: config[name] for name in asked} == asked
    logged = [row for row in history if not any(name.startswith("rollouts/") for name in row)]
    stored = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(logged) == len(stored)
    for row, line in zip(logged, stored, strict=True):
        line.pop("stage")
        assert {name: row[name] for name in line} == line
    result = json.loads((run / "result.json").read_text())
    for evaluation in result["evaluations"]:
        (table,) = (run / "wandb").glob(f"offline-run-*/files/media/table/rollouts/{evaluation['stage']}_*.json")
        rows = json.loads(table.read_text())
        assert rows["columns"] == ["problem_id", "prompt", "completion", "answer", "correct", "reward"]
        assert rows["data"]
    final = result["evaluations"][-1]["metrics"]
    assert {name: summary[f"final/{name}"] for name in final} == {name: item["value"] for name, item in final.items()}

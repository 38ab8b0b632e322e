"""Small experiments and readers of run folders, for the tests."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir

from rlreason.config.compose import from_composed
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import ModelConfig
from rlreason.run.folder import read_journal

CONF = Path(__file__).parent.parent / "conf"

LABORATORY = [
    "tracker=none",
    "data.train_size=24",
    "data.validation_size=8",
    "data.test_size=10",
    "data.max_completion_tokens=80",
    "eval.k=3",
    "eval.resamples=200",
    "engine.max_sequences=64",
]
UPDATE = ["algo.samples=3", "algo.epochs=1", "algo.batch_size=4", "algo.micro_batch_size=4"]
JUDGE = ["orm.samples=8", "orm.epochs=1", "orm.batch_size=8", "orm.micro_batch_size=8"]
BATCHES = [
    "algo.batches=3",
    "algo.questions=4",
    "algo.samples=2",
    "algo.minibatch_size=4",
    "algo.micro_batch_size=4",
    "algo.evaluations=1",
]
SMALL = [*LABORATORY, *UPDATE, "algo.rounds=1"]


def composed(*overrides: str) -> ExperimentConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return from_composed(compose("config", overrides=list(overrides)))


def hydra_section(choices: dict, overrides: list[str], settings: dict | None = None) -> SimpleNamespace:
    """What names a run of Hydra's own section: choices by group, the overrides, and what a study sets beside some."""
    return SimpleNamespace(
        runtime=SimpleNamespace(choices=choices),
        overrides=SimpleNamespace(task=overrides),
        sweeper={"settings": settings or {}},
    )


def journal(run: Path) -> list[dict]:
    path = run / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rollout_counts(run: Path) -> dict[str, int]:
    return {path.stem: pq.read_metadata(path).num_rows for path in sorted((run / "rollouts").glob("*.parquet"))}


def assert_same(run: Path, whole: Path) -> None:
    """A run that was interrupted did what one that was not did, and nothing twice."""
    ours, theirs = (json.loads((folder / "result.json").read_text()) for folder in (run, whole))
    assert rollout_counts(run) == rollout_counts(whole)
    assert ours["rollouts"] == theirs["rollouts"]
    assert [item["stage"] for item in ours["evaluations"]] == [item["stage"] for item in theirs["evaluations"]]
    assert [item["samples_seen"] for item in ours["evaluations"]] == [
        item["samples_seen"] for item in theirs["evaluations"]
    ]
    steps, expected = (
        {record["stage"]: record.get("steps") for record in read_journal(folder)} for folder in (run, whole)
    )
    assert steps == expected
    for path in (run / "rollouts").glob("*.parquet"):
        table = pd.read_parquet(path)
        assert not table.duplicated(["problem_id", "sample"]).any()
    assert not list((run / "rollouts").glob("*.arrows"))


def model_config(**changes):
    """A section `model` of a test; weights in float32, no adapters, unless `changes` say otherwise."""
    values = {
        "name": "test",
        "revision": None,
        "kind": None,
        "thinking": None,
        "parameters": None,
        "shape": None,
        "licence": None,
        "dtype": "float32",
        "learning_rate": 1e-3,
        "orm_learning_rate": 1e-4,
        "rl_learning_rate": 1e-6,
        "micro_batch_size": 2,
        "gradient_checkpointing": False,
        "lora_rank": 0,
        "lora_alpha": 1.0,
    }
    return ModelConfig(**{**values, **changes})

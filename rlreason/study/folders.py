"""The runs of a study, as their folders tell them; what cannot be read is named and left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rlreason.errors import UserError
from rlreason.run.identity import identity
from rlreason.study.plan import Plan, read_plan


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one checkpoint was found to be.

    Args:
        stage: "init", "round-1", ..., "final".
        samples_seen: Training rollouts drawn until then.
        table: One row per problem, in the order of their ids: reference_steps, samples, right, and every metric;
            indexed by problem id.
    """

    stage: str
    samples_seen: int
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A finished run.

    Args:
        folder: Where it lives.
        result: Its `result.json`.
        evaluations: In the order of training, "init" first and "final" last.
        out_of_distribution: The first and the last policy on questions of another kind; empty where not measured.
    """

    folder: Path
    result: dict[str, Any]
    evaluations: tuple[Evaluation, ...]
    out_of_distribution: tuple[Evaluation, ...] = ()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration as dotted keys, without what decides no number."""
        return identity(self.result["config"])

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.settings["seed"])

    @property
    def final(self) -> Evaluation:
        """The policy that the run ended with."""
        return self.evaluations[-1]

    @property
    def course(self) -> tuple[Evaluation, ...]:
        """The start and every checkpoint on the way, without the control experiment and the second look at the best."""
        return tuple(item for item in self.evaluations if item.stage == "init" or item.stage.startswith("round-"))

    @property
    def samples_drawn(self) -> int:
        """Training rollouts in all."""
        counts = self.result["rollouts"].items()
        return sum(count for stage, count in counts if stage.startswith(("round-", "batch-")))

    def rollout_files(self, *beginnings: str) -> list[Path]:
        """Sealed rollouts of the stages whose names begin so, in the order of training."""
        found = (self.folder / "rollouts").glob("*.parquet")
        return sorted((path for path in found if path.name.startswith(beginnings)), key=_in_training_order)


@dataclass(frozen=True, eq=False)
class Study:
    """A folder of runs.

    Args:
        folder: The study's folder.
        runs: Those that finished.
        judged: Runs of `algo=orm`, which train an outcome reward model and no policy.
        missing: Names of runs that are planned or begun but not finished.
        troubles: What was left out of `runs`, and why; one line each.
        commands: The sweeps that planned it, as they were typed.
    """

    folder: Path
    runs: tuple[StudyRun, ...]
    judged: tuple[StudyRun, ...]
    missing: tuple[str, ...]
    troubles: tuple[str, ...]
    commands: tuple[str, ...] = ()


def read_study(folder: Path) -> Study:
    """Read every run of a study.

    Raises:
        UserError: There is no such folder, or no run in it has finished.
    """
    if not folder.is_dir():
        raise UserError(f"there is no study in {folder}; run one with rlreason -m study={folder.name} ...")
    runs: list[StudyRun] = []
    judged: list[StudyRun] = []
    troubles: list[str] = []
    plan = _plan(folder, troubles)
    missing = {job.name for job in plan.jobs}
    for path in sorted(path.parent for path in folder.glob("*/config.yaml")):
        missing.discard(path.name)
        if not (path / "result.json").exists():
            missing.add(path.name)
            continue
        without: list[str] = []
        try:
            run = _read_run(path, without)
        except KeyError as error:
            troubles.append(f"{path.name}: left out, its result.json has no {error}")
            continue
        except (ValueError, TypeError, OSError) as error:
            troubles.append(f"{path.name}: left out, {_in_one_line(error)}")
            continue
        if run.settings["task.name"] != "train":
            troubles.append(f"{path.name}: left out, task={run.settings['task.name']} trains nothing")
            continue
        troubles += without
        (judged if run.settings["algo.name"] == "orm" else runs).append(run)
    if not runs and not judged:
        begun = f"; {len(missing)} are not finished" if missing else ""
        raise UserError(f"no finished run in {folder}{begun}")
    commands = tuple(item.command for item in plan.commands)
    return Study(folder, tuple(runs), tuple(judged), tuple(sorted(missing)), tuple(troubles), commands)


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of a Parquet file.

    Raises:
        ValueError: It is not whole; the message names it.
    """
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} cannot be read ({_in_one_line(error)})") from error


def _read_run(folder: Path, troubles: list[str]) -> StudyRun:
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"result.json cannot be read ({_in_one_line(error)})") from error
    split = result["config"]["eval"]["split"]
    evaluations, elsewhere = [], []
    for record in result["evaluations"]:
        path = folder / "evaluations" / f"{split}-{record['stage']}.parquet"
        try:
            evaluations.append(Evaluation(record["stage"], record["samples_seen"], _read_evaluation(path)))
        except ValueError as error:
            if record is result["evaluations"][-1]:
                raise
            troubles.append(f"{folder.name}: without {record['stage']}, {error}")
    for stage in ("init", "final"):
        path = folder / "evaluations" / f"ood-{stage}.parquet"
        try:
            if path.exists():
                elsewhere.append(Evaluation(stage, 0, _read_evaluation(path)))
        except ValueError as error:
            troubles.append(f"{folder.name}: {error}")
    return StudyRun(folder, result, tuple(evaluations), tuple(elsewhere))


def _read_evaluation(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise ValueError(f"{path.name} is not there")
    try:
        table: pd.DataFrame = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} cannot be read ({_in_one_line(error)})") from error
    absent = [name for name in ("problem_id", "reference_steps", "samples", "right", "maj@1") if name not in table]
    if absent:
        raise ValueError(f"{path.name} has no {', '.join(absent)}")
    table = table.set_index("problem_id").sort_index()
    if table.empty or not table.index.is_unique or not np.isfinite(table.to_numpy(dtype=np.float64)).all():
        raise ValueError(f"{path.name} must have finite values, once for every question")
    return table


def _plan(folder: Path, troubles: list[str]) -> Plan:
    """What the study is to have; nothing where no plan tells it."""
    try:
        return read_plan(folder)
    except UserError as error:
        troubles.append(str(error))
        return Plan()


def _in_training_order(path: Path) -> tuple[int, str]:
    number = path.stem.rpartition("-")[2]
    return (int(number) if number.isdigit() else 0, path.name)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

"""The runs of a study, as their folders tell them; what cannot be read is named and left out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.inits import INITS
from rlreason.data.registry import DATASETS
from rlreason.errors import UserError, in_one_line
from rlreason.evaluation.metrics import ANSWERED, PARTIAL
from rlreason.rewards.registry import REWARDS
from rlreason.run.files import RESULT_FILE
from rlreason.run.identity import identity
from rlreason.run.stage import (
    ELSEWHERE,
    FINAL,
    INIT,
    LAST,
    SECOND_PROMPT,
    evaluation,
    greedy,
    sampled,
    scores,
)
from rlreason.study.plan import Plan, read_plan

CLUSTER = "cluster"  # the column that says which problems belong together


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one checkpoint was found to be.

    Args:
        checkpoint: "init", "round-1", ..., "final".
        on_the_way: Whether it is the start or a checkpoint of training, and no second look at one of them.
        samples_seen: Rollouts that were learned from until then, an outcome reward model's included.
        table: One row per problem, in the order of their ids: reference_steps, samples, right, and every metric;
            indexed by problem id. A column `cluster` where problems come in clusters.
    """

    checkpoint: str
    on_the_way: bool
    samples_seen: int
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A finished run.

    Args:
        folder: Where it lives.
        result: Its `result.json`.
        evaluations: In the order of training, "init" first and "final" last.
        out_of_distribution: Tables of the first and the last policy ("init", "final") on questions of another kind,
            as far as they were measured.
        second_prompt: The same on the questions of the study under the prompt of `eval.second_prompt`.
    """

    folder: Path
    result: dict[str, Any]
    evaluations: tuple[Evaluation, ...]
    out_of_distribution: dict[str, pd.DataFrame] = field(default_factory=dict)
    second_prompt: dict[str, pd.DataFrame] = field(default_factory=dict)

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
    def second_prompt_name(self) -> str | None:
        """The name of the second prompt; None where nothing was measured under one."""
        found = self.result.get("second_prompt")
        return None if found is None else str(found["prompt"])

    @property
    def final(self) -> Evaluation:
        """The policy that the run ended with: the selected checkpoint."""
        return self.evaluations[-1]

    @property
    def course(self) -> tuple[Evaluation, ...]:
        """The start and every checkpoint on the way, without the control experiment and the second look at the best."""
        return tuple(item for item in self.evaluations if item.on_the_way)

    @property
    def samples_drawn(self) -> int:
        """Rollouts that were learned from in all, an outcome reward model's included."""
        # Stored rollouts of another run are learned from, and not drawn here.
        return max(int(self.result["training_rollouts"]), self.final.samples_seen)

    def table(self, checkpoint: str) -> pd.DataFrame | None:
        """What was measured of a checkpoint; None where nothing was.

        The last checkpoint is measured by itself only where it is not the selected one.
        """
        found = next((item.table for item in self.evaluations if item.checkpoint == checkpoint), None)
        if found is None and checkpoint == LAST and self.ended_with_last:
            return self.final.table
        return found

    @property
    def ended_with_last(self) -> bool:
        """Whether the selected checkpoint is the last one; False where an older version has not recorded it."""
        return "last" in self.result and self.result["last"] == self.result["policy"]

    def samples_file(self, checkpoint: str) -> Path:
        """The file of a checkpoint's samples of the reported questions; absent where there are none."""
        return self.folder / "rollouts" / f"{sampled(self.settings['eval.split'], checkpoint).name}.parquet"

    def scores_file(self, checkpoint: str) -> Path:
        """The file of an outcome reward model's scores of those samples; absent where there are none."""
        return self.folder / "rollouts" / f"{scores(sampled(self.settings['eval.split'], checkpoint)).name}.parquet"


@dataclass(frozen=True, eq=False)
class Study:
    """A folder of runs.

    Args:
        folder: The study's folder.
        runs: Those that finished.
        outcome_models: Runs that train an outcome reward model and no policy.
        missing: Names of runs that are planned or begun but not finished.
        troubles: What was left out of `runs`, and why; one line each.
        commands: The sweeps that planned it, as they were typed.
    """

    folder: Path
    runs: tuple[StudyRun, ...]
    outcome_models: tuple[StudyRun, ...]
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
    outcome_models: list[StudyRun] = []
    troubles: list[str] = []
    plan = _plan(folder, troubles)
    missing = {job.name for job in plan.jobs}
    for path in sorted(path.parent for path in folder.glob("*/config.yaml")):
        missing.discard(path.name)
        if not (path / RESULT_FILE).exists():
            missing.add(path.name)
            continue
        without: list[str] = []
        try:
            run = _read_run(path, without)
        except KeyError as error:
            troubles.append(f"{path.name}: left out, its result.json has no {error}")
            continue
        except (UserError, ValueError, TypeError, OSError) as error:
            troubles.append(f"{path.name}: left out, {in_one_line(error, 200)}")
            continue
        if run.settings["task.name"] != "train":
            troubles.append(f"{path.name}: left out, task={run.settings['task.name']} trains nothing")
            continue
        troubles += without
        (runs if ALGORITHMS[run.settings["algo.name"]].trains_policy else outcome_models).append(run)
    if not runs and not outcome_models:
        begun = f"; {len(missing)} are not finished" if missing else ""
        raise UserError(f"no finished run in {folder}{begun}")
    commands = tuple(item.command for item in plan.commands)
    return Study(folder, tuple(runs), tuple(outcome_models), tuple(sorted(missing)), tuple(troubles), commands)


def read_columns(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Some columns of a Parquet file; None: all.

    Raises:
        ValueError: It is not there, or not whole; the message names it.
    """
    if not path.exists():
        raise ValueError(f"{path.name} is not there")
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} cannot be read ({in_one_line(error, 200)})") from error


def _read_run(folder: Path, troubles: list[str]) -> StudyRun:
    try:
        result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"result.json cannot be read ({in_one_line(error, 200)})") from error
    config = result["config"]
    for table in (ALGORITHMS, REWARDS, DATASETS, INITS):
        table.of(config[table.group])  # a row from outside the package is known from here on
    evaluations = []
    for record in result["evaluations"]:
        names = config["eval"]["split"], record["stage"]
        path = folder / "evaluations" / f"{evaluation(*names)}.parquet"
        facts = record["stage"], record["on_the_way"], record["samples_seen"]
        try:
            measured = _with_answered(_read_evaluation(path), folder / "rollouts" / f"{greedy(*names).name}.parquet")
            evaluations.append(Evaluation(*facts, measured))
        except ValueError as error:
            if record is result["evaluations"][-1]:
                raise
            troubles.append(f"{folder.name}: without {record['stage']}, {error}")
    ends = (_first_and_last(folder, split, troubles) for split in (ELSEWHERE, SECOND_PROMPT))
    return StudyRun(folder, result, tuple(evaluations), *ends)


def _first_and_last(folder: Path, split: str, troubles: list[str]) -> dict[str, pd.DataFrame]:
    """What was measured greedily of the first and of the last policy besides the evaluations of a run."""
    found = {}
    for checkpoint in (INIT, FINAL):
        path = folder / "evaluations" / f"{evaluation(split, checkpoint)}.parquet"
        try:
            if path.exists():
                found[checkpoint] = _read_evaluation(path)
        except ValueError as error:
            troubles.append(f"{folder.name}: {error}")
    return found


def _read_evaluation(path: Path) -> pd.DataFrame:
    table: pd.DataFrame = read_columns(path).to_pandas()
    absent = [name for name in ("problem_id", "reference_steps", "samples", "right", "maj@1") if name not in table]
    if absent:
        raise ValueError(f"{path.name} has no {', '.join(absent)}")
    table = table.set_index("problem_id").sort_index()
    numbers = table.drop(columns=CLUSTER, errors="ignore").astype(np.float64)
    numbers = numbers.fillna(dict.fromkeys(PARTIAL, 0.0))
    if table.empty or not table.index.is_unique or not np.isfinite(numbers.to_numpy()).all():
        raise ValueError(f"{path.name} must have finite values, once for every question")
    return table


def _with_answered(table: pd.DataFrame, rollouts: Path) -> pd.DataFrame:
    """The table of an evaluation with `answered@1`, which older versions did not measure, from its greedy rollouts."""
    if ANSWERED in table or not rollouts.exists():
        return table
    answers = read_columns(rollouts, ["problem_id", "answer"]).to_pandas().set_index("problem_id")["answer"]
    found = answers.notna().astype(np.float64).reindex(table.index)
    return table if found.isna().any() else table.assign(**{ANSWERED: found})


def _plan(folder: Path, troubles: list[str]) -> Plan:
    """What the study is to have; nothing where no plan tells it."""
    try:
        return read_plan(folder)
    except UserError as error:
        troubles.append(str(error))
        return Plan()

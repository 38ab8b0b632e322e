"""Which runs are seeds of one thing, and which things may stand in one table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rlreason.evaluation.statistics import Estimate, crossed_estimate
from rlreason.study.folders import Evaluation, StudyRun

COMPARED = ("algo.name", "reward.name", "init.name", "model.name")
# Runs that differ here answer different questions; they get tables of their own.
APART = ("data", "prompt", "eval.split", "eval.k", "eval.temperature")
# These decide how something is measured or made, not what it is.
INCIDENTAL = ("seed", "eval", "engine", "task", "tracker")
DATA_NAMES = {"gsm8k": "GSM8K", "svamp": "SVAMP", "gsm_symbolic": "GSM-Symbolic", "wordproblems": "word problems"}
REWARDS = ("sparse", "dense", "orm")
ALGORITHM_NAMES = {"ei": "EI", "ppo": "PPO", "rcrl": "RCRL", "grpo": "GRPO", "sft": "SFT"}


@dataclass(frozen=True, eq=False)
class Arm:
    """Runs that differ in their seed alone.

    Args:
        algo: Such as "ei".
        reward: Such as "sparse".
        init: "scratch" or "sft".
        model: Such as "tiny".
        variant: Further settings in which arms of the same four names differ, such as "algo.per=step"; or "".
        runs: One of every seed, in the order of seeds.
    """

    algo: str
    reward: str
    init: str
    model: str
    variant: str
    runs: tuple[StudyRun, ...]

    @property
    def label(self) -> str:
        """Its names in one line."""
        reward = "" if self.algo == "sft" else f", {self.reward}"
        variant = f", {self.variant}" if self.variant else ""
        return f"{ALGORITHM_NAMES.get(self.algo, self.algo)}{reward}, {self.init}, {self.model}{variant}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(run.seed for run in self.runs)

    @cached_property
    def problems(self) -> list[str]:
        """Ids of the questions that all its runs were measured on."""
        shared = set(self.runs[0].final.table.index)
        return sorted(shared.intersection(*(run.final.table.index for run in self.runs[1:])))

    def estimate(self, metric: str, stage: str = "final", confidence: float = 0.95) -> Estimate | None:
        """Mean of a metric over seeds and problems; None where a run lacks it, or the runs share no problem."""
        evaluations = [item for run in self.runs if (item := evaluation(run, stage)) and metric in item.table]
        if len(evaluations) < len(self.runs):
            return None
        values = matrix(evaluations, metric)
        return mean(values, metric, confidence) if values.size else None

    def difference(self, other: Arm, metric: str, confidence: float = 0.95) -> Estimate | None:
        """Paired difference of this arm above another one, see `paired`."""
        return paired(self, other, metric, confidence=confidence)

    def gain(self, metric: str, since: str = "init", confidence: float = 0.95) -> Estimate | None:
        """Paired difference of the last policy above an earlier one, see `paired`."""
        return paired(self, self, metric, second_stage=since, confidence=confidence)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Arms that were measured alike, and may be compared.

    Args:
        title: Such as "word problems, test, K = 16".
        k: The K of maj@K.
        settings: What its runs share of `APART`.
        arms: Ordered by model, init, algorithm and reward.
    """

    title: str
    k: int
    settings: dict[str, Any]
    arms: tuple[Arm, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The paper's measures, as far as they were taken."""
        k = self.k
        names = ("maj@1", f"maj@{k}", f"rerank@{k}", f"pass@{k}") if k > 1 else ("maj@1",)
        return tuple(name for name in names if any(name in arm.runs[0].final.table for arm in self.arms))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, smallest first."""
        sizes = {arm.model: float(arm.runs[0].settings["model.parameters"] or 0) for arm in self.arms}
        return tuple(sorted(sizes, key=lambda name: sizes[name]))

    def find(self, **names: str) -> list[Arm]:
        """The arms with these names, such as `find(algo="ei", init="sft")`."""
        return [arm for arm in self.arms if all(getattr(arm, key) == value for key, value in names.items())]


def comparisons(runs: Sequence[StudyRun]) -> tuple[tuple[Comparison, ...], list[str]]:
    """Sort runs into tables and arms.

    Returns:
        The comparisons, and a line for everything that a reader should know: why there is more than one table, and
        which runs repeat the seed of another one.
    """
    notes = []
    tables: dict[tuple[tuple[str, str], ...], list[StudyRun]] = defaultdict(list)
    for run in runs:
        tables[tuple(sorted((key, str(value)) for key, value in apart(run).items()))].append(run)
    if len(tables) > 1:
        differing = sorted(
            {key for table in tables for key, value in table if not all((key, value) in t for t in tables)}
        )
        notes.append(f"runs differ in {', '.join(differing)}: they are compared in {len(tables)} separate tables")
    found = []
    for table in tables.values():
        arms, repeated = _arms(table)
        notes += repeated
        settings = apart(table[0])
        k = int(settings["eval.k"])
        data = DATA_NAMES.get(settings["data.name"], settings["data.name"])
        title = f"{data}, {settings['eval.split']} questions" + (f", K = {k}" if k else "")
        found.append(Comparison(title, k, settings, arms))
    return tuple(sorted(_told_apart(found), key=lambda item: item.title)), notes


def apart(run: StudyRun) -> dict[str, Any]:
    """The settings that decide which table a run belongs to."""
    return {key: value for key, value in run.settings.items() if _within(key, APART)}


def evaluation(run: StudyRun, stage: str) -> Evaluation | None:
    """The evaluation of a stage, None where there is none."""
    return next((item for item in run.evaluations if item.stage == stage), None)


def mean(values: npt.NDArray[np.float64], metric: str, confidence: float = 0.95) -> Estimate:
    """Mean of a metric over seeds and problems; the interval of a share ends at 0 and 1.

    Student's t knows no bounds, but what lies beyond them is impossible, whatever the spread of the seeds.
    """
    return _possible(crossed_estimate(values, confidence), metric, 0.0)


def matrix(evaluations: Sequence[Evaluation], metric: str) -> npt.NDArray[np.float64]:
    """Values of the problems that all evaluations share; shape `(evaluations, problems)`."""
    shared = evaluations[0].table.index
    for item in evaluations[1:]:
        shared = shared.intersection(item.table.index)
    return np.stack([item.table.loc[shared, metric].to_numpy(dtype=np.float64) for item in evaluations])


def paired(
    first: Arm,
    second: Arm,
    metric: str,
    first_stage: str = "final",
    second_stage: str = "final",
    confidence: float = 0.95,
) -> Estimate | None:
    """Mean of `first - second` over the problems that both were measured on; None where either lacks the metric.

    Seeds that both have are paired; without a common seed, the means over each one's seeds are, and the interval
    speaks of problems alone. The interval of a difference of shares ends at -1 and 1.
    """
    tables = []
    for arm, stage in ((first, first_stage), (second, second_stage)):
        evaluations = {run.seed: evaluation(run, stage) for run in arm.runs}
        present = {seed: item for seed, item in evaluations.items() if item is not None and metric in item.table}
        if not present:
            return None
        tables.append({seed: item.table[metric] for seed, item in present.items()})
    problems = first.runs[0].final.table.index
    for column in (*tables[0].values(), *tables[1].values()):
        problems = problems.intersection(column.index)
    if problems.empty:
        return None
    common = sorted(set(tables[0]) & set(tables[1]))
    sides = []
    for table in tables:
        seeds = common or sorted(table)
        values = np.stack([table[seed].loc[problems].to_numpy(dtype=np.float64) for seed in seeds])
        sides.append(values if common else values.mean(axis=0, keepdims=True))
    return _possible(crossed_estimate(sides[0] - sides[1], confidence), metric, -1.0)


def _possible(estimate: Estimate, metric: str, lowest: float) -> Estimate:
    """The estimate with what no share, or no difference of two shares, can be cut off its interval."""
    if "@" in metric or metric == "known_at_start":
        return replace(estimate, low=max(lowest, estimate.low), high=min(1.0, estimate.high))
    return estimate


def _told_apart(found: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons of one title get the settings in which they differ added to it."""
    told = []
    for item in found:
        alike = [other.settings for other in found if other.title == item.title]
        differing = [key for key in item.settings if len({str(other.get(key)) for other in alike}) > 1]
        told.append(replace(item, title=", ".join([item.title, *(f"{key}={item.settings[key]}" for key in differing)])))
    return told


def _arms(runs: Sequence[StudyRun]) -> tuple[tuple[Arm, ...], list[str]]:
    named: dict[tuple[str, str, str, str], list[StudyRun]] = defaultdict(list)
    for run in runs:
        algo, reward, init, model = (str(run.settings[key]) for key in COMPARED)
        # SFT asks no reward, so a sweep over rewards has made its runs more than once.
        named[algo, "sparse" if algo == "sft" else reward, init, model].append(run)
    arms, notes = [], []
    for names, alike in named.items():
        varying = sorted(
            key
            for key in {key for run in alike for key in run.settings}
            if not _within(key, (*INCIDENTAL, *(("reward", "orm") if names[0] == "sft" else ())))
            and len({str(run.settings.get(key)) for run in alike}) > 1
        )
        variants: dict[str, dict[int, StudyRun]] = defaultdict(dict)
        for run in sorted(alike, key=lambda item: (item.seed, item.name)):
            variant = ", ".join(f"{key}={run.settings.get(key)}" for key in varying)
            kept = variants[variant].setdefault(run.seed, run)
            if kept is not run:
                notes.append(f"{run.name} has the settings and the seed of {kept.name}: left out")
        arms += [Arm(*names, variant, tuple(by_seed.values())) for variant, by_seed in variants.items()]
    order = list(ALGORITHM_NAMES)
    return tuple(
        sorted(
            arms,
            key=lambda arm: (
                float(arm.runs[0].settings["model.parameters"] or 0),
                arm.init,
                order.index(arm.algo) if arm.algo in order else len(order),
                REWARDS.index(arm.reward) if arm.reward in REWARDS else len(REWARDS),
                arm.variant,
            ),
        )
    ), notes


def _within(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)

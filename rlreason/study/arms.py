"""Which runs are seeds of one thing, and which things may stand in one table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rlreason.algorithms.base import Algorithm, needs_none
from rlreason.algorithms.registry import ALGORITHMS
from rlreason.data.registry import DATASETS
from rlreason.evaluation.metrics import is_share
from rlreason.evaluation.statistics import Clusters, Estimate, Kind, crossed_estimate
from rlreason.rewards.registry import REWARDS
from rlreason.run.identity import CONTENT, SOURCE, prompt_of
from rlreason.run.stage import FINAL, INIT
from rlreason.study.folders import CLUSTER, StudyRun

COMPARED = ("algo.name", "reward.name", "init.name", "model.name")
# Runs that differ here answer different questions; they get tables of their own.
APART = ("data", "prompt", "eval.split", "eval.k", "eval.temperature")
# These decide how something is measured or made, not what it is.
INCIDENTAL = ("seed", "eval", "engine", "task", "tracker")
NO_REWARD = REWARDS.standard  # what arms of algorithms that ask no reward are filed under


@dataclass(frozen=True, eq=False)
class Arm:
    """Runs that differ in their seed alone.

    Args:
        algo: Such as "ei".
        reward: Such as "sparse".
        init: "scratch" or "sft".
        model: Such as "tiny".
        variant: Further settings in which arms of the same four names differ, such as "algo.per=step", and those that
            name something of the user's own; or "".
        runs: One of every seed, in the order of seeds.
    """

    algo: str
    reward: str
    init: str
    model: str
    variant: str
    runs: tuple[StudyRun, ...]

    @property
    def algorithm(self) -> Algorithm:
        """The facts about its algorithm."""
        return ALGORITHMS[self.algo]

    @property
    def names(self) -> dict[str, str]:
        """What tells it from the other arms of a comparison."""
        return {name: getattr(self, name) for name in ("algo", "reward", "init", "model", "variant")}

    @property
    def label(self) -> str:
        """Its names in one line."""
        reward = [self.reward] if self.algorithm.uses_reward else []
        return ", ".join(filter(None, [self.algorithm.title, *reward, self.init, self.model, self.variant]))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def each_seed(self) -> tuple[Arm, ...]:
        """An arm of every run by itself; none where there is one run, which is the arm."""
        return tuple(replace(self, runs=(run,)) for run in self.runs) if len(self.runs) > 1 else ()

    @cached_property
    def problems(self) -> list[str]:
        """Ids of the questions that all its runs were measured on."""
        shared = set(self.runs[0].final.table.index)
        return sorted(shared.intersection(*(run.final.table.index for run in self.runs[1:])))

    @cached_property
    def clusters(self) -> int | None:
        """In how many clusters these questions come; None where each stands alone."""
        estimate = self.estimate("maj@1")
        return None if estimate is None else estimate.clusters

    def tables(self, metric: str, checkpoint: str = FINAL) -> list[pd.DataFrame]:
        """What its runs measured of a checkpoint, one table per seed; empty where one of them lacks the metric."""
        found = [table for run in self.runs if (table := run.table(checkpoint)) is not None and metric in table]
        return found if len(found) == len(self.runs) else []

    def estimate(self, metric: str, checkpoint: str = FINAL, confidence: float = 0.95) -> Estimate | None:
        """Mean of a metric over seeds and problems; None where a run lacks it, or the runs share no problem."""
        return mean_of(self.tables(metric, checkpoint), metric, confidence)

    def difference(self, other: Arm, metric: str, confidence: float = 0.95) -> Estimate | None:
        """Mean of this arm less another one over the problems that both were measured on.

        Seeds that both have are paired; without a common seed, the means over each one's seeds are, and the interval
        speaks of problems alone. None where either arm lacks the metric.
        """
        return _paired((self, FINAL, metric), (other, FINAL, metric), confidence)

    def gain(self, metric: str, since: str = INIT, confidence: float = 0.95) -> Estimate | None:
        """Mean of the last policy less an earlier one of the same arm, as in `difference`."""
        return _paired((self, FINAL, metric), (self, since, metric), confidence)

    def excess(self, metric: str, over: str, confidence: float = 0.95) -> Estimate | None:
        """Mean of a metric of the last policy less another metric of it, as in `difference`."""
        return _paired((self, FINAL, metric), (self, FINAL, over), confidence)


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
        prompt = prompt_of(table[0].result)["name"]
        asked = f"{DATASETS[settings['data.name']].title}, {settings['eval.split']} questions, prompt={prompt}"
        title = asked + (f", K = {k}" if k else "")
        found.append(Comparison(title, k, settings, arms))
    return tuple(sorted(_told_apart(found), key=lambda item: item.title)), notes


def apart(run: StudyRun) -> dict[str, Any]:
    """The settings that decide which table a run belongs to."""
    return {key: value for key, value in run.settings.items() if _within(key, APART)}


def mean_of(tables: Sequence[pd.DataFrame], metric: str, confidence: float = 0.95) -> Estimate | None:
    """Mean of a metric over seeds and the problems that all of them share; its interval is over their clusters.

    Problems of which the metric says nothing in some seed are left out.

    Args:
        tables: One for every seed, indexed by problem id.
        metric: A column of all of them.
        confidence: Probability that the interval is to cover the true mean.

    Returns:
        None where there is no table or no shared problem.
    """
    if not tables:
        return None
    problems, values = joined([table[metric] for table in tables])
    if problems.empty:
        return None
    kind: Kind = "share" if is_share(metric, values) else "number"
    return crossed_estimate(values, confidence, kind, clusters_of(tables[0], problems))


def clusters_of(table: pd.DataFrame, problems: pd.Index) -> Clusters | None:
    """The cluster of each of some problems of a table; None where each stands alone."""
    if CLUSTER not in table:
        return None
    return [None if pd.isna(name) else str(name) for name in table.loc[problems, CLUSTER]]


def mean_difference(pairs: Sequence[tuple[Arm, Arm]], metric: str, confidence: float = 0.95) -> Estimate | None:
    """Mean over pairs of arms of the first less the second, over the seeds and the problems that all of them share.

    Args:
        pairs: At least one.
        metric: Of the last policies.
        confidence: Probability that the interval is to cover the true mean.

    Returns:
        None where an arm lacks the metric, or there is no seed or problem that all share.
    """
    tables = [[{run.seed: run.final.table for run in arm.runs} for arm in pair] for pair in pairs]
    seeds = sorted(set.intersection(*(set(side) for pair in tables for side in pair)))
    if not seeds or any(metric not in table for pair in tables for side in pair for table in side.values()):
        return None
    problems, values = joined([side[seed][metric] for pair in tables for side in pair for seed in seeds])
    if problems.empty:
        return None
    first, second = np.moveaxis(values.reshape(len(pairs), 2, len(seeds), len(problems)), 1, 0)
    clusters = clusters_of(tables[0][0][seeds[0]], problems)
    return crossed_estimate((first - second).mean(axis=0), confidence, "number", clusters)


def _paired(first: tuple[Arm, str, str], second: tuple[Arm, str, str], confidence: float) -> Estimate | None:
    """Mean of the first arm's metric at a checkpoint less the second's."""
    sides = []
    for arm, checkpoint, metric in (first, second):
        tables = {run.seed: run.table(checkpoint) for run in arm.runs}
        sides.append({seed: table for seed, table in tables.items() if table is not None and metric in table})
    if not all(sides):
        return None
    metrics = (first[2], second[2])
    common = sorted(set(sides[0]) & set(sides[1]))
    seeds = [common or sorted(side) for side in sides]
    problems, found = joined(
        [side[seed][metric] for side, metric, chosen in zip(sides, metrics, seeds, strict=True) for seed in chosen]
    )
    if problems.empty:
        return None
    values = [found[: len(seeds[0])], found[len(seeds[0]) :]]
    kind: Kind = "difference" if is_share(first[2], *values) else "number"
    if not common:
        values = [side.mean(axis=0, keepdims=True) for side in values]
    return crossed_estimate(values[0] - values[1], confidence, kind, clusters_of(sides[0][seeds[0][0]], problems))


def joined(columns: Sequence[pd.Series[float]]) -> tuple[pd.Index, npt.NDArray[np.float64]]:
    """The problems of which all columns say something, and the values; shape `(columns, problems)`.

    Args:
        columns: At least one, each indexed by problem id.
    """
    problems = columns[0].index
    if all(column.index.equals(problems) for column in columns):
        values = np.stack([column.to_numpy(dtype=np.float64) for column in columns])
    else:
        joined = pd.concat(columns, axis=1, join="inner")
        problems, values = joined.index, joined.to_numpy(dtype=np.float64).T
    present = np.flatnonzero(~np.isnan(values).any(axis=0))
    return problems[present], np.ascontiguousarray(values[:, present])


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
        # Where no reward is asked, a sweep over rewards has made the same runs more than once.
        named[algo, reward if ALGORITHMS[algo].uses_reward else NO_REWARD, init, model].append(run)
    arms, notes = [], []
    for names, alike in named.items():
        algorithm = ALGORITHMS[names[0]]
        incidental = [*INCIDENTAL, *([] if algorithm.uses_reward else ["reward"])]
        if not algorithm.uses_reward and algorithm.needs_outcome_model is needs_none:
            incidental.append("orm")
        varying = sorted(
            key
            for key in {key for run in alike for key in run.settings}
            if not _within(key, incidental) and (differs(key, alike) or names_own_code(key, alike[0]))
        )
        variants: dict[str, dict[int, StudyRun]] = defaultdict(dict)
        for run in sorted(alike, key=lambda item: (item.seed, item.name)):
            variant = ", ".join(f"{key}={run.settings.get(key)}" for key in varying)
            kept = variants[variant].setdefault(run.seed, run)
            if kept is not run:
                notes.append(f"{run.name} has the settings and the seed of {kept.name}: left out")
        arms += [Arm(*names, variant, tuple(by_seed.values())) for variant, by_seed in variants.items()]
    algorithms, rewards = list(ALGORITHMS), list(REWARDS)
    return tuple(
        sorted(
            arms,
            key=lambda arm: (
                float(arm.runs[0].settings["model.parameters"] or 0),
                arm.init,
                algorithms.index(arm.algo),
                rewards.index(arm.reward),
                arm.variant,
            ),
        )
    ), notes


def differs(key: str, runs: Sequence[StudyRun]) -> bool:
    """Whether runs have different values of a setting; of what is known by its content, whether that was different."""
    values = {
        str(run.settings.get(key)) for run in runs if not key.startswith((SOURCE, CONTENT)) or key in run.settings
    }
    return len(values) > 1


def names_own_code(key: str, run: StudyRun) -> bool:
    """Whether a setting of a run names code of the user's own."""
    return f"{SOURCE}{run.settings.get(key)}" in run.settings


def _within(key: str, sections: Sequence[str]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)

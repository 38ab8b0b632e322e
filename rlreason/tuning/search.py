"""Equal tuning: as many independent trials for every algorithm, each with the same rollouts.

Settings are drawn at random from the space that the algorithm's row declares, by Optuna; trials of a random search are
independent, which the expected best score of fewer trials needs (Dodge et al. 2019). They are scored by maj@1 of the
selected checkpoint on validation questions, on seeds that no study may report. The best of many noisy scores is too
high (Patterson et al. 2024), so the winner is run again on fresh seeds, and what was configured beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.algorithms.space import Among, Around, Axis, Space
from rlreason.config.base import require
from rlreason.errors import UserError
from rlreason.run.files import read_result

FAILED = 0.0  # the score of a trial that broke down: its settings are of no use
TUNED, UNTUNED = "tuned", "untuned"


@dataclass(frozen=True)
class Search:
    """How long is searched.

    Args:
        trials: Draws of settings for every algorithm.
        seeds: Those of every trial; its score is the mean over them.
        fresh_seeds: Those of the winner and of the untuned settings.
    """

    trials: int
    seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        require(self.trials >= 1, f"hydra.sweeper.trials={self.trials} must be at least 1")
        require(bool(self.seeds), "hydra.sweeper.seeds=[] leaves no trial; give at least one seed")
        require(bool(self.fresh_seeds), "hydra.sweeper.fresh_seeds=[] leaves no fair score; give at least one seed")
        shared = sorted({*self.seeds} & {*self.fresh_seeds})
        require(
            not shared,
            f"hydra.sweeper.fresh_seeds and hydra.sweeper.seeds both have {', '.join(map(str, shared))}; "
            "a fair score takes other seeds",
        )


@dataclass(frozen=True)
class Trial:
    """Settings that are tried.

    Args:
        algorithm: Its name.
        number: From 1; 0 for what was configured.
        settings: Values by setting of the algorithm, such as {"epochs": 2}.
    """

    algorithm: str
    number: int
    settings: Mapping[str, Any]

    @property
    def overrides(self) -> list[str]:
        """As they would be typed."""
        return [f"algo.{key}={value}" for key, value in self.settings.items()]


@dataclass(frozen=True)
class TrialRun:
    """One run of a trial.

    Args:
        trial: What is tried.
        seed: Its seed.
        name: Of its folder.
    """

    trial: Trial
    seed: int
    name: str

    @property
    def overrides(self) -> list[str]:
        """What makes it, besides what all runs of the search share."""
        return [f"algo={self.trial.algorithm}", *self.trial.overrides, f"seed={self.seed}", f"name={self.name}"]


@dataclass(frozen=True)
class Score:
    """What a run came to.

    Args:
        accuracy: maj@1 of the selected checkpoint on validation questions.
        rollouts: Training rollouts.
    """

    accuracy: float
    rollouts: int


@dataclass(frozen=True)
class Tuned:
    """What the search found for an algorithm.

    Args:
        trials: All of them, in the order in which they were drawn.
        scores: Of each, a mean over its seeds.
        failed: Numbers of those of which a run broke down.
        winner: The first of the best.
        fresh: Scores of the winner and of the untuned settings on fresh seeds, by `TUNED` and `UNTUNED`.
        rollouts: Training rollouts that a run of it drew at the most.
    """

    trials: Sequence[Trial]
    scores: Sequence[float]
    failed: Sequence[int]
    winner: Trial
    fresh: Mapping[str, Sequence[float]]
    rollouts: int


def space_of(algorithm: str, given: Space) -> dict[str, Axis]:
    """The space of an algorithm, with axes that the user has given in the place of the declared ones.

    Args:
        algorithm: Its name.
        given: Axes by setting, some perhaps of other algorithms.

    Raises:
        UserError: The algorithm declares no space, or one with a setting that it does not have.
    """
    row = ALGORITHMS[algorithm]
    declared = dict(row.space)
    require(bool(declared), f"algo={algorithm} declares no search space (`space` of its row); leave it out")
    there = {item.name for item in fields(row.settings)}
    unknown = sorted(set(declared) - there)
    require(not unknown, f"the search space of algo={algorithm} names {', '.join(unknown)}, which is no setting of it")
    return declared | {key: axis for key, axis in given.items() if key in there}


def drawn(algorithm: str, space: Space, configured: Mapping[str, Any], count: int) -> list[Trial]:
    """Independent draws from a space; the first of them stay the same where more are asked for.

    Args:
        algorithm: Its name.
        space: An axis for every setting that is searched.
        configured: The settings of the algorithm without tuning.
        count: How many.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    for key, axis in space.items():
        if isinstance(axis, Among):
            distributions[key] = optuna.distributions.CategoricalDistribution(axis.values)
        elif isinstance(axis, Around):
            centre = float(configured[key])
            distributions[key] = optuna.distributions.FloatDistribution(axis.low * centre, axis.high * centre, log=True)
        elif isinstance(axis.low, int) and isinstance(axis.high, int):
            distributions[key] = optuna.distributions.IntDistribution(axis.low, axis.high, log=axis.log)
        else:
            distributions[key] = optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [study.ask(distributions).params for _ in range(count)]
    return [
        Trial(algorithm, number, {key: _short(value) for key, value in settings.items()})
        for number, settings in enumerate(asked, start=1)
    ]


def runs_of(trials: Sequence[Trial], seeds: Sequence[int]) -> list[TrialRun]:
    """One run for every trial and seed."""
    return [
        TrialRun(trial, seed, f"{trial.algorithm}-trial{trial.number:02d}-seed{seed}")
        for trial in trials
        for seed in seeds
    ]


def fresh_runs(trial: Trial, label: str, seeds: Sequence[int]) -> list[TrialRun]:
    """The winner of an algorithm, or what was configured, on fresh seeds."""
    return [TrialRun(trial, seed, f"{trial.algorithm}-{label}-seed{seed}") for seed in seeds]


def tune(
    search: Search,
    spaces: Mapping[str, Space],
    configured: Mapping[str, Mapping[str, Any]],
    run: Callable[[Sequence[TrialRun]], Mapping[str, Score | None]],
) -> dict[str, Tuned]:
    """Search the settings of every algorithm.

    Args:
        search: How long.
        spaces: By algorithm.
        configured: The untuned settings, by algorithm.
        run: Does runs and gives their scores, by name; None for one that broke down.

    Raises:
        UserError: All trials of an algorithm broke down.
    """
    trials = {name: drawn(name, space, configured[name], search.trials) for name, space in spaces.items()}
    # By trial first: a search that is stopped early has as many trials of every algorithm.
    in_turn = [trial for together in zip(*trials.values(), strict=True) for trial in together]
    first = run(runs_of(in_turn, search.seeds))
    winners, scores, failed = {}, {}, {}
    for name, own in trials.items():
        runs = {trial.number: [first[item.name] for item in runs_of([trial], search.seeds)] for trial in own}
        scores[name] = [sum(map(_accuracy, found)) / len(found) for found in runs.values()]
        failed[name] = [number for number, found in runs.items() if None in found]
        if len(failed[name]) == len(own):
            raise UserError(f"all {len(own)} trials of algo={name} broke down; see failure.txt in their folders")
        winners[name] = own[max(range(len(own)), key=lambda index: (scores[name][index], -index))]
    compared = {
        (name, label): fresh_runs(trial, label, search.fresh_seeds)
        for name in trials
        for label, trial in ((TUNED, winners[name]), (UNTUNED, Trial(name, 0, {})))
    }
    again = run([item for group in compared.values() for item in group])
    return {
        name: Tuned(
            trials[name],
            scores[name],
            failed[name],
            winners[name],
            {label: [_accuracy(again[item.name]) for item in compared[name, label]] for label in (TUNED, UNTUNED)},
            max(
                score.rollouts for run in runs_of(trials[name], search.seeds) if (score := first[run.name]) is not None
            ),
        )
        for name in trials
    }


def score_in(folder: Path) -> Score | None:
    """The score of a run that has ended; None of one that broke down."""
    result = read_result(folder)
    if result is None:
        return None
    accuracy = float(result["evaluations"][-1]["metrics"]["maj@1"]["value"])
    rollouts = int(result["training_rollouts"]) + int(result["outcome_model_rollouts"])
    return Score(accuracy, rollouts)


def expected_best(scores: Sequence[float]) -> list[float]:
    """The expected best score of n = 1, 2, ..., N trials out of N independent ones (Dodge et al. 2019, equation 4).

    Args:
        scores: Of N trials of a random search.

    Returns:
        For each n the mean of the largest of n draws with replacement from the scores: with v sorted,
        sum over i of v_i ((i/N)^n - ((i-1)/N)^n).
    """
    import numpy as np

    values = np.sort(np.asarray(scores, dtype=float))
    count = len(values)
    below = np.arange(count + 1) / count
    return [float(values @ np.diff(below**tried)) for tried in range(1, count + 1)]


def _accuracy(score: Score | None) -> float:
    return FAILED if score is None else score.accuracy


def _short(value: Any) -> Any:
    """A drawn number with three digits, so that what is run is what is written down."""
    return float(f"{value:.3g}") if isinstance(value, float) else value

"""Many jobs from one command: which combinations are worth running, the plan of the study, and how it all ended."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.compose import TABLES, from_composed
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.inits import INITS
from rlreason.data.registry import DATASETS
from rlreason.display import plain_list
from rlreason.distributed import placement
from rlreason.errors import CRASHED, USER_ERROR, Failed, UserError, in_one_line
from rlreason.jobs import Outcome, given_settings, record_failure, run_folder
from rlreason.planning.differences import measured_questions, seen_line
from rlreason.rewards.registry import REWARDS
from rlreason.run.files import CONFIG_FILE, RESULT_FILE
from rlreason.run.identity import NAMED_GROUPS
from rlreason.study.plan import Command, Job, add_to_plan

Launch = Callable[[Sequence[Sequence[str]]], Sequence[Any]]


@dataclass(frozen=True)
class Planned:
    """A job of a sweep.

    Args:
        folder: Of its run.
        overrides: What makes it.
        was_named: Whether the name of its folder was given.
        choices: The choice of every group that names a run, in a study; None: it belongs to none.
    """

    folder: Path
    overrides: tuple[str, ...]
    was_named: bool
    choices: dict[str, str] | None


def skipped(sections: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Why a sweep leaves out a combination of choices: it cannot work, or repeats another one; else None.

    Args:
        sections: The composed sections algo, reward, init and data, by name.
    """
    algorithm, reward = ALGORITHMS.of(sections["algo"]), REWARDS.of(sections["reward"])
    init, data = INITS.of(sections["init"]), DATASETS.of(sections["data"])
    names = {group: section["name"] for group, section in sections.items()}
    standard_reward, standard_init = REWARDS.standard, INITS.standard
    if not data.solutions and (algorithm.needs_solutions or init.needs_solutions):
        return f"supervised fine-tuning needs worked solutions, which {names['data']} does not have"
    if not data.solutions and reward.needs_solutions:
        return f"reward={names['reward']} needs worked solutions, which {names['data']} does not have"
    if not algorithm.uses_reward and names["reward"] != standard_reward:
        return f"algo={names['algo']} does not use the reward; only reward={standard_reward} is run"
    if algorithm.repeats_init == names["init"]:
        repeated = f"algo={names['algo']} is itself the fine-tuning of init={names['init']}"
        return f"{repeated}; only init={standard_init} is run"
    return None


def with_settings(combination: Sequence[str], settings: Mapping[str, Sequence[str]]) -> list[str]:
    """The overrides of a job, before them what its study sets beside its choices.

    Args:
        combination: Overrides, of which each wins over a setting with the same key.
        settings: The settings of a study by choice, such as {"algo=sft": ["algo.epochs=4"]}.
    """
    asked = {override.partition("=")[0] for override in combination}
    given = [item for item in given_settings(combination, settings) if item.partition("=")[0] not in asked]
    return [*given, *combination]


def run_sweep(
    combinations: Sequence[Sequence[str]],
    compose: Callable[[Sequence[str]], Any],
    launch: Launch,
    all_must_run: bool = False,
) -> list[Outcome]:
    """Plan the jobs of a sweep and run them.

    Args:
        combinations: The overrides of every combination.
        compose: Makes the configuration of one, with Hydra's own section.
        launch: Runs those that it is given, by their overrides; what Hydra's launchers return.
        all_must_run: Whether one job that cannot run as it is configured keeps all others from starting.

    Returns:
        What became of each.

    Raises:
        UserError: No job can run as it is configured, or not all where they must; or the plan cannot be written.
    """
    jobs: list[Planned] = []
    reasons: Counter[str] = Counter()
    mistakes: list[str | None] = []
    configs: list[ExperimentConfig] = []
    side_by_side = 1
    for combination in combinations:
        composed = compose(combination)
        reason = None
        if composed.task.name == "train":
            reason = skipped({group: composed[group] for group in TABLES})
        if reason is not None:
            reasons[reason] += 1
            continue
        choices = dict(composed.hydra.runtime.choices)
        named = {group: choices[group] for group in NAMED_GROUPS} if composed.study else None
        jobs.append(Planned(run_folder(composed, composed.hydra), tuple(combination), bool(composed.name), named))
        side_by_side = jobs_at_once(composed.hydra.launcher)
        config, mistake = checked(composed)
        mistakes.append(mistake)
        configs += [config] if config is not None else []
    if mistakes and (all(mistakes) or (all_must_run and any(mistakes))):
        raise UserError(" / ".join(dict.fromkeys(filter(None, mistakes))))
    for reason, count in reasons.items():
        print(f"{count} {'combination' if count == 1 else 'combinations'} skipped: {reason}", flush=True)
    command = Command(shlex.join(["rlreason", *sys.argv[1:]]), datetime.now(UTC).isoformat(timespec="seconds"))
    studies: dict[Path, list[Job]] = {}
    apart = in_folders_of_their_own(jobs)
    for job in apart:
        if job.choices is not None:
            studies.setdefault(job.folder.parent, []).append(Job(job.folder.name, job.overrides, job.choices))
    if studies and (said := differences_seen(configs)) is not None:
        print(said, flush=True)
    for folder, planned in studies.items():
        add_to_plan(folder, planned, command)
    with placement.slots(side_by_side) if side_by_side > 1 else nullcontext():
        return run_all({job.folder: job.overrides for job in apart}, launch)


def in_folders_of_their_own(jobs: Sequence[Planned]) -> list[Planned]:
    """The jobs of a sweep, none in the folder of another.

    Folder names leave out what a file system may not take, and all but the end of a path. Of jobs that would share one,
    each gets a name that ends with a digest of its overrides; a job that is given twice is run once.

    Raises:
        UserError: They share a name that was given.
    """
    there: dict[Path, list[Planned]] = {}
    for job in {(job.folder, job.overrides): job for job in jobs}.values():
        there.setdefault(job.folder, []).append(job)
    apart: list[Planned] = []
    for folder, sharing in there.items():
        if len(sharing) == 1:
            apart += sharing
            continue
        if any(job.was_named for job in sharing):
            alike = set.intersection(*(set(job.overrides) for job in sharing))
            first, second = (" ".join(item for item in job.overrides if item not in alike) for job in sharing[:2])
            raise UserError(
                f"{folder} would be the folder of {len(sharing)} jobs ({first}; {second}); leave name out, or let it "
                "differ: 'name=NAME-${seed}'"
            )
        for job in sharing:
            digest = hashlib.sha256("\n".join(sorted(job.overrides)).encode()).hexdigest()[:8]
            own = folder.with_name(f"{folder.name}-{digest}")
            apart.append(replace(job, folder=own, overrides=(*job.overrides, f"name={own.name}")))
    return apart


def checked(composed: Any) -> tuple[ExperimentConfig | None, str | None]:
    """The configuration of a job before it starts, or what is wrong with it."""
    from omegaconf import OmegaConf

    try:
        return from_composed(OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])), None
    except UserError as error:
        return None, str(error)


def differences_seen(configs: Sequence[ExperimentConfig]) -> str | None:
    """The smallest difference of two arms that a study could show with the fewest questions that it asks.

    Returns:
        None where the number of questions is not known.
    """
    asked = [measured_questions(config) for config in configs]
    known = [questions for questions in asked if questions is not None]
    return seen_line(min(known), len({config.seed for config in configs})) if known else None


def run_all(folders: Mapping[Path, tuple[str, ...]], launch: Launch) -> list[Outcome]:
    """Run every job, given by run folder; those under way when a process was killed are then tried one by one."""
    outcomes: list[Outcome] = []
    left = dict(folders)
    while left:
        try:
            return outcomes + [job.return_value for job in launch(list(left.values()))]
        except BrokenProcessPool:  # it does not say whose process
            begun = [path for path in left if (path / CONFIG_FILE).exists() and not (path / RESULT_FILE).exists()]
            for path in begun or list(left):
                outcomes.append(run_alone(path, left.pop(path), launch))
    return outcomes


def run_alone(folder: Path, overrides: tuple[str, ...], launch: Launch) -> Outcome:
    """Run one job whose process may be killed, as it is when there is too little memory."""
    try:
        outcome: Outcome = launch([overrides])[0].return_value
    except BrokenProcessPool:
        outcome = Outcome(folder.name, "its process was killed; is there enough memory?", crashed=True)
        record_failure(folder, outcome)
    return outcome


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise a Failed that names the jobs which failed, if any did."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if not failed:
        return
    by_error: dict[str, list[str]] = {}
    for outcome in failed:
        by_error.setdefault(in_one_line(outcome.error, 200), []).append(outcome.name)
    parts = [f"{plain_list(names, 8)} ({error})" for error, names in by_error.items()]
    message = f"{len(failed)} of {len(outcomes)} jobs failed; the same command tries them again: {'; '.join(parts)}"
    raise Failed(message, CRASHED if any(outcome.crashed for outcome in failed) else USER_ERROR)


def jobs_at_once(launcher: Mapping[str, Any]) -> int:
    """How many jobs the launcher runs at the same time on this machine; 1 where it uses other machines."""
    if "JoblibLauncher" not in str(launcher.get("_target_")):
        return 1
    import joblib

    return int(joblib.effective_n_jobs(int(launcher["n_jobs"])))

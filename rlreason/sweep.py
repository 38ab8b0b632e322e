"""Many jobs from one command: which combinations are worth running, the plan of the study, and how it all ended."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.compose import TABLES, from_composed
from rlreason.config.inits import INITS
from rlreason.data.registry import DATASETS
from rlreason.display import plain_list
from rlreason.distributed import placement
from rlreason.errors import CRASHED, USER_ERROR, Failed, UserError
from rlreason.jobs import Outcome, given_settings, in_one_line, record_failure, run_folder
from rlreason.rewards.registry import REWARDS
from rlreason.run.identity import NAMED_GROUPS
from rlreason.study.plan import Command, Job, add_to_plan

Launch = Callable[[Sequence[Sequence[str]]], Sequence[Any]]


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
    folders: dict[Path, tuple[str, ...]] = {}
    studies: dict[Path, list[Job]] = {}
    reasons: Counter[str] = Counter()
    mistakes: list[str | None] = []
    side_by_side = 1
    for combination in combinations:
        composed = compose(combination)
        choices = dict(composed.hydra.runtime.choices)
        reason = None
        if composed.task.name == "train":
            reason = skipped({group: composed[group] for group in TABLES})
        if reason is not None:
            reasons[reason] += 1
            continue
        folder = run_folder(composed, composed.hydra)
        folders[folder] = tuple(combination)
        side_by_side = jobs_at_once(composed.hydra.launcher)
        mistakes.append(mistake_in(composed))
        if composed.study:
            named = {group: choices[group] for group in NAMED_GROUPS}
            studies.setdefault(folder.parent, []).append(Job(folder.name, tuple(combination), named))
    if mistakes and (all(mistakes) or (all_must_run and any(mistakes))):
        raise UserError(" / ".join(dict.fromkeys(filter(None, mistakes))))
    for reason, count in reasons.items():
        print(f"{count} {'combination' if count == 1 else 'combinations'} skipped: {reason}", flush=True)
    command = Command(shlex.join(["rlreason", *sys.argv[1:]]), datetime.now(UTC).isoformat(timespec="seconds"))
    for folder, jobs in studies.items():
        add_to_plan(folder, jobs, command)
    with placement.slots(side_by_side) if side_by_side > 1 else nullcontext():
        return run_all(folders, launch)


def mistake_in(composed: Any) -> str | None:
    """What is wrong with the configuration of a job, before it starts."""
    from omegaconf import OmegaConf

    try:
        from_composed(OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"]))
    except UserError as error:
        return str(error)
    return None


def run_all(folders: Mapping[Path, tuple[str, ...]], launch: Launch) -> list[Outcome]:
    """Run every job, given by run folder; those under way when a process was killed are then tried one by one."""
    outcomes: list[Outcome] = []
    left = dict(folders)
    while left:
        try:
            return outcomes + [job.return_value for job in launch(list(left.values()))]
        except BrokenProcessPool:  # it does not say whose process
            begun = [path for path in left if (path / "config.yaml").exists() and not (path / "result.json").exists()]
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
        by_error.setdefault(in_one_line(outcome.error)[:200], []).append(outcome.name)
    parts = [f"{plain_list(names, 8)} ({error})" for error, names in by_error.items()]
    message = f"{len(failed)} of {len(outcomes)} jobs failed; the same command tries them again: {'; '.join(parts)}"
    raise Failed(message, CRASHED if any(outcome.crashed for outcome in failed) else USER_ERROR)


def jobs_at_once(launcher: Mapping[str, Any]) -> int:
    """How many jobs the launcher runs at the same time on this machine; 1 where it uses other machines."""
    if "JoblibLauncher" not in str(launcher.get("_target_")):
        return 1
    import joblib

    return int(joblib.effective_n_jobs(int(launcher["n_jobs"])))

"""`experiment=tune`: from a command line to trials, to the settings that a study uses by name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlreason.algorithms.space import Among, Axis, Between
from rlreason.config.base import require
from rlreason.errors import UserError, in_one_line
from rlreason.jobs import run_folder
from rlreason.sweep import Launch, checked, run_sweep, with_settings
from rlreason.tuning.report import summary_table, write
from rlreason.tuning.search import Score, Search, TrialRun, score_in, space_of, tune

ALGORITHM, SETTING = "algo", "algo."
GIVEN_BY_SEARCH = {"seed": "hydra.sweeper.seeds and hydra.sweeper.fresh_seeds", "name": "its trials"}


def run_search(
    search: Search,
    overrides: Sequence[Any],
    settings: Mapping[str, Sequence[str]],
    compose: Callable[[Sequence[str]], Any],
    launch: Launch,
) -> None:
    """Search the settings of the algorithms that are swept over, and write what was found into the study's folder.

    Args:
        search: How long.
        overrides: Of the command line, as Hydra has parsed them: `algo=...` chooses the algorithms, a sweep over one of
            their settings is an axis in the place of a declared one, and all others hold for every trial.
        settings: What the experiment sets beside some choices, such as {"algo=rcrl": ["algo.labels=outcome"]}.
        compose: Makes the configuration of a combination, with Hydra's own section.
        launch: Runs jobs, as Hydra's launchers do.

    Raises:
        UserError: Something is asked for that cannot be searched, or cannot run; nothing has been started then.
    """
    algorithms, axes, fixed = read(overrides)
    spaces = {algorithm: space_of(algorithm, axes) for algorithm in algorithms}

    def overrides_of(own: Sequence[str]) -> list[str]:
        return with_settings([*fixed, *own], settings)

    configured, folder = {}, Path()
    for algorithm in algorithms:
        composed = compose(overrides_of([f"algo={algorithm}"]))
        _, mistake = checked(composed)
        require(mistake is None, f"algo={algorithm}: {mistake}")
        require(bool(composed.study), "a search needs study=NAME, the name of the tuned settings as well")
        require(
            composed.eval.split == "validation",
            f"eval.split={composed.eval.split}: settings are chosen on validation questions alone; "
            "leave eval.split=validation",
        )
        configured[algorithm] = {key: composed.algo[key] for key in composed.algo}
        folder = run_folder(composed, composed.hydra).parent
    unknown = [key for key in axes if not any(key in space for space in spaces.values())]
    require(not unknown, f"algo.{', algo.'.join(unknown)}: no algorithm of this search has that setting")

    def run(runs: Sequence[TrialRun]) -> dict[str, Score | None]:
        jobs = [overrides_of(item.overrides) for item in runs]
        for outcome in run_sweep(jobs, compose, launch, all_must_run=True):
            if outcome.error is not None:
                print(f"{outcome.name} broke down: {in_one_line(outcome.error, 200)}", file=sys.stderr, flush=True)
        return {item.name: score_in(folder / item.name) for item in runs}

    found = tune(search, spaces, configured, run)
    command = shlex.join(["rlreason", *sys.argv[1:]])
    write(folder, search, spaces, found, command)
    summary_table(folder, search, found)


def read(overrides: Sequence[Any]) -> tuple[list[str], dict[str, Axis], list[str]]:
    """What is searched: the algorithms, axes of the user's own by setting, and what holds for every trial.

    Raises:
        UserError: Something else is swept over, or set, that the search itself decides.
    """
    algorithms: list[str] = []
    axes: dict[str, Axis] = {}
    fixed = ["tuned=none"]
    for override in overrides:
        key = override.key_or_group
        if key in GIVEN_BY_SEARCH:
            raise UserError(f"{key} is given by {GIVEN_BY_SEARCH[key]} in a search; leave {override.input_line} out")
        if key == ALGORITHM:
            chosen = override.sweep_string_iterator() if override.is_sweep_override() else [str(override.value())]
            algorithms = list(dict.fromkeys(chosen))
        elif not override.is_sweep_override():
            fixed.append(override.input_line)
        elif key.startswith(SETTING):
            axes[key.removeprefix(SETTING)] = _axis(override)
        else:
            raise UserError(
                f"{override.input_line}: a search sweeps over algo and algo.SETTING alone; for each other {key} "
                "make one of its own, with study=NAME"
            )
    require(bool(algorithms), "a search needs the algorithms that it is for: algo=ei,ppo,grpo,rcrl,sft")
    return algorithms, axes, fixed


def _axis(override: Any) -> Axis:
    value = override.value()
    if override.is_interval_sweep():
        return Between(value.start, value.end, "log" in value.tags)
    return Among(tuple(override.sweep_iterator()))

"""What a search leaves: every trial, the expected best score of fewer trials, and the settings that it chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.algorithms.space import Among, Around, Axis, Space
from rlreason.run.files import write_atomically
from rlreason.tuning.search import TUNED, UNTUNED, Search, Tuned, expected_best

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT, TRIALS, CURVE = "tuning.md", "trials.csv", "expected-best"
HEADER = ("algorithm", "trials", "rollouts a run", "best trial", "winner, fresh seeds", "untuned, fresh seeds")


def write(folder: Path, search: Search, spaces: Mapping[str, Space], found: Mapping[str, Tuned], command: str) -> None:
    """Write the report of a search, its trials, its curve and the tuned settings.

    Args:
        folder: The folder of its study; its name becomes that of the settings, `tuned=NAME`.
        search: How long was searched.
        spaces: What was searched, by algorithm.
        found: What was found, by algorithm.
        command: What makes it again.
    """
    write_atomically(folder / TRIALS, trials_table(found))
    _draw(folder, found)
    write_atomically(folder / REPORT, report(folder.name, search, spaces, found, command))
    settings = folder / "conf" / "tuned" / folder.name
    settings.mkdir(parents=True, exist_ok=True)
    for algorithm, tuned in found.items():
        write_atomically(settings / f"{algorithm}.yaml", settings_file(folder.name, search, tuned))


def settings_file(name: str, search: Search, tuned: Tuned) -> str:
    """The chosen settings of an algorithm."""
    import yaml

    score = tuned.scores[tuned.winner.number - 1]
    seeds = ", ".join(map(str, search.fresh_seeds))
    values = {"tuned": name, "tuned_on": list(search.seeds), "algo": dict(tuned.winner.settings)}
    return (
        "# @package _global_\n"
        f"# Trial {tuned.winner.number} of {len(tuned.trials)}: validation maj@1 {score:.3f}; with seeds {seeds} "
        f"{_mean(tuned.fresh[TUNED]):.3f}, untuned {_mean(tuned.fresh[UNTUNED]):.3f}.\n"
        f"{yaml.safe_dump(values, sort_keys=False)}"
    )


def trials_table(found: Mapping[str, Tuned]) -> str:
    """Every trial as a line of CSV: algorithm, number, score, whether it broke down, and its settings."""
    import pandas as pd

    rows: list[dict[str, Any]] = [
        {
            "algorithm": algorithm,
            "trial": trial.number,
            "score": score,
            "broke down": trial.number in tuned.failed,
            "chosen": trial is tuned.winner,
            **trial.settings,
        }
        for algorithm, tuned in found.items()
        for trial, score in zip(tuned.trials, tuned.scores, strict=True)
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def summary_rows(found: Mapping[str, Tuned]) -> list[tuple[str, ...]]:
    """One row for every algorithm, in the order of `HEADER`."""
    return [
        (
            ALGORITHMS[algorithm].title,
            f"{len(tuned.trials)}" + (f", {len(tuned.failed)} broke down" if tuned.failed else ""),
            f"{tuned.rollouts:,}",
            f"{max(tuned.scores):.3f}",
            _spread(tuned.fresh[TUNED]),
            _spread(tuned.fresh[UNTUNED]),
        )
        for algorithm, tuned in found.items()
    ]


def summary_table(folder: Path, search: Search, found: Mapping[str, Tuned]) -> None:
    """Print what was found, and how a study uses it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"validation maj@1, {search.trials} trials for every algorithm")
    for name in HEADER:
        table.add_column(name)
    for row in summary_rows(found):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(
        f"report: {folder / REPORT}; use: rlreason -m --config-dir {folder / 'conf'} tuned={folder.name} ...",
        soft_wrap=True,
        highlight=False,
    )


def report(name: str, search: Search, spaces: Mapping[str, Space], found: Mapping[str, Tuned], command: str) -> str:
    """The report as Markdown."""
    lines = [
        f"# Tuned settings `{name}`",
        "",
        f"    {command}",
        "",
        f"Random search, {search.trials} trials for every algorithm, scored by maj@1 of the selected checkpoint on "
        f"validation questions with seed {_listed(search.seeds)}. The best of many noisy scores is too high; so the "
        f"winner was run again with seeds {_listed(search.fresh_seeds)}, and the untuned settings beside it. "
        f"Runs with `tuned={name}` and seed {_listed(search.seeds)} are refused.",
        "",
        *_markdown(HEADER, summary_rows(found)),
        "",
        f"![expected best score]({CURVE}.svg)",
        "",
        "Expected best score of n trials (Dodge et al. 2019): where curves cross, the better algorithm depends on how "
        "much one tunes. The last column is the score of the best trial, which chance has raised.",
        "",
        *_markdown(("algorithm", *_tried(search.trials)), _curve_rows(found, search.trials)),
        "",
    ]
    for algorithm, tuned in found.items():
        space, winner = spaces[algorithm], tuned.winner.settings
        rows = [(key, _axis_text(axis), f"{winner[key]}") for key, axis in space.items()]
        lines += [f"## {ALGORITHMS[algorithm].title}", "", *_markdown(("setting", "searched", "chosen"), rows), ""]
    return "\n".join(lines)


def curve(found: Mapping[str, Tuned]) -> Figure:
    """The expected best score against the number of trials, a line for every algorithm; a cross is the fresh score."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for algorithm, tuned in found.items():
        row = ALGORITHMS[algorithm]
        best = expected_best(tuned.scores)
        axes.plot(range(1, len(best) + 1), best, color=row.color, marker=row.marker, label=row.title)
        fresh = tuned.fresh[TUNED]
        axes.plot([len(best) + 0.6] * len(fresh), fresh, "x", color=row.color)
    axes.set(xlabel="trials", ylabel="expected best validation maj@1 (x: fresh seeds)")
    axes.legend(loc="lower right")
    return figure


def _draw(folder: Path, found: Mapping[str, Tuned]) -> None:
    from rlreason.study.figures.style import styled

    def save() -> None:
        figure = curve(found)
        for kind in ("svg", "png"):
            figure.savefig(folder / f"{CURVE}.{kind}", dpi=150, metadata={"Date": None} if kind == "svg" else None)

    styled(save)()


def _tried(trials: int) -> list[str]:
    """The numbers of trials that the table shows: powers of two, and all."""
    return [str(number) for number in _columns(trials)]


def _columns(trials: int) -> list[int]:
    return sorted({*(2**power for power in range(trials.bit_length()) if 2**power <= trials), trials})


def _curve_rows(found: Mapping[str, Tuned], trials: int) -> list[tuple[str, ...]]:
    return [
        (ALGORITHMS[name].title, *(f"{expected_best(tuned.scores)[number - 1]:.3f}" for number in _columns(trials)))
        for name, tuned in found.items()
    ]


def _axis_text(axis: Axis) -> str:
    if isinstance(axis, Among):
        return "one of " + ", ".join(map(str, axis.values))
    if isinstance(axis, Around):
        return f"{axis.low:g} to {axis.high:g} times the configured value, log-uniform"
    return f"{axis.low:g} to {axis.high:g}, {'log-uniform' if axis.log else 'uniform'}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_line(header), _line(["---"] * len(header)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(values: Sequence[float]) -> str:
    return f"{_mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"

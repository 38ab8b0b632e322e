"""The report of a study: one page that a reader needs nothing else for, the same as Markdown, figures, and numbers."""

from __future__ import annotations

import base64
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rlreason.answers.spelling import visible_text
from rlreason.run.files import write_atomically
from rlreason.run.folder import training_files
from rlreason.run.identity import OWN, SOURCE
from rlreason.run.left_out import added_up, in_words
from rlreason.study.arms import Arm, Comparison, comparisons
from rlreason.study.budgets import budget_table
from rlreason.study.commands import Compose, command
from rlreason.study.controls import controlled
from rlreason.study.coverage import coverage_lines
from rlreason.study.drawn import Drawn, draw_all
from rlreason.study.examples import Example, examples
from rlreason.study.findings import Finding, findings
from rlreason.study.folders import Study, StudyRun
from rlreason.study.gained import gained_tables
from rlreason.study.gains import gain_lines
from rlreason.study.measurements import FOLDER, hardware_text, read_measurements
from rlreason.study.measures import whole_table
from rlreason.study.published import Published, published_beside
from rlreason.study.readings import Reading, readings
from rlreason.study.results import best_arm
from rlreason.study.summary import summary
from rlreason.study.tables import (
    Table,
    cost_table,
    diversity_table,
    outcome_model_table,
    results_tables,
    strictness_table,
)

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """What the report says about one comparison.

    Args:
        anchor: Of its heading.
        comparison: The arms.
        findings: The paper's findings, and what the arms say about them.
        controls: Arms that gain no more than their controls.
        gains: Arms whose gain is not what it seems, or not known in all its parts.
        gained: Tables of what was gained.
        results: Tables of measures, one for every model.
        further: Tables of cost and diversity.
        figures: Every figure that the data suffice for.
        published: Published numbers of the same models on the same questions.
        examples: The arm that they are from, rollouts of its first and of its last stage.
        commands: One for every arm.
    """

    anchor: str
    comparison: Comparison
    findings: list[Finding]
    controls: list[str]
    gains: list[str]
    gained: list[Table]
    results: list[Table]
    further: list[Table]
    figures: list[Drawn]
    published: list[tuple[str, Published]]
    examples: tuple[str, list[Example], list[Example]] | None
    commands: list[str]


@dataclass(frozen=True)
class Report:
    """A report that has been written.

    Args:
        folder: Where `report.html`, `report.md`, `results.csv` and `figures/` are.
        table: What `results.csv` holds.
        comparisons: What was compared.
        left_out: What is missing or was left out, and why; one line each.
    """

    folder: Path
    table: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    left_out: list[str]


def write_report(study: Study, compose: Compose) -> Report:
    """Write the report of a study into its folder.

    Args:
        study: Its runs.
        compose: Gives the configuration of some choices, for the commands that make the runs again.
    """
    found, notes = comparisons(study.runs)
    arms = [arm for comparison in found for arm in comparison.arms]
    read, troubles = readings(arms)
    table = whole_table(found, read, study.outcome_models)
    measurements, unread = read_measurements(study.folder / FOLDER, study.folder.parent / FOLDER)
    runs = (*study.runs, *study.outcome_models)
    in_runs = [in_words(row) for row in added_up(run.result.get("left_out", ()) for run in runs)]
    left_out = [*study.troubles, *notes, *troubles, *unread, *(f"in all runs together, {line}" for line in in_runs)]
    sections = [_section(study, comparison, table, read, compose, left_out) for comparison in found]
    _write_figures(study.folder / "figures", sections)
    write_atomically(study.folder / "results.csv", table.to_csv(index=False))
    view = {
        "study": study,
        "name": study.folder.resolve().name,
        "summary": summary(study, found, table) if found else [],
        "missing": study.missing,
        "left_out": left_out,
        "sections": sections,
        "outcome_models": outcome_model_table(table),
        "planned": "\n".join(study.commands),
        "measurements": measurements,
        "own": own_code(study.runs),
        "made_with": made_with(study.runs + study.outcome_models),
        "several": len(sections) > 1,
    }
    write_atomically(study.folder / "report.html", rendered("report.html.j2", view))
    write_atomically(study.folder / "report.md", rendered("report.md.j2", view))
    return Report(study.folder, table, found, left_out)


def rendered(template: str, view: dict[str, Any]) -> str:
    """A template filled in; in HTML everything that is not markup of ours is escaped, and nowhere is a control sign."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        finalize=lambda shown: visible_text(shown) if type(shown) is str else shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = lambda svg: "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    environment.filters["md"] = markdown_text
    environment.filters["fence"] = fence
    return environment.get_template(template).render(view)


def made_with(runs: Sequence[StudyRun]) -> list[tuple[str, str, str, int]]:
    """Versions, commit, hardware, and how many runs were made with them; the most frequent first."""
    found: Counter[tuple[str, str, str]] = Counter()
    for run in runs:
        result = run.result
        versions = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
        commit = result.get("commit") or "unknown (not a git checkout)"
        found[versions, commit, hardware_text(result.get("hardware", {}))] += 1
    return [(*facts, number) for facts, number in found.most_common()]


def own_code(runs: Sequence[StudyRun]) -> list[tuple[str, str, str, int]]:
    """Setting, function, where its source is kept, and number of runs, of everything of the user's own."""
    found: dict[tuple[str, str, str], list[StudyRun]] = defaultdict(list)
    for run in runs:
        for key, value in run.settings.items():
            for path in value if isinstance(value, list) else [value]:
                digest = run.settings.get(f"{SOURCE}{path}")
                if digest is not None and not key.startswith(SOURCE):
                    found[key, str(path), str(digest)].append(run)
    return [
        (key, path, next((str(file.relative_to(alike[0].folder.parent)) for file in kept), "not kept"), len(alike))
        for (key, path, digest), alike in sorted(found.items())
        for kept in [sorted((alike[0].folder / OWN).glob(f"{digest}-*"))]
    ]


def markdown_text(text: object) -> str:
    """Text as it is, in Markdown."""
    return re.sub(r"([\\`*_<>|#\[\]])", r"\\\1", str(text)).replace("\n", " ")


def fence(text: str) -> str:
    """A line of back-quotes longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


def _section(
    study: Study,
    comparison: Comparison,
    table: pd.DataFrame,
    read: dict[Arm, Reading],
    compose: Compose,
    left_out: list[str],
) -> Section:
    shown = None
    candidates = [arm for arm in comparison.arms if any(training_files(run.folder) for run in arm.runs)]
    best = best_arm(candidates, "maj@1")
    if best is not None:
        try:
            shown = (best.label, *examples(best.runs[0]))
        except ValueError as error:
            left_out.append(f"{best.runs[0].name}: without example rollouts, {error}")
    others = diversity_table(comparison, table)
    return Section(
        anchor=re.sub(r"[^a-z0-9]+", "-", comparison.title.lower()).strip("-"),
        comparison=comparison,
        findings=findings(comparison),
        controls=controlled(comparison),
        gains=[*gain_lines(comparison), *coverage_lines(comparison.arms)],
        gained=gained_tables(comparison, table),
        results=results_tables(comparison, table),
        further=[
            cost_table(comparison, table),
            budget_table(comparison, table),
            strictness_table(comparison, table),
            *([others] if others else []),
        ],
        figures=draw_all(comparison, read),
        published=published_beside(comparison),
        examples=shown,
        commands=[command(arm, study.folder.resolve().name, compose) for arm in comparison.arms],
    )


def _write_figures(folder: Path, sections: Sequence[Section]) -> None:
    """Write all figures, and remove those of an earlier report."""
    folder.mkdir(exist_ok=True)
    for old in (*folder.glob("*.png"), *folder.glob("*.svg")):
        old.unlink()
    for section in sections:
        for figure in section.figures:
            name = f"{section.anchor}-{figure.name}"
            (folder / f"{name}.png").write_bytes(figure.png)
            (folder / f"{name}.svg").write_bytes(figure.svg)

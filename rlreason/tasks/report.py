"""The report task: from the run folders of a study to its report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.study.plan import study_folder

if TYPE_CHECKING:
    from rich.console import Console

    from rlreason.study.report import Report


def report(config: ExperimentConfig, conf: Path, console: Console) -> None:
    """Write the report of the study named by `config.study`, and show its headline results.

    Args:
        config: The typed configuration.
        conf: The folder of configuration files, for the commands that the report shows.
        console: Where to print.

    Raises:
        UserError: No study is named, there is none of that name, or none of its runs has finished.
    """
    folder = study_folder(config)
    from rlreason.study.folders import read_study
    from rlreason.study.report import write_report

    with console.status(f"reading {folder}"):
        study = read_study(folder)
    with console.status(f"reporting {len(study.runs)} runs"):
        written = write_report(study, composer(conf))
    show(written, console)
    for line in written.left_out:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if study.missing:
        console.print(f"not finished yet: {len(study.missing)} of the runs", highlight=False)
    console.print(f"the report is in {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def composer(conf: Path) -> Any:
    """A function from choices to the composed configuration; it gives None where they do not compose."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from rlreason.config.compose import register_resolvers

    register_resolvers()

    @cache
    def composed(choices: Sequence[str]) -> Any:
        try:
            if GlobalHydra.instance().is_initialized():  # within the command line
                return OmegaConf.to_container(compose("config", list(choices)), resolve=True)
            with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
                return OmegaConf.to_container(compose("config", list(choices)), resolve=True)
        except (HydraException, OmegaConfBaseException):
            return None  # a run made by another version may have chosen what is no longer there

    return composed


def show(written: Report, console: Console) -> None:
    """The headline results: every arm's measures with their intervals."""
    from rich.table import Table
    from rich.text import Text

    from rlreason.study.tables import results_tables

    for comparison in written.comparisons:
        for item in results_tables(comparison, written.table, interval_digits=2):
            table = Table(title=Text(f"{comparison.title}: {item.title}", "bold"), title_justify="left")
            table.add_column(item.columns[0])
            for column in item.columns[1:]:
                table.add_column(column, justify="right", no_wrap=True)
            for row in item.rows:
                if not row.cells:
                    table.add_section()
                cells = (Text(cell.text, "bold" if cell.best else "") for cell in row.cells)
                table.add_row(Text(row.name, "" if row.cells else "bold"), *cells)
            console.print(table)

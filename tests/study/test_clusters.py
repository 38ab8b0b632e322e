"""Questions that come in clusters: from an evaluation's file to a study's intervals and to what is said of them."""

from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rlreason.display import Display
from rlreason.evaluation.evaluate import intervals
from rlreason.lab.measuring import store_evaluation
from rlreason.study.arms import Arm, comparisons
from rlreason.study.drawn import basis
from rlreason.study.folders import read_study
from rlreason.study.results import by_difficulty, measured, out_of_distribution, pass_at_every_k
from rlreason.types import Problem, Rollout
from tests.study.made import PROBLEMS, make_run

CLUSTERS = 8


def arms(folder: Path) -> tuple[Arm, ...]:
    study = read_study(folder)
    assert not study.troubles
    [found] = comparisons(study.runs)[0]
    return found.arms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms whose questions are variants of eight templates."""
    folder = tmp_path_factory.mktemp("clusters")
    for algo in ("ei", "ppo"):
        run = make_run(folder, algo)
        for path in (run / "evaluations").glob("*.parquet"):
            table = pq.read_table(path)
            names = [f"template {number % CLUSTERS}" for number in range(table.num_rows)]
            pq.write_table(table.append_column("cluster", pa.array(names)), path)
    return folder


def test_every_estimate_of_a_study_is_over_clusters(folder: Path) -> None:
    first, second = arms(folder)
    estimates = [
        first.estimate("maj@1"),
        first.estimate("distinct_right"),
        first.difference(second, "maj@1"),
        first.gain("pass@4"),
        *(estimate for _, estimate in pass_at_every_k(first)),
        *(out_of_distribution(first) or ()),
    ]
    assert {(item.problems, item.clusters) for item in estimates if item is not None} == {(PROBLEMS, CLUSTERS)}
    assert all(item is not None for item in estimates)
    # Of the eight questions with as many steps, each is of another template.
    assert [(item.problems, item.clusters) for _, item in by_difficulty(first)] == [(CLUSTERS, None)] * 3


def test_a_cluster_is_no_measure_and_the_figures_name_them(folder: Path) -> None:
    [comparison] = comparisons(read_study(folder).runs)[0]
    assert "cluster" not in {row["metric"] for row in measured(comparison)}
    assert basis(comparison) == f"1 seed per arm, {PROBLEMS} questions in {CLUSTERS} clusters."


def answered(cluster: str | None, number: int) -> Rollout:
    problem = Problem(f"q{number}", "?", "1", cluster=cluster)
    return Rollout(problem, 0, -1, (), (), (), "#### 1", "stop", answer="1", correct=True)


@pytest.mark.parametrize(("clusters", "column"), [(["a", "a", None], ["a", "a", None]), ([None] * 3, None)])
def test_an_evaluation_keeps_the_clusters_where_there_are_any(
    tmp_path: Path, clusters: list[str | None], column: list[str | None] | None
) -> None:
    answers = [answered(cluster, number) for number, cluster in enumerate(clusters)]
    store_evaluation(tmp_path, "test", answers, (), {"maj@1": np.ones(3)})
    table = pq.read_table(tmp_path / "evaluations" / "test.parquet")
    assert (table["cluster"].to_pylist() if "cluster" in table.column_names else None) == column


@pytest.mark.parametrize("stages", [["final"], ["init", "final"]])
def test_the_table_of_a_run_names_the_clusters(stages: list[str]) -> None:
    values = {"maj@1": np.array([1.0, 0.0, 1.0, 0.0])}
    metrics = {name: item.to_dict() for name, item in intervals(values, 100, ["a", "a", "b", None]).items()}
    evaluations = [{"stage": stage, "metrics": metrics} for stage in stages]
    shown = StringIO()
    Display(Console(file=shown, width=120)).table(
        {
            "name": "run",
            "prompt": {"name": "plain", "extraction": "standard"},
            "evaluations": evaluations,
            "differences": metrics,
        }
    )
    assert "4 in 3 clusters" in shown.getvalue().replace("questions ", "")

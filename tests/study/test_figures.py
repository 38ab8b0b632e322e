"""Every figure is drawn where the data suffice, and only there."""

import io
import itertools
from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from PIL import Image
from study.made import make_run

from rlreason.lab.result import KINDS
from rlreason.study.arms import comparisons
from rlreason.study.drawn import draw_all
from rlreason.study.figures import costs, labels, results, style, training
from rlreason.study.folders import Evaluation, read_study
from rlreason.study.readings import Reading, readings

FIGURES = {
    "learning curves": lambda comparison, read: training.learning_curves(comparison),
    "learning curves of pass@4": lambda comparison, read: training.learning_curves(comparison, "pass@4"),
    "trade-off": lambda comparison, read: training.trade_off(comparison),
    "new solutions": training.new_solutions,
    "diversity": training.sample_diversity,
    "results": lambda comparison, read: results.final_results(comparison),
    "pass@k": lambda comparison, read: results.pass_at_k(comparison),
    "steps": lambda comparison, read: results.accuracy_by_steps(comparison),
    "other questions": lambda comparison, read: results.other_questions(comparison),
    "costs": lambda comparison, read: costs.where_costs_went(comparison),
    "frontier": lambda comparison, read: costs.accuracy_for_cost(comparison),
    "calibration": costs.score_calibration,
}


@pytest.fixture(scope="module")
def read(comparison):
    return readings(comparison.arms)[0]


@pytest.fixture(scope="module")
def bare(comparison):
    """One arm of one seed that was measured once, greedily, and left nothing else."""
    arm = comparison.arms[0]
    run = arm.runs[0]
    table = run.final.table[["reference_steps", "samples", "right", "maj@1"]].assign(samples=0, reference_steps=0)
    result = {**run.result, "seconds": {}, "tokens": {}}
    final = Evaluation("final", False, 0, table)
    return replace(
        comparison,
        k=0,
        arms=(replace(arm, runs=(replace(run, evaluations=(final,), out_of_distribution={}, result=result),)),),
    )


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_where_there_is_something_to_draw(name, comparison, read):
    figure = FIGURES[name](comparison, read)
    assert isinstance(figure, Figure)
    assert any(panel.has_data() for panel in figure.axes)
    for panel in figure.axes:
        assert panel.has_data() or not panel.get_visible(), "an empty panel is shown"


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "calibration"])  # pools its seeds
def test_every_seed_is_a_dot_beside_the_mean_of_several_and_there_alone(name, comparison, read, monkeypatch):
    dots = []
    monkeypatch.setattr(style, "seed_dots", lambda panel, across, up, color: dots.append(len(across)))
    FIGURES[name](comparison, read)
    assert dots
    assert sum(dots) % 2 == 0  # two seeds of every arm
    alone = replace(comparison, arms=tuple(replace(arm, runs=arm.runs[:1]) for arm in comparison.arms))
    dots.clear()
    FIGURES[name](alone, {one: read[arm] for one, arm in zip(alone.arms, comparison.arms, strict=True)})
    assert sum(dots) == 0 or name in ("new solutions", "diversity")  # their readings are still of two


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "results"])
def test_a_figure_is_left_out_where_there_is_nothing_to_draw(name, bare):
    assert FIGURES[name](bare, {bare.arms[0]: Reading()}) is None


def test_equal_studies_give_equal_files(comparison):
    first, second = (style.saved(results.final_results(comparison)) for _ in range(2))
    assert first == second
    assert b"dc:date" not in first[1]


def test_figures_say_what_they_show_and_from_how_much(comparison, read, monkeypatch):
    monkeypatch.setattr(style, "saved", lambda figure: (b"", b""))  # files are the matter of other tests
    drawn = draw_all(comparison, read)
    assert len(drawn) == len({item.name for item in drawn}) == 11
    assert all(item.caption.endswith("2 seeds per arm, 24 questions.") for item in drawn)


def test_files_are_pictures_of_a_size_to_look_at(comparison):
    png, svg = style.saved(results.final_results(comparison))
    width, height = Image.open(io.BytesIO(png)).size
    assert 900 <= width <= 2600 and 300 <= height <= 3000
    assert svg.startswith(b"<?xml")


def test_no_two_arms_of_a_panel_look_alike(comparison, tmp_path):
    looks = style.looks(comparison)
    for row in style.groups(comparison, comparison.arms):
        for _, arms in row:
            seen = [(looks[arm].marker, looks[arm].filling) for arm in arms]
            assert len(set(seen)) == len(seen)
    for per in ("step", "solution"):
        make_run(tmp_path, "rcrl", accuracies=(0.2, 0.5), settings=(f"algo.per={per}",))
    (variants,), _ = comparisons(read_study(tmp_path).runs)
    first, second = style.looks(variants).values()
    assert first.color == second.color and first.marker != second.marker
    assert [style.short_label(arm) for arm in variants.arms] == ["RCRL (per=solution)", "RCRL (per=step)"]


@pytest.mark.parametrize(
    "positions", [[0.5] * 5, [0.0, 0.01, 0.99, 1.0], [1.0] * 8, [0.2, 0.5, 0.8], [0.97, 0.98, 0.99, 1.3]]
)
def test_labels_do_not_overlap(positions):
    gap = 0.08
    moved = labels.spread(positions, gap)
    assert all(after - before >= gap - 1e-9 for before, after in itertools.pairwise(moved))
    assert moved[0] >= 0 and moved[-1] <= 1 + 1e-9


def test_everything_that_a_run_spends_time_on_has_a_colour():
    assert {*costs.KINDS, "total"} == {*KINDS, "other"}


def test_labels_that_have_room_stay_where_they_are():
    assert labels.spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]


def test_many_arms_get_a_legend_instead_of_labels(tmp_path):
    for samples in range(4, 17):
        make_run(tmp_path, accuracies=(0.2, 0.5), settings=(f"algo.samples={samples}",), ood=False, scores=False)
    (many,), _ = comparisons(read_study(tmp_path).runs)
    figure = training.learning_curves(many)
    assert len(figure.legends) == 1
    assert len(figure.legends[0].get_texts()) == 13


def test_counts_are_short():
    assert [style.short_count(value) for value in (0, 950, 1000, 36_000, 1_500_000)] == [
        "0",
        "950",
        "1k",
        "36k",
        "1.5M",
    ]

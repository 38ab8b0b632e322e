"""What was retried, skipped or left out is counted once, however often a run is continued, and told where it is any."""

from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rlreason.display import Display
from rlreason.lab.setup import say_and_count
from rlreason.run.folder import Run
from rlreason.run.left_out import CUT, TOO_LOW, LeftOut, Trouble, added_up, in_words, left_out
from rlreason.run.stage import log_of, sampling_round

CONFIG = {"seed": 0}


def damaged():
    raise ValueError("the file is cut")


def rows(run):
    return {row.what: row for row in left_out(run.journal.values(), run.troubles, (0, 10), (0, 0))}


def test_a_run_without_any_has_no_rows(tmp_path):
    run = Run(tmp_path / "run", CONFIG)
    run.commit(sampling_round(1), rollouts=5, cut_at_limit=0, unread=0)
    assert rows(run) == {}


def test_a_continued_run_counts_a_stage_and_a_trouble_once(tmp_path):
    facts = {"rollouts": 5, "cut_at_limit": 2, "unread": 0}
    for _ in range(3):  # processes, of which the second finds a cut file
        run = Run(tmp_path / "run", CONFIG)
        run.once(sampling_round(1), lambda: (None, facts), damaged if _ == 1 else lambda: None)
        run.once(log_of("x"), lambda: (None, {"not_kept": {"drawn": 5, "too_low": 3, "copies": 0}}), lambda: None)
        found = rows(run)
        run.close()
    assert found == {
        CUT: LeftOut(CUT, 2, 5),
        TOO_LOW: LeftOut(TOO_LOW, 3, 5),
        Trouble.REDONE.value: LeftOut(
            Trouble.REDONE.value, 1, None, "round-1: what it stored cannot be read (the file is cut); it is done again"
        ),
    }
    assert "is done again" in (tmp_path / "run" / "events.log").read_text()


def test_what_goes_wrong_in_a_cache_is_told_by_the_run_that_uses_it(tmp_path):
    run = Run(tmp_path / "run", CONFIG)
    cache = Run(tmp_path / "cache", CONFIG, any_configuration=True, used_by=run)
    cache.commit(sampling_round(1))
    cache.once(sampling_round(1), lambda: (None, {}), damaged)
    assert [line["what"] for line in run.troubles] == ["REDONE"]
    assert cache.troubles == []


def test_a_lost_engine_and_a_tracker_that_fails_are_shown_and_counted(tmp_path):
    run, console = Run(tmp_path / "run", CONFIG), Console(file=StringIO(), width=200)
    display = Display(console)
    display.record = run.event
    for line in ("the engine was killed; it is started again", "the engine hangs"):
        say_and_count(run, display, Trouble.ENGINE, line)
    say_and_count(run, display, Trouble.TRACKER, "W&B: no answer")
    assert console.file.getvalue().count("\n") == 3
    assert rows(run)[Trouble.ENGINE.value] == LeftOut(Trouble.ENGINE.value, 2, None, "the engine hangs")
    assert rows(run)[Trouble.TRACKER.value].count == 1


def test_a_trouble_that_cannot_be_written_ends_nothing(tmp_path):
    run = Run(tmp_path / "run", CONFIG)
    (tmp_path / "run" / "troubles.jsonl").mkdir()
    run.trouble(Trouble.ENGINE, "lost")


RESULT = {
    "verdict": "done",
    "seconds": {"total": 1.0},
    "tokens": {"sample": 1},
}


@pytest.mark.parametrize("any_left", [True, False])
def test_the_table_is_there_only_if_there_is_something_in_it(any_left):
    console, said = Console(file=StringIO(), width=120), []
    display = Display(console)
    display.record = said.append
    table = [
        {"what": CUT, "count": 1234, "of": 5000, "last": None},
        {"what": "stages", "count": 1, "of": None, "last": "[red]x"},
    ]
    display.closing({**RESULT, "left_out": table if any_left else []}, Path("runs/x"))
    shown = console.file.getvalue()
    assert ("retried, skipped or left out" in shown) == any_left
    if any_left:
        assert "1,234" in shown and "5,000" in shown and "the last: [red]x" in shown
        assert f"{CUT}: 1,234 of 5,000" in said


def test_a_result_of_an_earlier_version_is_shown_without_it():
    console = Console(file=StringIO(), width=120)
    Display(console).closing(RESULT, Path("runs/x"))
    assert "done" in console.file.getvalue()


COUNTS = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=3, unique_by=lambda pair: pair[0])
)


@given(COUNTS)
def test_the_tables_of_several_runs_add_up(counts):
    tables = [[{"what": what, "count": count, "of": 10, "last": "x"} for what, count in table] for table in counts]
    for row in added_up(tables):
        there = [count for table in counts for what, count in table if what == row.what]
        assert (row.count, row.of, row.last) == (sum(there), 10 * len(there), None)
    assert {row.what for row in added_up(tables)} == {what for table in counts for what, _ in table}


def test_a_row_is_one_line():
    assert in_words(LeftOut("stages", 2, None, "cut")) == "stages: 2 (the last: cut)"

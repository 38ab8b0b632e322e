"""The benchmark says what it measured as it goes on, and fails where a promise is broken."""

import pytest

from bench import __main__ as program
from bench.row import Row, Turns, by_turns
from rlreason.errors import UserError


def row(name, ours, promised, short=True):
    return Row(name, "ours", "a peer", promised, lambda asked: Turns([ours] * asked.repeats, [2.0] * 2, "x/s"), short)


@pytest.fixture
def run(monkeypatch, capsys):
    def ask(rows, *arguments):
        monkeypatch.setattr(program, "ROWS", rows)
        monkeypatch.setattr(program, "quiet_libraries", lambda: None)
        monkeypatch.setattr("sys.argv", ["bench", "--repeats", "2", *map(str, arguments)])
        code = program.main()
        return code, capsys.readouterr().out

    return ask


def test_sides_take_turns_and_the_median_of_the_turns_counts():
    said = []
    speeds = iter([2.0, 1.0, 9.0, 3.0, 8.0, 2.0])

    def side(name):
        said.append(name)
        return next(speeds)

    turns = by_turns(lambda: side("ours"), lambda: side("peer"), 3, "x/s")
    assert said == ["ours", "peer"] * 3
    assert turns.ratios() == [2.0, 3.0, 4.0] and turns.ratio() == 3.0


def test_a_broken_promise_is_named_and_fails(run):
    code, output = run([row("kept", 4.0, 2.0), row("broken", 1.0, 0.6)])
    assert code == 1 and "below what was promised, or not measured: broken" in output
    assert output.index("kept: ours beside a peer") < output.index("2.00 to 2.00") < output.index("broken: ours")
    assert run([row("kept", 4.0, 2.0)])[0] == 0


def test_a_row_that_cannot_be_measured_stops_no_other(run, capsys):
    def fails(asked):
        raise ValueError("no such thing")

    def is_missing(asked):
        raise UserError("the Hub is not reached")

    rows = [
        Row("bad", "ours", "a peer", 1, fails),
        Row("gone", "ours", "a peer", 1, is_missing),
        row("kept", 4.0, 2.0),
    ]
    code, output = run(rows)
    assert code == 1 and "gone is left out: the Hub is not reached" in output and "not measured: bad" in output
    assert "2.00 to 2.00" in output


def test_long_rows_wait_to_be_asked_for(run, tmp_path):
    rows = [row("short", 4.0, 2.0), row("long", 4.0, 2.0, short=False)]
    assert "long" not in run(rows)[1]
    assert "long: ours" in run(rows, "--long")[1]
    assert "short: ours" not in run(rows, "long", "--markdown", tmp_path / "bench.md")[1]
    assert (tmp_path / "bench.md").read_text().splitlines()[2].startswith("| long | ours | a peer | 2.00 |")
    with pytest.raises(SystemExit):
        run(rows, "missing")


def test_every_row_has_a_name_of_its_own():
    from bench.rows import ROWS

    assert len({one.name for one in ROWS}) == len(ROWS)

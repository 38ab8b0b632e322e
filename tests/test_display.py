"""What a log file shows of long work: a line a minute, by a clock that the test turns."""

from io import StringIO

import pytest
from rich.console import Console

from rlreason import display as subject
from rlreason.display import Display


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def log(monkeypatch):
    """A display that writes into a file, the clock it reads, and its lines so far; it beats when it is told to."""
    monkeypatch.setattr(subject, "SECONDS_BETWEEN_LOOKS", 3600.0)
    console, clock = Console(file=StringIO(), width=20), Clock()
    return Display(console, clock), clock, lambda: console.file.getvalue().splitlines()


def test_long_work_says_every_minute_how_far_it_is(log):
    display, clock, lines = log
    with display.bar("round-1: sampling 96 from init") as bar:
        bar.update(1, 96, "10 tokens/s")
        for clock.now in (30.0, 59.9):
            display.beat()
            assert lines() == []
        bar.update(24, 96, "180 tokens/s")
        clock.now = 60.0
        display.beat()
        display.beat()
        assert lines() == [
            "round-1: sampling 96 from init: 24 of 96 (25%), 180 tokens/s, 24 a minute, about 3:00 left, 1:00 so far"
        ]
        clock.now = 119.0
        display.beat()
        assert len(lines()) == 1
        clock.now = 3720.0
        display.beat()
        assert lines()[1].endswith("0.387 a minute, about 3:06:00 left, 1:02:00 so far")
    assert lines()[2:] == ["round-1: sampling 96 from init (3720 s)"]


def test_work_within_work_is_told_with_what_it_is_part_of(log):
    display, clock, lines = log
    with display.bar("training on fresh rollouts") as outer:
        outer.update(1, 4, "loss 0.500")
        with display.bar("batch-00002: sampling 32 from batch-00002"), display.status("starting the engine"):
            clock.now = 61.0
            display.beat()
    assert lines() == [
        "starting the engine: 1:01 so far; batch-00002: sampling 32 from batch-00002: 1:01 so far; "
        "training on fresh rollouts: 1 of 4 (25%), loss 0.500, 0.984 a minute, about 3:03 left, 1:01 so far",
        "training on fresh rollouts (61 s)",
    ]


def test_continued_work_is_timed_from_where_it_goes_on(log):
    display, clock, lines = log
    with display.bar("fine-tuning") as bar:
        clock.now = 20.0
        bar.update(51, 100, "")
        clock.now = 60.0
        display.beat()
        bar.update(55, 100, "")
        clock.now = 120.0
        display.beat()
    assert lines()[0] == "fine-tuning: 51 of 100 (51%), 1:00 so far"
    assert lines()[1] == "fine-tuning: 55 of 100 (55%), 2.4 a minute, about 18:45 left, 2:00 so far"


def test_a_step_of_unknown_length_is_told_of_too_and_nothing_after_it(log):
    display, clock, lines = log
    with display.status("starting the engine"):
        clock.now = 60.0
        display.beat()
    clock.now = 600.0
    display.beat()
    assert lines() == ["starting the engine: 1:00 so far"]


def test_the_lines_come_by_themselves(monkeypatch):
    monkeypatch.setattr(subject, "SECONDS_BETWEEN_LOOKS", 0.001)
    monkeypatch.setattr(subject, "SECONDS_BETWEEN_LINES", 0.0)
    said = []
    display = Display(Console(file=StringIO()))
    monkeypatch.setattr(display, "beat", lambda: said.append(True))
    with display.bar("sampling"):
        while not said:
            pass
    terminal = Display(Console(file=StringIO(), force_terminal=True))
    monkeypatch.setattr(terminal, "beat", lambda: pytest.fail("a terminal has a bar"))
    with terminal.bar("sampling"), terminal.bar("within"):
        pass

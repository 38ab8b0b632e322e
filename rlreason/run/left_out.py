"""What was retried, skipped or left out in a run, told in one table at its end.

What follows from finished stages stands in the journal. What happens once and leaves nothing else behind, such as the
loss of an engine, is a line of `troubles.jsonl`, written when it happens. So nothing is counted twice, however often a
run is continued.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TROUBLES = "troubles.jsonl"


class Trouble(StrEnum):
    """What goes wrong without an end to the run."""

    ENGINE = "engine processes that were lost"
    TRACKER = "failures of the tracker"
    REDONE = "stages done again, for what they had stored was damaged"


PROMPTS = "questions whose prompts do not fit"
SECOND_PROMPTS = "questions whose prompts under eval.second_prompt do not fit"
CUT = "completions cut at data.max_completion_tokens"
UNREAD = "answers that could not be valued, and count as wrong"
TOO_LOW = "training rollouts that were not kept: the filter of the algorithm"
COPIES = "training rollouts that were not kept: another one counts as the same"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One row of the table.

    Args:
        what: In words.
        count: How many.
        of: Of how many; None where that means nothing.
        last: What was said of the last one; None where nothing was.
    """

    what: str
    count: int
    of: int | None = None
    last: str | None = None


def left_out(
    journal: Iterable[Mapping[str, Any]],
    troubles: Sequence[Mapping[str, Any]],
    too_long: tuple[int, int],
    second_too_long: tuple[int, int],
) -> list[LeftOut]:
    """The rows of the table; none of a kind of which there is nothing.

    Args:
        journal: The records of all finished stages, each once.
        troubles: The lines of `troubles.jsonl`.
        too_long: Questions whose prompts do not fit, and all that were to be asked.
        second_too_long: The same under `eval.second_prompt`.
    """
    records = list(journal)
    drawn = [record for record in records if "rollouts" in record]
    completions = sum(int(record["rollouts"]) for record in drawn)
    rounds = [record["not_kept"] for record in records if "not_kept" in record]
    sampled = sum(item["drawn"] for item in rounds)
    rows = [
        LeftOut(PROMPTS, *too_long),
        LeftOut(SECOND_PROMPTS, *second_too_long),
        LeftOut(CUT, sum(int(record.get("cut_at_limit", 0)) for record in drawn), completions),
        LeftOut(UNREAD, sum(int(record.get("unread", 0)) for record in drawn), completions),
        LeftOut(TOO_LOW, sum(item["too_low"] for item in rounds), sampled),
        LeftOut(COPIES, sum(item["copies"] for item in rounds), sampled),
    ]
    for trouble in Trouble:
        said = [str(line.get("message", "")) for line in troubles if line.get("what") == trouble.name]
        rows.append(LeftOut(trouble.value, len(said), last=said[-1] if said else None))
    return [row for row in rows if row.count]


def added_up(tables: Iterable[Sequence[Mapping[str, Any]]]) -> list[LeftOut]:
    """The tables of several runs, as their results hold them, as one; what was said last is left to each run."""
    found: dict[str, LeftOut] = {}
    for row in (LeftOut(**row) for table in tables for row in table):
        known = found.get(row.what, LeftOut(row.what, 0, None if row.of is None else 0))
        of = None if row.of is None or known.of is None else row.of + known.of
        found[row.what] = LeftOut(row.what, known.count + row.count, of)
    return list(found.values())


def in_words(row: LeftOut) -> str:
    """A row as a line."""
    of = "" if row.of is None else f" of {row.of:,}"
    last = "" if row.last is None else f" (the last: {row.last})"
    return f"{row.what}: {row.count:,}{of}{last}"

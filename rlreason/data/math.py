"""MATH: competition problems of seven subjects and five levels, with worked solutions (Hendrycks et al. 2021)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlreason.answers.extraction import extract_answer
from rlreason.config.base import require, setting
from rlreason.config.sections import DataConfig
from rlreason.data.base import Dataset, Splits, from_two_splits, normalised
from rlreason.data.golds import solution_steps, without_thousands
from rlreason.data.layout import split_rows, subsets_of
from rlreason.data.sources import Row, hub_rows
from rlreason.errors import UserError
from rlreason.types import Problem

HUB_NAME = "EleutherAI/hendrycks_math"
SUBJECTS = (
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra"),
    *("number_theory", "prealgebra", "precalculus"),
)
LEVELS = (1, 2, 3, 4, 5)
# A few solutions write "\fbox{2}", or "\boxed 2" without braces.
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([^\s${}.]+))")


@dataclass(frozen=True, kw_only=True)
class MathConfig(DataConfig):
    """Competition problems."""

    levels: list[int] | None = setting("levels of difficulty, of 1 (easy) to 5, for training and tests; null: all")

    def check(self) -> None:
        """Refuse levels that no problem has."""
        require(
            self.levels is None or (len(self.levels) > 0 and set(self.levels) <= set(LEVELS)),
            f"data.levels={self.levels} must be some of {', '.join(map(str, LEVELS))}, or null",
        )


def load(split: str, path: str | None, levels: Sequence[int] | None) -> list[Problem]:
    """Load one split, in an order that does not depend on where it came from.

    Args:
        split: "train" or "test".
        path: A clone of the data set, a folder in the layout of the original (train/algebra/1.json), or files of both
            splits in any form; None loads all subjects from the Hub.
        levels: Only problems of these; None: all.

    Raises:
        UserError: The data are missing or malformed; the message names file and row.
    """
    if path is None:
        rows = [row for subject in SUBJECTS for row in hub_rows("math", HUB_NAME, subject, split)]
    else:
        rows = [row for subject in subsets_of(path) or (None,) for row in split_rows(path, subject, split)]
    wanted = None if levels is None else {f"Level {level}" for level in levels}
    chosen = [row for row in rows if wanted is None or row.text("level") in wanted]
    if rows and not chosen:
        raise UserError(f"data.levels={levels}: no {split} problem is of these; choose other levels")
    return sorted(map(_problem, chosen), key=lambda problem: (problem.id, problem.answer, problem.steps))


def splits(config: MathConfig) -> Splits:
    """Its questions by split; a training question that is in the test split as well is left out.

    Raises:
        UserError: The data are missing or malformed, or validation leaves no training questions.
    """
    train, test = (load(split, config.path, config.levels) for split in ("train", "test"))
    tested = {normalised(problem.question) for problem in test}
    left = [problem for problem in train if normalised(problem.question) not in tested]
    found = from_two_splits(left, test, config)
    note = f"train: questions left out, for the test split has them as well: {len(train) - len(left):,}"
    return Splits(found.problems, (*found.notes, note)) if len(left) < len(train) else found


def _problem(row: Row) -> Problem:
    question, solution = row.text("problem"), row.text("solution")
    boxed = _BOX.sub(lambda match: r"\boxed{" + (f"{match[1]}}}" if match[1] else ""), solution)
    answer = extract_answer(boxed)
    if r"\boxed{" not in boxed or answer is None:
        raise UserError(f"{row.place}: the column 'solution' must state its answer in \\boxed{{}}; fix the row")
    answer = without_thousands(answer)
    identity = "math-" + hashlib.sha256(normalised(question).encode()).hexdigest()[:12]
    return Problem(identity, question, answer, solution_steps(solution, answer), dict(row.values))


MATH = Dataset(
    settings=MathConfig,
    title="MATH",
    splits=splits,
    generated=False,
    solutions=True,
    other_kind=False,
    facts=None,  # 7,500 training and 5,000 test problems, whose lengths nobody has counted
    hub_name=HUB_NAME,
    licence="mit",
)

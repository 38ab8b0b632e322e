"""Questions of the user's own: a file, a folder or a data set of the Hub, with any columns and any kind of splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlreason.config.base import require, setting
from rlreason.config.sections import DataConfig
from rlreason.data.base import Dataset, Splits, bare, hash_of, normalised, without_copies
from rlreason.data.columns import SPLITS, Columns, answer_of, columns_of, guess, question_of
from rlreason.data.layout import ONLY, located
from rlreason.data.sources import SPLIT_WORDS, Row, shown
from rlreason.errors import UserError
from rlreason.types import Problem

NAMES = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class FilesConfig(DataConfig):
    """Questions of your own."""

    subset: str | None = setting("which of several data sets that lie there together, such as main; null: the only one")
    question: str | None = setting("column of the question; a.b is b within a; null: guessed from its name, and said")
    answer: str | None = setting(
        "column of the gold answer: a number, a text, or a worked solution that ends with it; null: guessed, and said"
    )
    solution: str | None = setting("column of the worked solution, one step a line; null: guessed, and said")
    cluster: str | None = setting(
        "column that is equal for questions that belong together, which then share a split; null: each stands alone"
    )
    split: str | None = setting("column that says train, validation or test; null: guessed, or as the files are called")
    shares: list[float] = setting(
        "shares of train, validation and test, where the data bring no such split: decided by a hash of each question"
    )

    def check(self) -> None:
        """Refuse data that nobody has named, and shares that are none."""
        require(
            bool(self.path),
            "data.path is missing: data=files needs data.path=FILE, FOLDER or OWNER/NAME (a data set of the Hub)",
        )
        shares = "[" + ", ".join(f"{share:g}" for share in self.shares) + "]"
        require(
            len(self.shares) == len(NAMES) and all(share >= 0 for share in self.shares),
            f"data.shares={shares} must be three numbers of at least 0, of train, validation and test: [0.8, 0.1, 0.1]",
        )
        require(
            abs(sum(self.shares) - 1) < 1e-6,
            f"data.shares={shares} must add up to 1 and add up to {sum(self.shares):g}",
        )


def splits(config: FilesConfig) -> Splits:
    """The questions by split; a split that the data do not bring has its share of the training questions.

    An id follows from the question alone, a split from the question (or from its cluster) and the shares, the order
    from the id and `data.seed`. So none depends on the form of the files, on the order of their rows, or on what else
    they hold.

    Raises:
        UserError: The data are missing or malformed, or a share leaves a split without questions.
    """
    place = located(str(config.path), config.subset)
    rows = {split: read() for split, read in place.splits.items()}
    everything = [row for found in rows.values() for row in found]
    columns = columns_of(everything, config.question, config.answer, config.solution)
    by_split: dict[str, list[Problem]] = {}
    for split, found in _by_column(rows, everything, config.split).items():
        by_split[split] = [_problem(row, columns, config.cluster) for row in found]
    kept = {split: without_copies(problems, split) for split, problems in by_split.items()}
    divided = _divided({split: problems for split, (problems, _) in kept.items()}, config)
    guesses = [f"guessed from the names of the columns: {', '.join(columns.guessed)}"] if columns.guessed else []
    return Splits(
        {split: _in_order(problems, config.seed) for split, problems in divided.items()},
        (
            *place.notes,
            *guesses,
            *(note for _, notes in kept.values() for note in notes),
            *_how_divided(by_split, divided),
        ),
    )


def _problem(row: Row, columns: Columns, cluster: str | None) -> Problem:
    question = question_of(row, columns.question)
    steps, answer = answer_of(row, columns)
    identity = hashlib.sha256(normalised(question).encode()).hexdigest()[:16]
    belongs_to = None if cluster is None else str(row.value(cluster))
    return Problem(f"files-{identity}", question, answer, steps, dict(row.values), belongs_to)


def _by_column(rows: Mapping[str, list[Row]], everything: Sequence[Row], column: str | None) -> dict[str, list[Row]]:
    """The rows by the column that names their split, where there is one and the files do not name several."""
    chosen = column
    if chosen is None:
        guessed = guess(everything, SPLITS, "split") if len(rows) == 1 else None
        is_split = guessed is not None and all(_named(row, guessed) for row in everything)
        chosen = guessed if is_split else None
    if chosen is None:
        return {"train" if split == ONLY else split: found for split, found in rows.items()}
    by_split: dict[str, list[Row]] = {}
    for row in everything:
        split = _named(row, chosen)
        if split is None:
            raise UserError(
                f"{row.place}: the column {chosen!r} must be train, validation or test; it is "
                f"{shown(row.value(chosen))}"
            )
        by_split.setdefault(split, []).append(row)
    return by_split


def _named(row: Row, column: str) -> str | None:
    return SPLIT_WORDS.get(str(row.find(column)).strip().casefold())


def _divided(given: Mapping[str, list[Problem]], config: FilesConfig) -> dict[str, list[Problem]]:
    """The splits that the data bring, and shares of the training questions for those that they do not."""
    if "train" not in given:
        return dict(given)
    shares = dict(zip(NAMES, config.shares, strict=True))
    asked = {split: share for split, share in shares.items() if share > 0 and (split == "train" or split not in given)}
    asked = asked or {"train": 1.0}  # the data bring every other split that has a share
    divided: dict[str, list[Problem]] = {split: [] for split in asked}
    for problem in given["train"]:
        divided[_share(problem, asked)].append(problem)
    empty = [split for split in asked if not divided[split]]
    if empty:
        raise UserError(
            f"data.shares={config.shares} leaves no {empty[0]} questions: data.path={config.path} has "
            f"{len(given['train']):,} to divide; raise that share, or use more data"
        )
    found = {**given, **divided}
    return {split: found[split] for split in NAMES if split in divided or (split in given and split != "train")}


def _share(problem: Problem, shares: Mapping[str, float]) -> str:
    """The split whose share of the line from 0 to 1 holds the hash of a problem."""
    # Letters and digits only, so that copies which differ in a comma are on the same side.
    belongs_to = bare(problem.question) if problem.cluster is None else problem.cluster
    point = hash_of(f"split/{belongs_to}") / 2**64 * sum(shares.values())
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    return list(shares)[-1]  # the rounding of a sum


def _in_order(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """An order drawn by a seed, in which questions keep their places among each other whatever is added to them."""
    return sorted(problems, key=lambda problem: (hash_of(f"{seed}/{problem.id}"), problem.id))


def _how_divided(given: Mapping[str, Sequence[Problem]], divided: Mapping[str, Sequence[Problem]]) -> list[str]:
    made = [split for split in divided if split not in given]
    if not made:
        return []
    counts = ", ".join(f"{len(problems):,} {split}" for split, problems in divided.items())
    return [f"{' and '.join(made)} questions are shares of those for training, by a hash of each: {counts}"]


FILES = Dataset(
    settings=FilesConfig,
    title="own data",
    splits=splits,
    generated=False,
    solutions=True,
    other_kind=False,
    facts=None,
    hub_name=None,
    licence=None,
)

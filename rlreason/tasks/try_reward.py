"""The try_reward task: what a reward gives to solutions that are there already, whether it agrees, what it costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rlreason.answers.equality import grade
from rlreason.answers.extraction import EXTRACTIONS
from rlreason.answers.spelling import visible_text
from rlreason.answers.steps import StepSplitter, through_answer
from rlreason.config.base import converted
from rlreason.config.compose import settings_of, with_protocols
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import ModelConfig, TryRewardConfig, by_kind
from rlreason.data.columns import answer_of, columns_of, guess, question_of
from rlreason.data.sources import file_rows
from rlreason.data.splits import read_data
from rlreason.errors import UserError
from rlreason.evaluation.statistics import interval_text
from rlreason.models.tokens import continuation, model_kind
from rlreason.orm.judging import area_under_curve, drawn_together, interval_over_groups, rows_by_name
from rlreason.rewards.base import Reward
from rlreason.rewards.custom import CustomRewardConfig, with_own
from rlreason.rewards.registry import REWARDS
from rlreason.run import store
from rlreason.run.folder import training_files
from rlreason.types import Problem, Rollout

if TYPE_CHECKING:
    from rich.console import Console

COMPLETIONS = (
    ("completion", "response", "generation", "model_output", "model_answer"),
    ("output", "prediction", "solution", "text"),
)
KEY = "task.rollouts"
RESAMPLES = 500
LONGEST_SHOWN = 120  # characters of a line in an example


@dataclass(frozen=True)
class Solutions:
    """Graded solutions that a reward is tried on.

    Args:
        rollouts: With their steps.
        tokenizer: That their tokens are of.
        there: How many there are in all.
    """

    rollouts: Sequence[Rollout]
    tokenizer: Any
    there: int


def try_reward(config: ExperimentConfig, console: Console) -> None:
    """Show what the command's reward gives to solutions, whether it agrees with right and wrong, and its cost.

    Raises:
        UserError: There are no solutions, they cannot be read, or the reward cannot be given to them.
    """
    wanted = config.task
    assert isinstance(wanted, TryRewardConfig) and wanted.rollouts is not None
    found = solutions(config, Path(wanted.rollouts), wanted.most)
    reward = given_reward(config, found.tokenizer)
    begun = time.perf_counter()
    rewards = reward(found.rollouts)
    seconds = time.perf_counter() - begun
    tried = [replace(item, rewards=earned) for item, earned in zip(found.rollouts, rewards, strict=True)]

    def line(text: str) -> None:
        console.print(visible_text(text), markup=False, highlight=False, soft_wrap=True)

    questions = len({item.problem.id for item in tried})
    of_all = f" of {found.there:,}" if found.there > len(tried) else ""
    line(f"{title(config)} on {len(tried):,}{of_all} solutions of {questions:,} questions from {wanted.rollouts}")
    console.print(values_table(tried))
    for text in agreement(tried, config.reward.threshold):
        line(text)
    line(f"{seconds:.3f} s in all: {seconds / len(tried) * 1000:.3g} s for a thousand")
    for item in chosen_examples(tried, wanted.examples):
        line("")
        for text in example(item):
            line(text)


def title(config: ExperimentConfig) -> str:
    """The reward in words, with the user's own part."""
    settings = config.reward
    if settings.function is None:
        return f"reward={settings.name}"
    own = settings.function if settings.function_weight == 1 else f"{settings.function_weight:g} x {settings.function}"
    return f"reward={own}" if isinstance(settings, CustomRewardConfig) else f"reward={settings.name} + {own}"


def solutions(config: ExperimentConfig, path: Path, most: int) -> Solutions:
    """The solutions of a run folder, of one of its files, or of a file of answers, at most so many, spread evenly.

    Raises:
        UserError: There are none, or they cannot be read.
    """
    if not path.exists():
        raise UserError(f"{KEY}={path}: no such file or folder; name a run folder, or a file of answers")
    run = next((folder for folder in (path, *path.parents[:2]) if (folder / "config.yaml").is_file()), None)
    if run is not None:
        return _of_run(run, path, most)
    if path.is_dir():
        raise UserError(f"{KEY}={path} is no run folder (it has no config.yaml); name one, or a file of answers")
    return _of_file(config, path, most)


def given_reward(config: ExperimentConfig, tokenizer: Any) -> Reward:
    """The reward of the command.

    Raises:
        UserError: It needs an outcome reward model, and none is named.
    """
    row, model = REWARDS[config.reward.name], None
    if row.needs_outcome_model:
        from rlreason.orm.training import given_model

        if config.orm.path is None:
            raise UserError(f"reward={config.reward.name} needs a trained outcome reward model: orm.path=FOLDER")
        model = given_model(Path(config.orm.path), tokenizer, "orm.path", make_room=lambda: None)  # nothing generates
    return with_own(partial(row.score, settings=config.reward, outcome_model=model), config.reward)


def values_table(tried: Sequence[Rollout]) -> Any:
    """Returns of right, of wrong and of all solutions: how many, mean, deviation, quartiles."""
    from rich.table import Table

    table = Table("solutions", title="returns")
    for heading in ("number", "mean", "deviation", "least", "25 %", "50 %", "75 %", "most"):
        table.add_column(heading, justify="right")
    right = np.array([item.correct for item in tried])
    values = np.array([item.total_reward for item in tried])
    for name, mask in (("right", right), ("wrong", ~right), ("all", np.full(len(tried), True))):
        part = values[mask]
        if len(part):
            numbers = (part.mean(), part.std(), *np.quantile(part, [0, 0.25, 0.5, 0.75, 1]))
            table.add_row(name, f"{len(part):,}", *(f"{number:.3f}" for number in numbers))
    return table


def agreement(tried: Sequence[Rollout], threshold: float | None) -> list[str]:
    """Whether right solutions earn more than wrong ones, and what an algorithm would see of it."""
    right = np.array([item.correct for item in tried])
    values = np.array([item.total_reward for item in tried])
    questions = [item.problem.id for item in tried]
    groups = rows_by_name(questions)
    lines = []
    if right.all() or not right.any():
        lines.append(f"all solutions are {'right' if right.all() else 'wrong'}: agreement cannot be seen")
    else:
        found = interval_over_groups(
            drawn_together(questions, [item.problem.cluster for item in tried]),
            len(groups),
            RESAMPLES,
            "share",
            lambda rows: area_under_curve(values[rows], right[rows]),
        )
        lines.append(
            f"a right solution earns more than a wrong one with probability {interval_text(found)} (0.5: chance)"
        )
        lines += _within_questions(groups, values, right)
    differing = sum(len(set(values[rows])) > 1 for rows in groups)
    lines.append(f"{differing:,} of {len(groups):,} questions have solutions with different returns")
    if threshold is not None:
        kept = values >= threshold
        wrong = f", of which {int((kept & ~right).sum()):,} are wrong" if kept.any() else ""
        lines.append(f"{int(kept.sum()):,} solutions earn reward.threshold={threshold:g} or more{wrong}")
    return lines


def chosen_examples(tried: Sequence[Rollout], number: int) -> list[Rollout]:
    """The wrong solutions that earn most and the right ones that earn least, by turns."""
    wrong = sorted((item for item in tried if not item.correct), key=lambda item: -item.total_reward)
    right = sorted((item for item in tried if item.correct), key=lambda item: item.total_reward)
    both = [item for pair in zip(wrong, right, strict=False) for item in pair]
    left = (wrong or right)[len(both) // 2 :] if len(wrong) != len(right) else []
    return [*both, *left][:number]


def example(item: Rollout) -> list[str]:
    """A solution with what each of its steps earns, in lines."""
    earned = {reward.end: reward.value for reward in item.rewards}
    state = "right" if item.correct else "wrong"
    lines = [f"{item.problem.id}, {state}, earns {item.total_reward:.3f}: {_short(item.problem.question)}"]
    for step in through_answer(item.steps):
        value = f"{earned[step.end]:+8.3f}" if step.end in earned else " " * 8
        lines += [
            f"{value if number == 0 else '':8}  {_short(text)}" for number, text in enumerate(step.text.split("\n"))
        ]
    return lines


def _within_questions(
    groups: Sequence[npt.NDArray[np.int64]], values: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> list[str]:
    mixed = [rows for rows in groups if right[rows].any() and not right[rows].all()]
    if not mixed:
        return []
    inside = float(np.mean([area_under_curve(values[rows], right[rows]) for rows in mixed]))
    return [f"within a question {inside:.3f}, over questions that have both, of which there are {len(mixed):,}"]


def _of_run(run: Path, path: Path, most: int) -> Solutions:
    """The training rollouts of a run, those that measured it where it has none, or those of one of its files."""
    import pyarrow as pa
    import yaml

    from rlreason.models.loading import load_tokenizer
    from rlreason.models.resolve import resolve

    plain: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    section: Any = converted(settings_of("data", plain["data"]), _without_row(plain["data"]))
    data = read_data(section)
    problems = {problem.id: problem for split in data.splits.values() for problem in split}
    files = [path] if path.is_file() else training_files(run) or sorted(run.glob("rollouts/*-sampled.parquet"))
    try:
        found = [item for file in files for item in store.read_sealed(file.parent, file.stem, problems)]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"{KEY}={path}: not rollouts of the data of {run} ({' '.join(str(error).split())[:80]})"
        ) from error
    if not found:
        raise UserError(f"{KEY}={path}: no rollouts there; name a run that has sampled, or one of its files")
    model = converted(ModelConfig, plain["model"])
    tokenizer = load_tokenizer(resolve(model).folder)
    section, _ = by_kind(plain["prompt"], None, model_kind(model, tokenizer))
    splitter = StepSplitter(tokenizer, EXTRACTIONS[section.get("extraction", "standard")])
    kept = [
        replace(item, steps=splitter.split(item.completion_ids, item.text), rewards=()) for item in _spread(found, most)
    ]
    return Solutions(kept, tokenizer, len(found))


def _of_file(config: ExperimentConfig, path: Path, most: int) -> Solutions:
    """Answers in a file, each with its question and its gold answer."""
    from rlreason.models.loading import load_tokenizer
    from rlreason.models.resolve import resolve

    rows = [row for part in file_rows(path).values() for row in part]
    column = guess(rows, COMPLETIONS, "completion")
    if column is None:
        there = ", ".join(dict.fromkeys(str(name) for row in rows for name in row.values))
        raise UserError(f"{path}: no column has a name that is known for the completion (there: {there}); rename it")
    kept = _spread(rows, most)
    columns = columns_of([replace(row, values=_without(row.values, column)) for row in rows], None, None, None)
    tokenizer = load_tokenizer(resolve(config.model).folder)
    protocol = with_protocols(config, model_kind(config.model, tokenizer)).protocol
    extraction = EXTRACTIONS[protocol.extraction]
    splitter = StepSplitter(tokenizer, extraction)
    first: dict[str, int] = {}  # row of each question
    found, golds, texts = [], [], []
    for row in kept:
        steps, gold = answer_of(row, columns)
        question, text = question_of(row, columns.question), row.text(column)
        ids = continuation(tokenizer, "\n", text)
        identity = f"row {first.setdefault(question, row.number)}"
        problem = Problem(identity, question, gold, steps, dict(row.values))
        parts = splitter.split(ids, text)
        found.append(Rollout(problem, row.number, 0, (), ids, (), text, "stop", parts, extraction.answer(text)))
        golds.append(gold)
        texts.append(text)
    verdicts = grade(texts, golds, extraction.answer)
    graded = [replace(item, correct=right) for item, right in zip(found, verdicts, strict=True)]
    return Solutions(graded, tokenizer, len(rows))


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many, spread evenly over all."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def _without_row(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "row"}


def _without(values: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != column}


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_SHOWN else f"{words[: LONGEST_SHOWN - 3]}..."

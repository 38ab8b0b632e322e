"""A finished run scored again from its stored texts: by the run's own rule, by another extraction, gold file or vote.

Neither an engine nor weights are asked for anything, and the run stays as it is: what is found lies beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlreason.answers.extraction import EXTRACTIONS
from rlreason.answers.steps import StepSplitter
from rlreason.config.base import require
from rlreason.config.compose import GROUPS
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import KINDS, RescoreConfig, is_auto
from rlreason.data.base import normalised
from rlreason.data.columns import ANSWERS, QUESTIONS, SOLUTIONS, Columns, answer_of, guess, question_of
from rlreason.data.sources import Row, file_rows
from rlreason.data.splits import read_data
from rlreason.display import Display, plain_list
from rlreason.errors import UserError, in_one_line
from rlreason.evaluation.statistics import interval_text
from rlreason.lab.contents import digest_of_data
from rlreason.lab.measuring import store_evaluation
from rlreason.lab.rescored import VOTES, Complete, Flip, Rescored, Rule, StoredRun, rescored, same
from rlreason.run.files import write_atomically
from rlreason.run.folder import read_journal
from rlreason.run.identity import prompt_of, stored_configuration
from rlreason.run.stage import ELSEWHERE, FINAL, INIT, SECOND_PROMPT, evaluation, greedy
from rlreason.run.store import asked_problems, write_evaluation
from rlreason.tasks.repeat import experiment_of, finished, named
from rlreason.types import Problem, Rollout

if TYPE_CHECKING:
    from rich.console import Console

REPORT, FLIPS = "rescore.json", "flips.parquet"
GOLD = "task.gold"
IDS = ("id", "problem_id", "question_id")
LONGEST_SHOWN = 40  # characters of an answer in a table
DATA_PATH = "data.path"


@dataclass(frozen=True)
class Questions:
    """What a run has asked.

    Args:
        problems: By id, with the gold answers that count now.
        golds: The gold answers that counted when the run was made, as far as that is known.
        notes: What to know about them, a line each.
    """

    problems: Mapping[str, Problem]
    golds: Mapping[str, str]
    notes: Sequence[str] = ()


def rescore(config: ExperimentConfig, overrides: Sequence[str], console: Console) -> Rescored:
    """Score a finished run again; tables are printed, and everything is written beside the run.

    Args:
        config: Of the command; its task names the run and the rule.
        overrides: Of the command.
        console: Shows the tables.

    Raises:
        UserError: There is no such run, it has not finished, another version made it, it has no text, or the gold
            answers are not those of its questions.
    """
    wanted = config.task
    assert isinstance(wanted, RescoreConfig)
    refuse_other_settings(overrides)
    folder = named(str(wanted.run))
    result = finished(folder)
    stored, _ = stored_configuration(folder, ())
    experiment = experiment_of(folder, stored)
    journal = {record["stage"]: record for record in read_journal(folder)}
    display = Display(console)
    rule = rule_of(wanted, experiment, result)
    questions = questions_of(folder, experiment, stored, wanted.gold, reported(folder, experiment, result))
    for note in questions.notes:
        display.line(note)
    run = StoredRun(folder, result, journal, experiment.eval.split, questions.problems, questions.golds)
    to = folder.with_name(f"{folder.name}-rescored-{digest_of(wanted, rule, questions)}")
    try:
        with display.status(f"scoring {folder.name}"):
            found = rescored(run, rule, completing(experiment, rule))
    except (OSError, KeyError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else in_one_line(error, 200)
        raise UserError(
            f"{folder} cannot be scored: {reason}; every file of rollouts is needed whole, and its own command makes "
            "what is missing again"
        ) from error
    write(found, run, wanted, to)
    show(found, run, wanted.examples, display)
    display.line(f"{folder.name} {ending(found, run)}; everything is in {to}")
    return found


def refuse_other_settings(overrides: Sequence[str]) -> None:
    """Refuse what would change nothing: all but the task's settings are those of the run.

    Raises:
        UserError: There is such a setting.
    """
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        group = key.partition(".")[0].partition("@")[0]
        if group in (*GROUPS, "seed", "budget") and group != "task":
            instead = {"prompt": "task.extraction=NAME", "data": f"{GOLD}=FILE", "eval": "task.k, task.rerank"}
            other = f" ({instead[group]} is of this task)" if group in instead else ""
            raise UserError(f"task=rescore takes {key} from the run; leave it out{other}")


def rule_of(wanted: RescoreConfig, experiment: ExperimentConfig, result: Mapping[str, Any]) -> Rule:
    """By what is scored: what the task says, and else what the run itself was scored by."""
    own = str(prompt_of(result)["extraction"])
    second = own
    section = experiment.eval.second_prompt
    if "second_prompt" in result and section is not None:
        sections = [section[kind] for kind in KINDS] if is_auto(section) else [section]
        second = next(item["extraction"] for item in sections if item["name"] == result["second_prompt"]["prompt"])
    return Rule(
        extraction=wanted.extraction or own,
        second_extraction=wanted.extraction or second,
        votes=VOTES[wanted.vote],
        k=wanted.k,
        rank_by=wanted.rerank or experiment.eval.rerank,
        resamples=experiment.eval.resamples,
        metrics=experiment.eval.metrics,
    )


def reported(folder: Path, experiment: ExperimentConfig, result: Mapping[str, Any]) -> list[str]:
    """The ids of the questions of which a run reports something.

    Raises:
        UserError: A file of its rollouts cannot be read.
    """
    stages = [greedy(experiment.eval.split, record["stage"]).name for record in result["evaluations"]]
    for key, split in (("out_of_distribution", ELSEWHERE), ("second_prompt", SECOND_PROMPT)):
        stages += [greedy(split, checkpoint).name for checkpoint in (INIT, FINAL)] if key in result else []
    ids: dict[str, None] = {}
    for stage in stages:
        try:
            ids |= dict.fromkeys(asked_problems(folder / "rollouts" / f"{stage}.parquet"))
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{folder} has no text of {stage} ({in_one_line(error, 100)}); its own command makes it again"
            ) from error
    return list(ids)


def questions_of(
    folder: Path, experiment: ExperimentConfig, stored: Mapping[str, Any], gold: str | None, asked: Sequence[str]
) -> Questions:
    """The questions of a run with the gold answers that count.

    Args:
        folder: The run's.
        experiment: What it was made with.
        stored: The same as its `config.yaml` has it.
        gold: A file of other gold answers; None: the run's own.
        asked: Ids of the questions that are reported.

    Raises:
        UserError: The questions are not those of the run, or the file does not have their answers.
    """
    data = read_data(experiment.data)
    problems = {problem.id: problem for split in data.splits.values() for problem in split}
    digest = stored.get("contents", {}).get(DATA_PATH)
    changed = digest is not None and digest != digest_of_data(data)
    lost = [name for name in asked if name not in problems]
    if lost or (changed and gold is None):
        what = f"{len(lost):,} questions of {folder} are not there any more ({plain_list(lost)})" if lost else ""
        raise UserError(
            f"what lies at {DATA_PATH}={experiment.data.path} has changed since {folder} was made"
            + (f": {what}" if lost else f"; {GOLD}={experiment.data.path} scores by the answers that are there now")
        )
    golds = {} if changed else {name: problem.answer for name, problem in problems.items()}
    if gold is None:
        return Questions(problems, golds)
    given, foreign = gold_answers(Path(gold), problems)
    lacking = [name for name in asked if name not in given]
    if lacking:
        raise UserError(
            f"{GOLD}={gold} has no answer to {len(lacking):,} of the {len(asked):,} questions that {folder} reports "
            f"(first: {lacking[0]}), and {foreign:,} rows of other questions; it needs the run's ids in a column id, "
            "or its questions"
        )
    notes = []
    if foreign:
        notes.append(f"rows of {gold} that are no question of the run: {foreign:,}")
    others = len(problems) - len(given)
    if others:
        notes.append(f"questions that are not reported and keep the answer of {experiment.data.name}: {others:,}")
    answers = {name: replace(problem, answer=given.get(name, problem.answer)) for name, problem in problems.items()}
    return Questions(answers, golds, notes)


def gold_answers(path: Path, problems: Mapping[str, Problem]) -> tuple[dict[str, str], int]:
    """The answers of a file by the ids of problems, and how many of its rows are of none of them.

    A row belongs to the problem whose id it has in one of the columns `IDS`, else to the one whose question it has.

    Raises:
        UserError: The file cannot be read, or says two things of one question.
    """
    require(path.is_file(), f"{GOLD}={path}: no such file; name a file of questions with their answers")
    rows = [row for part in file_rows(path).values() for row in part]
    column = guess(rows, QUESTIONS, "question")
    answer = guess(rows, ANSWERS, "answer") or guess(rows, SOLUTIONS, "solution")
    if answer is None:
        there = dict.fromkeys(str(name) for row in rows for name in row.values)
        raise UserError(
            f"{GOLD}={path}: no column has a name that is known for the answer (there: {plain_list(list(there))}); "
            "call it answer"
        )
    by_question = {normalised(problem.question): name for name, problem in problems.items()}
    columns = Columns(column or "", answer, None, ())
    found: dict[str, str] = {}
    foreign = 0
    for row in rows:
        question = None if column is None or row.find(column) is None else normalised(question_of(row, column))
        name = identity(row, problems) or by_question.get(question or "")
        if name is None:
            foreign += 1
            continue
        if question is not None and question != normalised(problems[name].question):
            raise UserError(f"{row.place}: its id is {name}, but its question is another than that of the run")
        _, stated = answer_of(row, columns)
        if found.setdefault(name, stated) != stated:
            raise UserError(f"{row.place}: the answer to {name} is {stated!r} here and {found[name]!r} in another row")
    return found, foreign


def identity(row: Row, problems: Mapping[str, Problem]) -> str | None:
    """The id of the problem that a row names; None where it names none."""
    named = [str(row.find(column)) for column in IDS]
    return next((name for name in named if name in problems), None)


def completing(experiment: ExperimentConfig, rule: Rule) -> Complete | None:
    """What adds the steps to rollouts; None where no metric of the user's own may read them."""
    if not rule.metrics:
        return None
    from rlreason.models.loading import load_tokenizer
    from rlreason.models.resolve import resolve

    splitter = StepSplitter(load_tokenizer(resolve(experiment.model).folder), EXTRACTIONS[rule.extraction])

    def complete(found: Sequence[Rollout]) -> list[Rollout]:
        return [replace(item, steps=splitter.split(item.completion_ids, item.text)) for item in found]

    return complete


def digest_of(wanted: RescoreConfig, rule: Rule, questions: Questions) -> str:
    """A digest of everything that decides the numbers, for the name of the folder."""
    golds = {name: problem.answer for name, problem in questions.problems.items()}
    deciding = {**asdict(wanted), "extraction": [rule.extraction, rule.second_extraction], "golds": golds}
    for elsewhere in ("run", "gold", "examples"):
        del deciding[elsewhere]
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def write(found: Rescored, run: StoredRun, wanted: RescoreConfig, to: Path) -> None:
    """Write what was found into a folder of its own, in the forms that a run has."""
    (to / "evaluations").mkdir(parents=True, exist_ok=True)
    for name, (answers, samples, values) in found.measured.items():
        store_evaluation(to, name, answers, samples, values)
    columns = {item.name: [getattr(flip, item.name) for flip in found.flips] for item in fields(Flip)}
    write_evaluation(to / FLIPS, columns)
    report = {
        "run": run.folder.name,
        "rule": {key: value for key, value in asdict(wanted).items() if key not in ("name", "run", "examples")},
        "unlike": unlike(found, run),
        "evaluations": found.evaluations,
        **found.compared,
        "validation": {name: {"run": then, "rescored": now} for name, (then, now) in found.validation.items()},
        "selected": None if found.selected is None else dict(zip(("run", "rescored"), found.selected, strict=True)),
        "flips": [
            {"stage": stage, "completions": count, **flip_counts([item for item in found.flips if item.stage == stage])}
            for stage, count in found.counts.items()
        ],
    }
    write_atomically(to / REPORT, json.dumps(report, indent=2) + "\n")


def flip_counts(flips: Sequence[Flip]) -> dict[str, int]:
    """How many verdicts changed in which direction, and how many completions only have another answer."""
    verdicts = Counter((item.right_then, item.right_now) for item in flips)
    return {
        "right_to_wrong": verdicts[True, False],
        "wrong_to_right": verdicts[False, True],
        "other_answer": verdicts[True, True] + verdicts[False, False],
    }


def unlike(found: Rescored, run: StoredRun) -> list[str]:
    """What is not that of the run, to the last bit: the metrics of checkpoints, files of questions, comparisons."""
    names = []
    for then, now in zip(run.result["evaluations"], found.evaluations, strict=True):
        if not same(then["metrics"], now["metrics"]):
            names.append(f"metrics of {now['stage']}")
    for name, (_, _, values) in found.measured.items():
        if not same_table(run.folder / "evaluations" / f"{name}.parquet", values):
            names.append(f"questions of {name}")
    names += [key for key, value in found.compared.items() if not same(run.result[key], value)]
    if any(then != now for then, now in found.validation.values()):
        names.append("validation")
    return names


def same_table(path: Path, values: Mapping[str, Any]) -> bool:
    """Whether a file of an evaluation has the same value of every metric for every question."""
    import numpy as np

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return False
    if not set(values) <= set(table.column_names):
        return False
    return all(np.array_equal(table[name].to_numpy(), array, equal_nan=True) for name, array in values.items())


def show(found: Rescored, run: StoredRun, examples: int, display: Display) -> None:
    """The metrics of the first and the last checkpoint, those on the way, and what flipped."""
    from rich.table import Table

    then = {record["stage"]: record["metrics"] for record in run.result["evaluations"]}
    now = {record["stage"]: record["metrics"] for record in found.evaluations}
    first, last = next(iter(now)), next(reversed(now))
    ends = [first] if first == last else [first, last]
    table = Table()
    table.add_column("metric", no_wrap=True)
    for stage in ends:
        table.add_column(f"{stage}: run", justify="right")
        table.add_column("rescored", justify="right")
    table.add_column("questions up, down", justify="right")
    table.add_column(
        "difference, rescored" if len(ends) == 2 else "95 % interval, rescored", justify="right", no_wrap=True
    )
    shown = found.compared.get("differences", {}) if len(ends) == 2 else now[last]
    for metric in dict.fromkeys([*now[last], *then[last]]):
        sources = [source for stage in ends for source in (then[stage], now[stage])]
        values = [f"{source[metric]['value']:.3f}" if metric in source else "-" for source in sources]
        spread = interval_text(shown[metric], signed=len(ends) == 2) if metric in shown else "-"
        table.add_row(metric, *values, moved_questions(found, run, last, metric), spread)
    display.console.print(table)
    for stage in now:
        if stage not in ends:
            display.line(f"{stage}: {in_words(then[stage], now[stage])}")
    if found.selected is not None and found.selected[0] != found.selected[1]:
        before, after = found.selected
        display.line(f"validation questions would select {after} now, and not {before}; `final` is still the run's")
    if not found.flips:
        return
    counts = Table("stage")
    for heading in ("completions", "right to wrong", "wrong to right", "other answer, same verdict"):
        counts.add_column(heading, justify="right")
    for stage, completions in found.counts.items():
        flips = [item for item in found.flips if item.stage == stage]
        if flips:
            counts.add_row(stage, f"{completions:,}", *(f"{count:,}" for count in flip_counts(flips).values()))
    display.console.print(counts)
    show_examples(found.flips, examples, display)


def moved_questions(found: Rescored, run: StoredRun, stage: str, metric: str) -> str:
    """For how many questions a metric of a checkpoint is higher, and lower, than the run has it."""
    name = evaluation(run.split, stage)
    there, here = stored_values(run, name, metric), found.measured[name][2].get(metric)
    if there is None or here is None or len(there) != len(here):
        return "-"
    return f"{int((here > there).sum()):,}, {int((here < there).sum()):,}"


def stored_values(run: StoredRun, name: str, metric: str) -> Any:
    """A metric of every question as the run has stored it; None where it has not."""
    try:
        return pq.read_table(run.folder / "evaluations" / f"{name}.parquet", columns=[metric])[metric].to_numpy()
    except (OSError, KeyError, pa.ArrowException):
        return None


def in_words(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The metrics that changed, and maj@1 in any case."""
    kept = [name for name in now if name == "maj@1" or (name in then and then[name]["value"] != now[name]["value"])]
    return ", ".join(
        f"{name} {then[name]['value']:.3f} -> {now[name]['value']:.3f}"
        if name in then
        else f"{name} {now[name]['value']:.3f}"
        for name in kept
    )


def show_examples(flips: Sequence[Flip], most: int, display: Display) -> None:
    """The first completions of every stage whose verdict changed, by turns of the direction."""
    from rich.table import Table
    from rich.text import Text

    lost = [item for item in flips if item.right_then and not item.right_now]
    won = [item for item in flips if item.right_now and not item.right_then]
    half = max(most - len(won), most // 2)
    chosen = [*lost[:half], *won[: most - len(lost[:half])]]
    if not chosen:
        return
    table = Table()
    for heading in ("question", "drawn by", "answer: run", "now", "gold: run", "now", "verdict", "why"):
        table.add_column(heading, overflow="fold")
    for item in chosen:
        verdict = "right to wrong" if item.right_then else "wrong to right"
        golds = ("unknown" if item.gold_then is None else item.gold_then, item.gold_now)
        cells = [item.problem_id, f"{item.stage}, {item.sample}", item.answer_then, item.answer_now, *golds]
        table.add_row(*(Text(plain(cell)) for cell in (*cells, verdict, item.why)))
    display.console.print(table)
    left = len(lost) + len(won) - len(chosen)
    if left:
        display.line(f"{left:,} more in {FLIPS}")


def plain(text: str | None) -> str:
    """An answer as it can be shown: in one line, not too long, without characters that a terminal obeys."""
    if text is None:
        return "(none)"
    words = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in in_one_line(text)
    )
    return words if len(words) <= LONGEST_SHOWN else f"{words[: LONGEST_SHOWN - 3]}..."


def ending(found: Rescored, run: StoredRun) -> str:
    """What came out, in words."""
    different = unlike(found, run)
    counts = flip_counts(found.flips)
    if not different and not found.flips:
        return (
            f"scored again: {sum(found.counts.values()):,} completions, every metric equal to the run's to the last bit"
        )
    lost, won = counts["right_to_wrong"], counts["wrong_to_right"]
    changed = f"{lost:,} verdicts from right to wrong, {won:,} from wrong to right"
    reported = f"other than the run's: {plain_list(different)}" if different else "what the run reports is equal"
    return f"scored again: {changed} of {sum(found.counts.values()):,} completions; {reported}"

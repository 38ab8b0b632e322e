"""The evaluations of a finished run again from its stored texts, by a rule that may be another one.

Nothing is sampled and no weights are read. By the run's own rule every number is that of the run, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlreason.algorithms.selection import chosen
from rlreason.answers.equality import verdicts, votes_of_problems
from rlreason.answers.extraction import EXTRACTIONS
from rlreason.errors import UserError
from rlreason.evaluation.evaluate import PerProblem, Votes, intervals, measure
from rlreason.lab.measuring import Evaluations, clusters_of, compared_ends
from rlreason.own import imported
from rlreason.run import store
from rlreason.run.stage import (
    CONTROL,
    ELSEWHERE,
    FINAL,
    INIT,
    LAST,
    SECOND_PROMPT,
    evaluation,
    greedy,
    sampled,
    scores,
    selection,
)
from rlreason.types import Problem, Rollout

# Takes the rollouts of a stage as they were stored and gives them with their steps, which metrics of the user's own may
# read.
Complete = Callable[[Sequence[Rollout]], list[Rollout]]


@dataclass(frozen=True)
class Rule:
    """By what a run is scored.

    Args:
        extraction: How answers are found, one of `EXTRACTIONS`.
        second_extraction: The same of what was written under `eval.second_prompt`.
        votes: Which answers vote alike.
        k: K of maj@K at most; None: all samples that are stored.
        rank_by: How step scores become one, see `rank_score`.
        resamples: Of each interval.
        metrics: Paths of the user's own metrics.
    """

    extraction: str
    second_extraction: str
    votes: Votes
    k: int | None
    rank_by: str
    resamples: int
    metrics: Sequence[str]


@dataclass(frozen=True)
class StoredRun:
    """What a finished run has left, as far as it is scored.

    Args:
        folder: The run's.
        result: Its `result.json`.
        journal: Its records by stage.
        split: Of its reported questions.
        problems: All questions that it may have asked, by id, with the gold answers that count now.
        golds: The gold answers that counted then, by id; one that nobody knows any more is not there.
    """

    folder: Path
    result: Mapping[str, Any]
    journal: Mapping[str, Mapping[str, Any]]
    split: str
    problems: Mapping[str, Problem]
    golds: Mapping[str, str]


@dataclass(frozen=True)
class Flip:
    """A completion on which the run and the rule disagree.

    Args:
        stage: That drew it.
        problem_id: Its question.
        sample: Its number among those of the question in the stage.
        answer_then: The answer that the run found; None for none.
        answer_now: The one that the rule finds.
        gold_then: The gold answer of the run; None where nobody knows it any more.
        gold_now: The one that counts now.
        right_then: The run's verdict.
        right_now: The rule's.
        why: What makes the difference, in words.
    """

    stage: str
    problem_id: str
    sample: int
    answer_then: str | None
    answer_now: str | None
    gold_then: str | None
    gold_now: str
    right_then: bool
    right_now: bool
    why: str


@dataclass(frozen=True)
class Rescored:
    """A run by a rule.

    Args:
        evaluations: The records of `result.json`, with the metrics that the rule gives.
        measured: By the name of an evaluation, its greedy rollouts, its samples, and every metric of every question.
        compared: Of the other results of `result.json` those that are made of verdicts.
        validation: Of each candidate the greedy accuracy on the validation questions, then and now.
        selected: Which candidate they select, then and now; None where there is no choice.
        flips: All completions of the run with another answer or another verdict.
        counts: Completions of every stage that were graded.
    """

    evaluations: Sequence[Mapping[str, Any]]
    measured: Mapping[str, tuple[Sequence[Rollout], Sequence[Rollout], PerProblem]]
    compared: Mapping[str, Any]
    validation: Mapping[str, tuple[float, float]]
    selected: tuple[str, str] | None
    flips: Sequence[Flip]
    counts: Mapping[str, int]


def text_votes(samples: Sequence[tuple[Sequence[str | None], Sequence[bool]]]) -> list[list[str | None]]:
    """Votes for answers as they are spelt: "18" and "18.0" are two."""
    return [list(answers) for answers, _ in samples]


VOTES: dict[str, Votes] = {"equal": votes_of_problems, "text": text_votes}


def rescored(run: StoredRun, rule: Rule, complete: Complete | None = None) -> Rescored:
    """Score a run.

    Args:
        run: The run.
        rule: By what.
        complete: Adds tokens and steps, where metrics of the user's own may ask for them.

    Raises:
        OSError: A file of rollouts is missing or cut.
        KeyError: One answers another question, or lacks a column.
        UserError: There are fewer samples than the rule asks for.
        ValueError: A file lacks scores or text.
    """
    grader = Grader(run, rule, complete)
    evaluations = Evaluations()
    records: list[dict[str, Any]] = []
    measured: dict[str, tuple[Sequence[Rollout], Sequence[Rollout], PerProblem]] = {}
    for record in run.result["evaluations"]:
        checkpoint = record["stage"]
        answers = grader.rollouts(greedy(run.split, checkpoint).name)
        drawn = sampled(run.split, checkpoint)
        samples = grader.rollouts(drawn.name) if drawn.name in run.journal else []
        ranks = None
        if scores(drawn).name in run.journal:
            ranks = store.read_scores(run.folder / "rollouts" / f"{scores(drawn).name}.parquet")
            if len(ranks) != len(samples):
                raise ValueError(f"there are {len(ranks):,} scores of the {len(samples):,} samples of {drawn.name}")
        stored = len(samples) // len(answers)
        if rule.k is not None and not records and rule.k > stored:
            raise UserError(
                f"task.k={rule.k} is more than the {stored} samples a question that {run.folder} has stored"
            )
        k = stored if rule.k is None else min(rule.k, stored)
        if checkpoint == INIT:
            evaluations.at_start = samples
        earlier = () if checkpoint == INIT else evaluations.at_start
        further = [imported("eval.metrics", path).value for path in rule.metrics]
        values = measure(answers, samples, k, ranks, rule.rank_by, earlier, further, rule.votes)
        evaluations.per_problem[checkpoint], evaluations.clusters = values, clusters_of(answers)
        measured[evaluation(run.split, checkpoint)] = (answers, samples, values)
        found = intervals(values, rule.resamples, evaluations.clusters)
        records.append({**record, "metrics": {metric: item.to_dict() for metric, item in found.items()}})
    compared = _compared(run, rule, grader, evaluations, measured)
    validation = _validation(run, grader)
    for stage, record in run.journal.items():
        if "rollouts" in record:
            grader.count(stage)
    return Rescored(
        records,
        measured,
        compared,
        {name: (then, now) for name, (then, now, _) in validation.items()},
        _selected(validation),
        grader.flips,
        grader.counts,
    )


def reason(
    answers: tuple[str | None, str | None], golds: tuple[str | None, str], is_unread: bool, was_unread: bool
) -> str:
    """Why a rule judges a completion otherwise than the run did.

    Args:
        answers: What was found in it, then and now.
        golds: The gold answer, then (None: nobody knows) and now.
        is_unread: Whether its answer cannot be valued.
        was_unread: Whether it could not be then.
    """
    then, now = answers
    found = []
    if then != now:
        found.append(
            "an answer is found" if then is None else "no answer is found" if now is None else "another answer"
        )
    if golds[0] != golds[1]:
        found.append("another gold answer")
    if is_unread != was_unread:
        found.append("it cannot be valued" if is_unread else "it can be valued")
    return ", ".join(found) or "graded otherwise by this version"


class Grader:
    """The rollouts of a run, each stage graded once, and what has changed about them.

    Args:
        run: The run.
        rule: By what.
        complete: As for `rescored`.
    """

    def __init__(self, run: StoredRun, rule: Rule, complete: Complete | None) -> None:
        self._run = run
        self._rule = rule
        self._complete = complete
        self._second = [greedy(SECOND_PROMPT, checkpoint).name for checkpoint in (INIT, FINAL)]
        self._graded: dict[str, list[Rollout]] = {}
        self.flips: list[Flip] = []
        self.counts: dict[str, int] = {}
        self.right_then: dict[str, int] = {}

    def rollouts(self, stage: str) -> list[Rollout]:
        """The graded rollouts of a stage, in the order in which they were sealed."""
        if stage not in self._graded:
            self._graded[stage] = self._grade(stage)
        return self._graded[stage]

    def count(self, stage: str) -> None:
        """Grade the rollouts of a stage only to see what has changed."""
        if stage not in self._graded:
            self._grade(stage)

    def _grade(self, stage: str) -> list[Rollout]:
        folder = self._run.folder / "rollouts"
        if self._complete is None:
            found = store.read_texts(folder, stage, self._run.problems)
        else:
            found = self._complete(store.read_sealed(folder, stage, self._run.problems))
        if not found or not all(isinstance(item.text, str) for item in found):
            raise ValueError(f"{stage} has no text")
        if not any(item.text for item in found) and store.longest_completion(folder, stage) > 1:
            raise ValueError(f"{stage} has no text")
        self.right_then[stage] = sum(item.correct for item in found)
        rule = self._rule
        extraction = EXTRACTIONS[rule.second_extraction if stage in self._second else rule.extraction]
        judged = verdicts([item.text for item in found], [item.problem.answer for item in found], extraction.answer)
        graded = [
            replace(item, answer=verdict.answer, correct=verdict.correct, is_unread=verdict.is_unread)
            for item, verdict in zip(found, judged, strict=True)
        ]
        if "same_as" not in self._run.journal[stage]:  # those of another stage, which has counted them
            self.counts[stage] = len(found)
            self.flips += self._flips(stage, found, graded)
        return graded

    def _flips(self, stage: str, found: Sequence[Rollout], graded: Sequence[Rollout]) -> list[Flip]:
        flips = []
        for then, now in zip(found, graded, strict=True):
            if (then.answer, then.correct) == (now.answer, now.correct):
                continue
            asked = now.problem
            gold = self._run.golds.get(asked.id)
            why = reason((then.answer, now.answer), (gold, asked.answer), now.is_unread, then.is_unread)
            flips.append(
                Flip(
                    stage,
                    asked.id,
                    now.sample,
                    then.answer,
                    now.answer,
                    gold,
                    asked.answer,
                    then.correct,
                    now.correct,
                    why,
                )
            )
        return flips


def _compared(
    run: StoredRun,
    rule: Rule,
    grader: Grader,
    evaluations: Evaluations,
    measured: dict[str, tuple[Sequence[Rollout], Sequence[Rollout], PerProblem]],
) -> dict[str, Any]:
    """What the result of a run says besides its evaluations, as far as that is made of verdicts; kept in `measured`."""
    found: dict[str, Any] = {}
    if "differences" in run.result:
        found["differences"] = evaluations.change(INIT, FINAL, rule.resamples)
    if "gain" in run.result:
        found["gain"] = evaluations.split(INIT, FINAL)
    if "good_minus_bad" in run.result:
        good = LAST if LAST in evaluations.per_problem else FINAL
        found["good_minus_bad"] = evaluations.change(CONTROL, good, rule.resamples)
    for key, split in (("out_of_distribution", ELSEWHERE), ("second_prompt", SECOND_PROMPT)):
        if key not in run.result:
            continue
        ends = {}
        clusters = None
        for checkpoint in (INIT, FINAL):
            answers = grader.rollouts(greedy(split, checkpoint).name)
            ends[checkpoint], clusters = measure(answers, (), 0), clusters_of(answers)
            measured[evaluation(split, checkpoint)] = (answers, (), ends[checkpoint])
        named = {"prompt": run.result[key]["prompt"]} if key == "second_prompt" else {}
        found[key] = {**named, **compared_ends(ends, rule.resamples, clusters)}
    return found


def _validation(run: StoredRun, grader: Grader) -> dict[str, tuple[float, float, int]]:
    """Of each candidate the accuracy on the validation questions, then and now, and how many there are."""
    found = {}
    for record in run.result["evaluations"]:
        stage = selection(record["stage"], 0).name
        if stage in run.journal:
            judged = grader.rollouts(stage)
            now = sum(item.correct for item in judged)
            found[record["stage"]] = (grader.right_then[stage] / len(judged), now / len(judged), len(judged))
    return found


def _selected(validation: Mapping[str, tuple[float, float, int]]) -> tuple[str, str] | None:
    if len(validation) < 2:
        return None
    questions = next(iter(validation.values()))[2]
    then, now = (
        chosen({Path(name): values[place] for name, values in validation.items()}, questions) for place in (0, 1)
    )
    return str(then), str(now)


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal to the last bit, where what is no number equals itself."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)

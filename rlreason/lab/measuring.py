"""Evaluations of a run: every metric of a checkpoint on the reported questions, and what a study groups by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rlreason.evaluation.evaluate import PerProblem, differences, intervals, measure
from rlreason.evaluation.gains import split_gain
from rlreason.evaluation.metrics import ANSWERED
from rlreason.evaluation.statistics import Clusters, Interval
from rlreason.lab.context import Context
from rlreason.lab.sampling import taken_rollouts
from rlreason.lab.scoring import step_scores
from rlreason.lab.shared import evaluation_rollouts
from rlreason.own import imported
from rlreason.run.stage import (
    FINAL,
    INIT,
    SECOND_PROMPT,
    Stage,
    checkpoint_of_round,
    evaluation,
    greedy,
    log_of,
    measurement,
    sampled,
    scores,
    selection,
)
from rlreason.run.store import write_evaluation
from rlreason.types import Problem, Rollout

FAR = 0.05  # between two prompts; from here on training under the worse may gain no more than the better one gives
MANY = 0.1  # of all completions; from here on a share without verdicts says more of the prompt than of the model


@dataclass
class Evaluations:
    """What has been measured so far in this process.

    Args:
        records: One for every evaluated checkpoint, as in `result.json`.
        per_problem: Every metric of every problem, by checkpoint.
        at_start: Samples of the starting policy, to see what is new later.
        clusters: The cluster of each problem.
        drawn: The stage that drew each set of rollouts, by everything that decides them but random numbers.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    per_problem: dict[str, PerProblem] = field(default_factory=dict)
    at_start: Sequence[Rollout] = ()
    clusters: Clusters | None = None
    drawn: dict[tuple[object, ...], Stage] = field(default_factory=dict)

    def rollouts(
        self,
        context: Context,
        stage: Stage,
        policy: Path,
        problems: Sequence[Problem],
        samples: int,
        temperature: float,
        ask_for_bad: bool = False,
    ) -> list[Rollout]:
        """The rollouts of an evaluation; those that an earlier stage of the run has drawn already are taken from there.

        Arguments as for `evaluation_rollouts`.
        """
        asked = tuple(problem.id for problem in problems)
        key = (policy, asked, repr(context.asked_with), samples, temperature, ask_for_bad)
        earlier = self.drawn.setdefault(key, stage)
        if earlier == stage:
            return evaluation_rollouts(context, stage, policy, problems, samples, temperature, ask_for_bad)
        return taken_rollouts(context, stage, earlier, policy, problems, temperature)

    def change(self, before: str, after: str, resamples: int) -> dict[str, Any]:
        """The paired difference of every metric between two checkpoints, each as an interval."""
        found = differences(self.per_problem[before], self.per_problem[after], resamples, self.clusters)
        return {name: interval.to_dict() for name, interval in found.items()}

    def split(self, before: str, after: str) -> dict[str, Any] | None:
        """The parts of the change of maj@1 between two checkpoints, each as an interval; None where it is not split."""
        ends = [self.per_problem[checkpoint] for checkpoint in (before, after)]
        found, right = ((ends[0][metric][None], ends[1][metric][None]) for metric in (ANSWERED, "maj@1"))
        made = split_gain(found, right, self.clusters)
        if made is None:
            return None
        parts = {"answers_found": made.by_found, "answers_right": made.by_right}
        return {name: {end: getattr(part, end) for end in ("value", "low", "high")} for name, part in parts.items()}


def selection_accuracy(context: Context, evaluations: Evaluations, number: int, policy: Path) -> float:
    """Greedy accuracy (maj@1) of a checkpoint on the validation questions."""
    stage = selection(checkpoint_of_round(number), number)
    found = evaluations.rollouts(context, stage, policy, context.splits.validation, 1, 0.0)
    return sum(item.correct for item in found) / len(found)


def measured(
    context: Context,
    evaluations: Evaluations,
    checkpoint: str,
    number: int,
    policy: Path,
    samples_seen: int,
    k: int,
    facts: Mapping[str, float] | None = None,
    ask_for_bad: bool = False,
) -> dict[str, Interval]:
    """Every metric of a checkpoint on the reported questions, with its interval; kept as an evaluation.

    Args:
        context: The run's context.
        evaluations: Receives it.
        checkpoint: Its name, such as "init", "round-1" or "final".
        number: Of its round; 0 for the start.
        policy: Its folder.
        samples_seen: Rollouts that were learned from until then.
        k: Samples per question; 0: greedy only.
        facts: Further numbers for the log.
        ask_for_bad: Ask a return-conditioned policy for bad solutions instead.
    """
    settings, problems = context.config.eval, context.splits.measured
    draw = partial(evaluations.rollouts, context, ask_for_bad=ask_for_bad)
    answers = draw(greedy(settings.split, checkpoint, number), policy, problems, 1, 0.0)
    samples: list[Rollout] = []
    ranks: list[tuple[float, ...]] | None = None
    if k > 0:
        stage = sampled(settings.split, checkpoint, number)
        samples = draw(stage, policy, problems, k, settings.temperature)
        if context.reranker is not None:
            ranks = step_scores(context, scores(stage), context.reranker, samples, "evaluate")
    if checkpoint == INIT:
        evaluations.at_start = samples
    earlier = () if checkpoint == INIT else evaluations.at_start
    further = [imported("eval.metrics", path).value for path in settings.metrics]
    values = measure(answers, samples, k, ranks, settings.rerank, earlier, further)
    evaluations.per_problem[checkpoint] = values
    evaluations.clusters = clusters_of(answers)
    store_evaluation(context.run.folder, evaluation(settings.split, checkpoint), answers, samples, values)
    metrics = intervals(values, settings.resamples, evaluations.clusters)
    as_dicts = {metric: interval.to_dict() for metric, interval in metrics.items()}
    on_the_way = checkpoint == checkpoint_of_round(number)
    record = {"stage": checkpoint, "on_the_way": on_the_way, "samples_seen": samples_seen, "metrics": as_dicts}
    evaluations.records.append(record)
    named = {f"{settings.split}/{metric}": interval.value for metric, interval in metrics.items()}
    log(context, measurement(checkpoint), {**named, **(facts or {})}, samples_seen)
    context.tracker.rollouts(checkpoint, example_rows(context, answers))
    shown = ", ".join(f"{metric} {item.value:.3f}" for metric, item in metrics.items())
    context.display.line(f"{checkpoint}: {shown}")
    for warning in warnings([*answers, *samples], context.config.data.max_completion_tokens):
        context.display.line(f"{checkpoint}: {warning}")
    if checkpoint == INIT and context.config.eval.second is not None:
        context.display.line(compared_start(context, policy, metrics["maj@1"].value))
    return metrics


def compared_start(context: Context, policy: Path, accuracy: float) -> str:
    """The greedy accuracy of the start under `eval.second_prompt` beside that under the prompt of the run, in a line.

    It is a warning where they differ by more than `FAR`. The answers are kept for the end of the run.
    """
    other = context.under_second_prompt()
    answers = evaluation_rollouts(other, greedy(SECOND_PROMPT, INIT), policy, other.splits.measured, 1, 0.0)
    there = sum(item.correct for item in answers) / max(1, len(answers))
    here, second = context.asked_with.name, other.asked_with.name
    found = f"{INIT}: maj@1 {there:.3f} under eval.second_prompt={second}, {accuracy:.3f} under prompt={here}"
    if abs(there - accuracy) <= FAR:
        return found
    better = f"train with prompt={second}" if there > accuracy else f"prompt={here} is the better one"
    return f"{found}: they differ by more than {FAR:.2f}, so a gain may be one of form; {better}"


def warnings(drawn: Sequence[Rollout], limit: int) -> list[str]:
    """A line for each reason why more than a tenth of graded completions have no verdict on their answer.

    Args:
        drawn: The completions.
        limit: Tokens of the longest completion.
    """
    without = [item for item in drawn if item.answer is None]
    cut = sum(item.finish_reason == "length" for item in without)
    unread = sum(item.is_unread for item in drawn)
    form = "choose a prompt whose form of the answer the model knows (rlreason --help prompt)"
    kinds = (
        (cut, f"were cut before they stated an answer: raise data.max_completion_tokens={limit}"),
        (len(without) - cut, f"ended without stating an answer: {form}"),
        (unread, f"state an answer that is no number or cannot be read: {form}"),
    )
    return [
        f"{count / len(drawn):.0%} of {len(drawn):,} completions {kind}"
        for count, kind in kinds
        if count > MANY * len(drawn)
    ]


def clusters_of(answers: Sequence[Rollout]) -> Clusters | None:
    """The cluster of each problem that was answered; None where each problem stands alone."""
    clusters = [item.problem.cluster for item in answers]
    return clusters if any(name is not None for name in clusters) else None


def store_evaluation(
    folder: Path, name: str, answers: Sequence[Rollout], samples: Sequence[Rollout], values: PerProblem
) -> None:
    """Keep what was measured on every problem, with what a study groups by.

    Args:
        folder: Of the run.
        name: The evaluation's name.
        answers: One greedy rollout of each problem.
        samples: Further rollouts, or none.
        values: Every metric of every problem, in the order of `answers`.
    """
    ids = [item.problem.id for item in answers]
    drawn = Counter(item.problem.id for item in samples)
    right = Counter(item.problem.id for item in samples if item.correct)
    facts: dict[str, Sequence[Any]] = {
        "problem_id": ids,
        "reference_steps": [len(item.problem.steps) for item in answers],
        "samples": [drawn[problem] for problem in ids],
        "right": [right[problem] for problem in ids],
    }
    clusters = clusters_of(answers)
    if clusters is not None:
        facts["cluster"] = clusters
    write_evaluation(folder / "evaluations" / f"{name}.parquet", {**facts, **values})


def first_and_last(
    context: Context, evaluations: Evaluations, split: str, problems: Sequence[Problem], first: Path, last: Path
) -> dict[str, dict[str, Any]]:
    """Greedy accuracy of the first and the last policy besides the evaluations of a run.

    Args:
        context: The run's context.
        evaluations: What has been measured.
        split: Names it in the place of a split.
        problems: What is asked.
        first: The policy that training starts from.
        last: The selected one.

    Returns:
        `before`, `after` and their paired `difference`, each as an interval.
    """
    found = {}
    clusters: Clusters | None = None
    for checkpoint, policy in ((INIT, first), (FINAL, last)):
        answers = evaluations.rollouts(context, greedy(split, checkpoint), policy, problems, 1, 0.0)
        found[checkpoint] = measure(answers, (), 0)
        clusters = clusters_of(answers)
        store_evaluation(context.run.folder, evaluation(split, checkpoint), answers, (), found[checkpoint])
    return compared_ends(found, context.config.eval.resamples, clusters)


def compared_ends(
    found: Mapping[str, PerProblem], resamples: int, clusters: Clusters | None
) -> dict[str, dict[str, Any]]:
    """Greedy accuracy of the first and the last policy, `before` and `after`, and the paired `difference`.

    Args:
        found: Every metric of every problem, by checkpoint.
        resamples: Of each interval.
        clusters: The cluster of each problem.
    """
    return {
        "before": intervals(found[INIT], resamples, clusters)["maj@1"].to_dict(),
        "after": intervals(found[FINAL], resamples, clusters)["maj@1"].to_dict(),
        "difference": differences(found[INIT], found[FINAL], resamples, clusters)["maj@1"].to_dict(),
    }


def under_second_prompt(context: Context, evaluations: Evaluations, first: Path, last: Path) -> dict[str, Any]:
    """Greedy accuracy of the first and the last policy on the reported questions under `eval.second_prompt`.

    Returns:
        The prompt's name, then as `first_and_last` does.
    """
    other = context.under_second_prompt()
    problems = other.splits.measured
    return {"prompt": other.asked_with.name, **first_and_last(other, evaluations, SECOND_PROMPT, problems, first, last)}


def log(context: Context, what: str, metrics: Mapping[str, float], samples_seen: int, **facts: Any) -> None:
    """Write metrics once; a resumed run does not repeat the lines of what it had finished.

    Args:
        context: The run's context.
        what: They are of.
        metrics: By name.
        samples_seen: Rollouts that were learned from until then.
        facts: For the journal.
    """

    def make() -> tuple[None, dict[str, Any]]:
        context.run.log_metrics({"stage": what, "samples_seen": samples_seen, **metrics})
        context.tracker.log(dict(metrics), samples_seen)
        return None, facts

    context.run.once(log_of(what), make, lambda: None)


def example_rows(context: Context, rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    """The first few rollouts as a tracker shows them."""
    return [
        {
            "problem_id": item.problem.id,
            "prompt": context.prompts[item.problem.id].text,
            "completion": item.text,
            "answer": item.answer,
            "correct": item.correct,
            "reward": item.total_reward,
        }
        for item in rollouts[: context.config.tracker.rollouts]
    ]

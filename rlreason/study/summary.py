"""What a study says, in sentences made from the numbers of its tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.inits import INITS
from rlreason.evaluation.power import LEAST_SEEDS, smallest_seen
from rlreason.run.stage import INIT
from rlreason.study.arms import Arm, Comparison
from rlreason.study.figures.style import short_count, short_label
from rlreason.study.folders import Study
from rlreason.study.tables import Lookup, number

SIGNIFICANT = 0.05


def summary(study: Study, comparisons: Sequence[Comparison], table: pd.DataFrame) -> list[str]:
    """Sentences: what was compared, which arm is best for every model, what it cost."""
    arms = [arm for comparison in comparisons for arm in comparison.arms]
    algorithms = [row.title for name, row in ALGORITHMS.items() if any(arm.algo == name for arm in arms)]
    runs = sum(len(arm.runs) for arm in arms)
    sentences = [
        f"{_many(runs, 'finished run')} in {_many(len(arms), 'arm')} compare {_listed(algorithms)} on "
        f"{_listed(list(dict.fromkeys(item.title.partition(',')[0] for item in comparisons)))}."
    ]
    if arms:
        sentences.append(_tuning(arms))
    for comparison in comparisons:
        find = Lookup(table, comparison.title)
        prefix = f"{comparison.title}: " if len(comparisons) > 1 else ""
        sentences += [
            prefix + sentence
            for model in comparison.models
            for sentence in (_best(comparison, model, find), _seen(comparison, model))
            if sentence is not None
        ]
    samples = sum(run.samples_drawn for arm in arms for run in arm.runs)
    hours = sum(run.result["seconds"]["total"] for arm in arms for run in arm.runs) / 3600
    sentences.append(
        f"The runs learned from {short_count(samples)} training rollouts and took {hours:,.1f} hours in all."
    )
    if study.missing:
        sentences.append(
            f"{_many(len(study.missing), 'run')} of the study {_are(len(study.missing))} not finished yet."
        )
    return sentences


def _tuning(arms: Sequence[Arm]) -> str:
    """Which settings were searched, and whether those of all algorithms alike."""
    titles: dict[str | None, list[str]] = {}
    for arm in arms:
        for label in {run.settings.get("tuned") for run in arm.runs}:
            titles.setdefault(label, []).append(ALGORITHMS[arm.algo].title)
    by_label = {label: list(dict.fromkeys(found)) for label, found in titles.items()}
    untuned = by_label.pop(None, [])
    if not by_label:
        return "No settings were tuned: all are as configured."
    tuned = "; ".join(f"those of {_listed(found)} by the search tuned={label}" for label, found in by_label.items())
    if len(by_label) == 1 and not untuned:
        return f"Settings were chosen alike: {tuned}."
    others = f"; those of {_listed(untuned)} are as configured" if untuned else ""
    return f"Tuned and untuned settings are mixed, so that arms differ in more than their algorithm: {tuned}{others}."


def _best(comparison: Comparison, model: str, find: Lookup) -> str | None:
    arms = comparison.find(model=model)
    records = {arm: record for arm in arms if (record := find(arm, "maj@1")) is not None}
    if not records:
        return None
    best = max(records, key=lambda arm: float(records[arm].value))
    record, start = records[best], find(best, "maj@1", INIT)
    interval = f"{number(record.value)} [{number(record.low)}, {number(record.high)}]"
    from_start = f", from {number(start.value)} at its start" if start is not None else ""
    if len(records) == 1:
        return f"With {model}, {_named(best)} reaches maj@1 {interval}{from_start}."
    others = [other for arm, other in records.items() if arm is not best]
    if min(record.seeds for record in records.values()) < LEAST_SEEDS:
        return (
            f"With {model}, {_named(best)} has the highest maj@1, {interval}{from_start}; "
            f"fewer than {LEAST_SEEDS} seeds of every arm do not tell arms apart."
        )
    told = sum(1 for other in others if not pd.isna(other.p_value) and other.p_value < SIGNIFICANT)
    text = f"With {model}, {_named(best)} has the highest maj@1, {interval}{from_start}; "
    if told == len(others):
        return text + (f"all {told} other arms are" if told > 1 else "the other arm is") + " significantly lower."
    rest = len(others) - told
    cannot = f"{rest} cannot be told from it"
    if told == 0:
        return text + ("none of the other arms can" if rest > 1 else "the other arm cannot") + " be told from it."
    return text + f"{told} of the {len(others)} other arms {_are(told)} significantly lower, {cannot}."


def _seen(comparison: Comparison, model: str) -> str | None:
    """The smallest difference of two arms that the study could have seen, as its own seeds and questions vary."""
    pairs = combinations(comparison.find(model=model), 2)
    found = [item for one, other in pairs if (item := one.difference(other, "maj@1")) is not None]
    if not found:
        return None
    seen = [smallest_seen(item.spread, item.seeds, max(2, item.clusters or item.problems)) for item in found]
    few = min(item.seeds for item in found) < LEAST_SEEDS
    of_questions = ", as far as questions go: of seeds it has too few" if few else ""
    least, most = number(min(seen)), number(max(seen))
    size = least if least == most else f"{least} to {most} (by the pair of arms)"
    return f"This study sees a difference of {size} between the maj@1 of two arms four times in five{of_questions}."


def _named(arm: Arm) -> str:
    return f"{short_label(arm)} {INITS[arm.init].title}"


def _many(amount: int, noun: str) -> str:
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def _are(amount: int) -> str:
    return "is" if amount == 1 else "are"


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"

"""Which differences an experiment could show, before it is run."""

from __future__ import annotations

from rlreason.config.experiment import ExperimentConfig
from rlreason.evaluation.power import ASSUMED, ASSUMED_WORDS, LEAST_SEEDS, needed_for, smallest_seen
from rlreason.planning.lengths import known_sizes

SIZES = (0.01, 0.02, 0.05)  # differences of accuracy that one may want to see
MORE_SEEDS = 5
TRIED_SEEDS = (LEAST_SEEDS, MORE_SEEDS, 10, 20, 50)


def measured_questions(config: ExperimentConfig) -> int | None:
    """How many questions a policy is measured on; None where that is not known."""
    sizes = known_sizes(config)
    if sizes is not None:
        return sizes.measured
    return config.data.validation_size if config.eval.split == "validation" else config.data.test_size


def seen_line(questions: int, seeds: int) -> str:
    """The smallest difference of two arms that so many questions and seeds of each show, in one line."""
    least = smallest_seen(ASSUMED, seeds, max(2, questions))
    words = "1 seed, which says nothing of others," if seeds == 1 else f"{seeds} seeds"
    return f"{questions:,} questions and {words} show a difference of two arms' maj@1 of {least:.3f} four times in five"


def difference_lines(config: ExperimentConfig) -> list[str]:
    """What one, three and five seeds of each arm would show, and what differences of a given size take."""
    questions = measured_questions(config)
    if questions is None:
        return ["which differences it could show is unknown: so is the number of its questions"]
    found = [seen_line(questions, seeds) for seeds in (1, LEAST_SEEDS, MORE_SEEDS)]
    return [*found, *(_needed_line(questions, size) for size in SIZES), f"assumed: {ASSUMED_WORDS}"]


def _needed_line(questions: int, size: float) -> str:
    """Seeds on these questions, and fewer seeds on more questions: the least of each that show a difference."""
    on_these = needed_for(ASSUMED, LEAST_SEEDS, questions, questions, size).seeds
    ways = [f"{on_these} seeds on these questions"] if on_these else []
    for seeds in TRIED_SEEDS:
        more = needed_for(ASSUMED, seeds, questions, questions, size).questions
        if more is not None and more > questions:
            ways.append(f"{seeds} seeds on {more:,} questions")
    return f"a difference of {size:.2f} takes {', or '.join(ways[:3]) or f'more than {TRIED_SEEDS[-1]} seeds'}"

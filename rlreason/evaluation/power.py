"""How large a study must be for a difference to be seen, from how much its values vary."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlreason.evaluation.statistics import REST_WITH_SEEDS, Estimate, Spread

POWER = 0.8
LARGEST = 100  # times as many seeds or questions; what needs more is out of reach
LEAST_SEEDS = 3  # fewer say nothing of their own spread

# Of the difference of two arms' accuracy where nothing was measured yet: the only place that says so. One arm's seeds
# had a standard deviation of 0.009 (expert iteration, tiny model, three seeds), so those of a difference have 0.013.
# Two arms answer every fifth question differently, half of that by their seeds alone.
ASSUMED = Spread(seeds=0.013**2, problems=0.1, rest=0.1)
ASSUMED_WORDS = "seeds of a difference that vary by 0.013 and two arms that answer every fifth question differently"


@dataclass(frozen=True, slots=True)
class Needed:
    """What would make a difference be seen; None where no reasonable number does.

    Args:
        seeds: As many seeds, with the questions that there are.
        questions: As many questions, with the seeds that there are, or three where there are fewer.
    """

    seeds: int | None
    questions: int | None


def smallest_seen(spread: Spread, seeds: int, problems: int, confidence: float = 0.95) -> float:
    """The smallest difference that is told from zero in four of five studies of this size.

    Half the width of the interval and, for the power, as much as a study may fall short by chance (Miller 2024, arXiv
    2411.00640, with Student's t for the seeds).

    Args:
        spread: How the values vary.
        seeds: How many seeds the mean is over.
        problems: How many questions, or clusters of them, it is over; at least two.
        confidence: Of the interval that decides.

    Returns:
        A difference in the unit of the values, not negative.
    """
    from scipy.special import ndtri, stdtrit

    of_seeds, of_problems = spread.seeds / seeds, spread.problems / problems + spread.rest / (seeds * problems)
    tail = (1 + confidence) / 2
    reach = float(stdtrit(problems - 1, tail)) ** 2 * of_problems
    if seeds > 1:
        known_by_seeds = of_seeds + REST_WITH_SEEDS * spread.rest / (seeds * problems)
        reach += float(stdtrit(seeds - 1, tail)) ** 2 * known_by_seeds
    return math.sqrt(reach) + float(ndtri(POWER)) * math.sqrt(of_seeds + of_problems)


def needed(estimate: Estimate, difference: float, confidence: float = 0.95) -> Needed:
    """How many seeds, or how many questions, would make a difference be seen in four of five studies.

    Args:
        estimate: Gives the spread and the size of the study as it is.
        difference: The difference to be seen, in the unit of the values.
        confidence: Of the interval that decides.
    """
    clusters = estimate.clusters or estimate.problems
    return needed_for(estimate.spread, estimate.seeds, estimate.problems, clusters, difference, confidence)


def needed_for(
    spread: Spread, seeds: int, questions: int, places: int, difference: float, confidence: float = 0.95
) -> Needed:
    """The same from a spread.

    Args:
        spread: How the values vary.
        seeds: How many there are.
        questions: How many there are.
        places: In how many clusters these come; as many as questions where each stands alone.
        difference: The difference to be seen, in the unit of the values.
        confidence: Of the interval that decides.
    """
    least = max(LEAST_SEEDS, seeds)

    def seen(seeds: int, problems: int) -> bool:
        return smallest_seen(spread, seeds, problems, confidence) <= abs(difference)

    enough_seeds = next((count for count in range(least, LARGEST + 1) if seen(count, max(2, places))), None)
    most = places * LARGEST
    if not seen(least, most):
        return Needed(enough_seeds, None)
    fewest, enough = 1, most
    while enough - fewest > 1:
        middle = (fewest + enough) // 2
        fewest, enough = (fewest, middle) if seen(least, middle) else (middle, enough)
    return Needed(enough_seeds, math.ceil(max(enough, places) * questions / places))

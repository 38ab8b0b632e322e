"""Expert iteration (Anthony et al. 2017; for reasoning, Havrilla et al. 2024, section on expert iteration).

Round i samples K solutions per question from the current policy and keeps R_i, those whose return reaches the
threshold. D_i = R_i + D_(i-1), without duplicates; the next policy is the restart checkpoint fine-tuned on D_i with
cross-entropy. It ends with the policy that the validation questions select.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlreason.algorithms.base import (
    DEDUPLICATE,
    Algorithm,
    Questions,
    Trained,
    choose_questions,
    deduplication_key,
    needs_none,
)
from rlreason.algorithms.budget import ENOUGH, whole
from rlreason.algorithms.not_kept import NotKept
from rlreason.algorithms.selection import ended
from rlreason.algorithms.space import SUPERVISED, TEMPERATURE, Among
from rlreason.config.base import setting
from rlreason.config.updates import SupervisedConfig
from rlreason.evaluation.diversity import diversity
from rlreason.planning.facts import AlgorithmFacts, Sizes, Update, Work, drawn, learned
from rlreason.types import Rollout

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


ROUNDING = 1e-6  # of a sum of step rewards that have been stored in single precision
Kept = dict[tuple[str, str], Rollout]


@dataclass(frozen=True, kw_only=True)
class ExpertIterationConfig(SupervisedConfig):
    """Expert iteration: sample, keep the best, fine-tune, repeat."""

    name: str = setting("ei")
    rounds: int = setting("largest number of rounds", at_least=1)
    samples: int = setting("K, solutions sampled for every training question in a round", at_least=1)
    questions: int = setting(
        "training questions per round, a fresh seeded draw each round; 0 means all of them", at_least=0
    )
    temperature: float = setting("sampling temperature; at 0, K equal samples would teach nothing", above=0)
    keep: str = setting(
        "solutions kept: those whose return is at least the threshold, whose answer is correct, or both",
        choices=("return", "correct", "both"),
    )
    threshold: float | None = setting("solutions whose return is at least this are kept; null: the reward's own")
    deduplicate: str = setting(
        "what makes two solutions of a question equal, so that one is kept: the normalised steps, the arithmetic "
        "operations only, or the text",
        choices=DEDUPLICATE,
    )
    aggregate: bool = setting("train on the solutions of all rounds so far, not only the latest")
    restart: str = setting(
        "checkpoint that every round fine-tunes: base (pretrained, as in the paper), init (SFT), or the policy so far",
        choices=("base", "init", "policy"),
    )
    patience: int | None = setting(
        "stop after this many rounds in a row without a better validation maj@1; null: never, and the whole "
        "budget is used",
        at_least=1,
    )


def expert_iteration(config: ExpertIterationConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Run rounds of sampling, filtering and fine-tuning; end with one of their policies, see `selection.chosen`."""
    policy = start.init
    accuracies = {policy: lab.evaluate(0, policy, samples_seen=0)}
    kept: Kept = {}
    so_far: set[str] = set()
    samples_seen = rounds_without_gain = 0
    threshold = lab.reward_threshold if config.threshold is None else config.threshold
    ending = f"all {config.rounds} rounds are done"

    for round_number in range(1, config.rounds + 1):
        asked = choose_questions(questions.problems, config.questions, round_number, seed)
        rollouts = lab.sample(round_number, policy, asked, config.samples, config.temperature)
        samples_seen += len(rollouts)

        earlier = kept if config.aggregate else {}
        so_far = {item.id for item in asked} | (so_far if config.aggregate else set())
        kept = keep(earlier, rollouts, config, threshold)
        passing = sum(passes(item, config, threshold) for item in rollouts)
        solutions = diversity(rollouts)
        lab.report(
            round_number,
            {
                "samples_right": sum(item.correct for item in rollouts) / len(rollouts),
                "solutions_new": len(kept) - len(earlier),
                "solutions_kept": len(kept),
                "questions_solved": len({problem_id for problem_id, _ in kept}) / len(so_far),
                "kept_wrong": sum(not item.correct for item in kept.values()) / max(1, len(kept)),
                "distinct_right": sum(map(len, solutions.values())) / len(solutions),
            },
            NotKept(len(rollouts), len(rollouts) - passing, passing - (len(kept) - len(earlier))),
        )
        if not kept:
            continue  # nothing was right so far: the next round asks again with other random numbers

        examples = [lab.example(item) for item in kept.values()]
        restart = restart_checkpoint(config.restart, start, policy)
        policy = lab.update(round_number, restart, examples, config)[-1]

        accuracy = lab.evaluate(round_number, policy, samples_seen)
        rounds_without_gain = 0 if accuracy > max(accuracies.values()) else rounds_without_gain + 1
        accuracies[policy] = accuracy
        if rounds_without_gain == config.patience:
            ending = f"stopped after round {round_number}: validation maj@1 did not improve"
            break

    if len(accuracies) == 1:
        ending = f"no solution of {samples_seen} was good enough to train on; the policy is unchanged"
    return ended(accuracies, lab.validation_questions, samples_seen, ending)


def keep(earlier: Kept, rollouts: Sequence[Rollout], config: ExpertIterationConfig, threshold: float) -> Kept:
    """D_i: what earlier rounds kept, and every new solution that passes the filter.

    Of solutions to one question that count as the same, the first stays.
    """
    kept = dict(earlier)
    for item in rollouts:
        if passes(item, config, threshold):
            kept.setdefault((item.problem.id, deduplication_key(item, config.deduplicate, len(kept))), item)
    return kept


def passes(item: Rollout, config: ExpertIterationConfig, threshold: float) -> bool:
    """Whether a solution passes the filter: its return (at least `threshold`), the ground truth, or both."""
    found = {"return": item.total_reward >= threshold - ROUNDING, "correct": item.correct}
    return found.get(config.keep, all(found.values()))


def restart_checkpoint(restart: str, start: Start, policy: Path) -> Path:
    """The checkpoint that a round fine-tunes; the pretrained base in the paper."""
    return {"base": start.base, "init": start.init, "policy": policy}[restart]


def rollouts_at_most(settings: ExpertIterationConfig, questions: int) -> int:
    """Training rollouts of all rounds, of so many training questions."""
    return settings.rounds * settings.samples * asked_in_a_round(settings, questions)


def for_budget(settings: ExpertIterationConfig, budget: int, questions: int) -> ExpertIterationConfig:
    """As many rounds as configured, or fewer where K would not come out even; K follows from the budget.

    Raises:
        UserError: The budget does not pay for one sample of every question, or would be left unused.
    """
    asked = asked_in_a_round(settings, questions)
    passes = whole(budget, asked, f"one sample of each of the {asked:,} questions of a round")
    for rounds in range(min(settings.rounds, passes), 0, -1):
        if rounds * (passes // rounds) * asked >= ENOUGH * budget:
            break
    return replace(settings, rounds=rounds, samples=passes // rounds)


def asked_in_a_round(settings: ExpertIterationConfig, questions: int) -> int:
    """Questions that are asked in one round."""
    return min(settings.questions or questions, questions)


def planned(settings: ExpertIterationConfig) -> AlgorithmFacts:
    """Expert iteration: every round draws, and learns from what was kept, at most everything."""
    update = Update("EI training", "algo", settings, lambda sizes: max(sizes.longest_completion, sizes.reference))

    def work(sizes: Sizes) -> list[Work]:
        asked = sizes.asked(settings.questions)
        kept = [
            asked * settings.samples * (number if settings.aggregate else 1) for number in range(1, settings.rounds + 1)
        ]
        return [
            drawn(
                "sampling",
                settings.rounds * asked * settings.samples,
                sizes,
                settings.rounds * asked,
                asked * settings.samples,
                at_most=True,
            ),
            learned(update, sum(kept), sizes, at_most=True),
        ]

    return AlgorithmFacts(update, work, settings.rounds, stops_early=True, samples=settings.samples)


EXPERT_ITERATION = Algorithm(
    settings=ExpertIterationConfig,
    train=expert_iteration,
    title="EI",
    method="expert iteration",
    color="#0072B2",
    marker="o",
    learns_from_rewards=True,
    trains_policy=True,
    uses_reward=True,
    needs_solutions=False,
    repeats_init=None,
    completion_factor=1,
    needs_outcome_model=needs_none,
    rollouts=rollouts_at_most,
    plan=planned,
    for_budget=for_budget,
    space={
        **SUPERVISED,
        "temperature": TEMPERATURE,
        "rounds": Among((2, 4)),
        "deduplicate": Among(("steps", "none")),
        "restart": Among(("base", "policy")),
    },
)

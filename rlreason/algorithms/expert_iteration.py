"""Expert iteration (Anthony et al. 2017; for reasoning, Havrilla et al. 2024, section on expert iteration).

Round i samples K solutions per question from the current policy and keeps R_i, those whose return reaches the
threshold. D_i = R_i + D_(i-1), without duplicates; the next policy is the restart checkpoint fine-tuned on D_i with
cross-entropy. It stops when the validation maj@1 stops improving, and ends with the best policy seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from rlreason.algorithms import Questions, Stages, Start, Trained
from rlreason.config import ExpertIterationConfig
from rlreason.evaluation.metrics import solution_key
from rlreason.types import Problem, ScoredRollout

Kept = dict[tuple[str, str], ScoredRollout]


def expert_iteration(
    config: ExpertIterationConfig, start: Start, questions: Questions, seed: int, stages: Stages
) -> Trained:
    """Run rounds of sampling, filtering and fine-tuning until nothing improves."""
    policy = best_policy = start.init
    best_accuracy = first_accuracy = stages.evaluate(0, policy, samples_seen=0)
    kept: Kept = {}
    samples_seen = rounds_without_gain = trained_rounds = 0
    ending = f"all {config.rounds} rounds are done"

    for round_number in range(1, config.rounds + 1):
        asked = choose_questions(questions.problems, config.questions, round_number, seed)
        rollouts = stages.sample(round_number, policy, asked, config.samples, config.temperature)
        samples_seen += len(rollouts)

        earlier = kept if config.aggregate else {}
        kept = keep(earlier, rollouts, config)
        stages.report(
            round_number,
            {
                "samples_right": sum(item.correct for item in rollouts) / len(rollouts),
                "solutions_new": len(kept) - len(earlier),
                "solutions_kept": len(kept),
                "questions_solved": len({problem_id for problem_id, _ in kept}) / len(questions.problems),
            },
        )
        if not kept:
            continue  # nothing was right so far: the next round asks again with other random numbers

        examples = [stages.example(item) for item in kept.values()]
        if config.join_references:
            examples += questions.references.values()
        policy = stages.update(round_number, restart_checkpoint(config.restart, start, policy), examples, config)
        trained_rounds += 1

        accuracy = stages.evaluate(round_number, policy, samples_seen)
        if accuracy > best_accuracy:
            best_policy, best_accuracy, rounds_without_gain = policy, accuracy, 0
        else:
            rounds_without_gain += 1
        if rounds_without_gain >= config.patience:
            ending = f"stopped after round {round_number}: validation maj@1 did not improve"
            break

    if trained_rounds == 0:
        ending = f"no solution of {samples_seen} was good enough to train on; the policy is unchanged"
    verdict = f"{ending}; validation maj@1 went from {first_accuracy:.3f} to {best_accuracy:.3f}"
    return Trained(best_policy, samples_seen, verdict)


def choose_questions(problems: Sequence[Problem], count: int, round_number: int, seed: int) -> Sequence[Problem]:
    """The questions of a round: all of them (`count` 0), or a seeded draw without repetition."""
    if count == 0 or count >= len(problems):
        return problems
    return random.Random(f"{seed}/questions/{round_number}").sample(problems, count)


def keep(earlier: Kept, rollouts: Sequence[ScoredRollout], config: ExpertIterationConfig) -> Kept:
    """D_i: what earlier rounds kept, and every new solution whose return reaches the threshold.

    Of solutions to one question that count as the same, the first stays.
    """
    kept = dict(earlier)
    for item in rollouts:
        if item.reward_sum >= config.threshold:
            kept.setdefault((item.rollout.problem_id, deduplication_key(item, config.deduplicate, len(kept))), item)
    return kept


def deduplication_key(item: ScoredRollout, deduplicate: str, position: int) -> str:
    """What two solutions of one question must share to count as the same."""
    if deduplicate == "steps":
        return solution_key(item.rollout.text)
    return item.rollout.text if deduplicate == "text" else str(position)


def restart_checkpoint(restart: str, start: Start, policy: Path) -> Path:
    """The checkpoint that a round fine-tunes; the pretrained base in the paper."""
    return {"base": start.base, "init": start.init, "policy": policy}[restart]

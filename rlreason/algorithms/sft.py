"""Supervised fine-tuning on the reference solutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlreason.algorithms.base import Algorithm, Questions, Trained, draws_nothing, needs_none, whatever_the_budget
from rlreason.algorithms.selection import ended
from rlreason.algorithms.space import SUPERVISED
from rlreason.config.base import setting
from rlreason.config.updates import CANDIDATES, EVALUATIONS, SupervisedConfig
from rlreason.errors import UserError
from rlreason.planning.facts import AlgorithmFacts, Update, learned

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


@dataclass(frozen=True, kw_only=True)
class SFTConfig(SupervisedConfig):
    """Supervised fine-tuning on the reference solutions, as an algorithm."""

    name: str = setting("sft")
    evaluations: int = setting(f"{EVALUATIONS} the optimizer steps", at_least=1, at_most=len(CANDIDATES))


def sft(config: SFTConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Fine-tune the starting checkpoint on every reference solution, measuring checkpoints on the way.

    Raises:
        UserError: No training question has a worked solution.
    """
    del seed
    examples = list(questions.references.values())
    if not examples:
        raise UserError("algo=sft needs worked solutions and this data set has none; use algo=ei")
    accuracies = {start.init: lab.evaluate(0, start.init, samples_seen=0)}
    shares = CANDIDATES[-config.evaluations :]
    policies = lab.update(1, start.init, examples, config, snapshots=shares[:-1])
    for number, (share, policy) in enumerate(zip(shares, policies, strict=True), start=1):
        epochs = {"train/epochs": config.epochs * share}
        accuracies[policy] = lab.evaluate(number, policy, samples_seen=0, facts=epochs)
    return ended(accuracies, lab.validation_questions, 0, f"learned from {len(examples):,} reference solutions")


def planned(settings: SFTConfig) -> AlgorithmFacts:
    """Supervised fine-tuning: all reference solutions."""
    update = Update("SFT training", "algo", settings, lambda sizes: sizes.reference)
    return AlgorithmFacts(
        update,
        lambda sizes: [learned(update, sizes.training, sizes)],
        settings.evaluations,
        stops_early=True,
    )


SFT = Algorithm(
    settings=SFTConfig,
    train=sft,
    title="SFT",
    method="supervised fine-tuning",
    color="#E69F00",
    marker="v",
    learns_from_rewards=False,
    trains_policy=True,
    uses_reward=False,
    needs_solutions=True,
    repeats_init="sft",
    completion_factor=1,
    needs_outcome_model=needs_none,
    rollouts=draws_nothing,
    plan=planned,
    for_budget=whatever_the_budget,
    space=SUPERVISED,
)

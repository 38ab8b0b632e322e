"""Supervised fine-tuning on the reference solutions."""

from __future__ import annotations

from rlreason.algorithms.base import Questions, Stages, Start, Trained
from rlreason.config.algorithms import SFTConfig
from rlreason.errors import UserError


def sft(config: SFTConfig, start: Start, questions: Questions, seed: int, stages: Stages) -> Trained:
    """Fine-tune the starting checkpoint on every reference solution, measuring checkpoints on the way.

    Raises:
        UserError: No training question has a worked solution.
    """
    del seed
    examples = list(questions.references.values())
    if not examples:
        raise UserError("algo=sft needs worked solutions and this data set has none; use algo=ei")
    before = after = stages.evaluate(0, start.init, samples_seen=0)
    policies = stages.update(1, start.init, examples, config, snapshots=config.evaluations - 1)
    for number, policy in enumerate(policies, start=1):
        epochs = config.epochs * number / len(policies)
        after = stages.evaluate(number, policy, samples_seen=0, facts={"train/epochs": epochs})
    verdict = f"validation maj@1 went from {before:.3f} to {after:.3f} on {len(examples)} reference solutions"
    return Trained(policies[-1], 0, verdict)

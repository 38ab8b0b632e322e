"""GRPO (Shao et al. 2024) by TRL's own trainer and loss, with the advantages of Dr. GRPO and RLOO by option.

The advantage of every token of a solution is its return against the other solutions of its question: minus the group's
mean, over the group's standard deviation (GRPO); without the deviation, and with a loss that does not favour short
wrong solutions (Liu et al. 2025, Dr. GRPO); or minus the mean of the others (Ahmadian et al. 2024, RLOO).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rlreason.algorithms.base import Questions, Trained
from rlreason.algorithms.grpo import GRPOConfig
from rlreason.algorithms.on_policy import Loop, on_policy
from rlreason.training.on_policy_trainer import OnPolicyTrainer, trainer_config

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


class GroupTrainer(OnPolicyTrainer):
    """TRL's loss on advantages that are corrected for the sampler's numerics."""

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        advantages = batch["advantages"]
        if self.settings.advantage == "rloo":  # r - mean of the others = (r - mean of all) K / (K - 1)
            advantages = advantages * self.settings.samples / (self.settings.samples - 1)
        batch["advantages"] = advantages.unsqueeze(1) * batch["weights"]
        return batch


def grpo(config: GRPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    return on_policy(config, start, questions, seed, lab, partial(group_trainer, config))


def group_trainer(config: GRPOConfig, loop: Loop) -> GroupTrainer:
    """The trainer of a loop."""
    arguments = trainer_config(
        config,
        loop,
        beta=config.kl_coefficient,
        scale_rewards="group" if config.advantage == "group" else "none",
        loss_type="dr_grpo" if config.advantage == "dr_grpo" else "dapo",
    )
    return GroupTrainer(config, loop, arguments)

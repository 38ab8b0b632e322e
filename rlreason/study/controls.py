"""Whether a reward gains more than one that says nothing about right and wrong (Shao et al. 2025, arXiv 2506.10947)."""

from __future__ import annotations

from rlreason.rewards.registry import REWARDS
from rlreason.study.arms import Arm, Comparison


def is_control(arm: Arm) -> bool:
    """Whether an arm learns from a reward that says nothing about right and wrong."""
    return arm.algorithm.uses_reward and REWARDS[arm.reward].control


def controlled(comparison: Comparison) -> list[str]:
    """A line for every arm whose maj@1 is not shown to be above a control's of its algorithm, start and model.

    Both start from one checkpoint, so the difference of their ends is that of their gains. It is paired over seeds and
    questions, and shown where its 95 % interval does not lie above zero.
    """
    lines = []
    for arm in comparison.arms:
        if is_control(arm) or not arm.algorithm.uses_reward:
            continue
        for control in comparison.find(algo=arm.algo, init=arm.init, model=arm.model):
            difference = arm.difference(control, "maj@1") if is_control(control) else None
            if difference is not None and difference.low <= 0:
                lines.append(
                    f"{arm.label} is not shown to gain more than its control {control.label}: "
                    f"maj@1 {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]; what it "
                    "gains may owe nothing to what the reward says"
                )
    return lines

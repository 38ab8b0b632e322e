"""The algorithms, each with its facts in its own file."""

from __future__ import annotations

from rlreason.algorithms.base import Algorithm
from rlreason.algorithms.expert_iteration import EXPERT_ITERATION
from rlreason.algorithms.grpo import GRPO
from rlreason.algorithms.orm import OUTCOME_MODEL
from rlreason.algorithms.ppo import PPO
from rlreason.algorithms.return_conditioned import RETURN_CONDITIONED
from rlreason.algorithms.sft import SFT
from rlreason.config.base import Settings
from rlreason.rows import Table

# In the order in which tables and figures show them.
ALGORITHMS: Table[Algorithm] = Table(
    "algo",
    Algorithm,
    Settings,
    {
        "ei": EXPERT_ITERATION,
        "ppo": PPO,
        "rcrl": RETURN_CONDITIONED,
        "grpo": GRPO,
        "sft": SFT,
        "orm": OUTCOME_MODEL,
    },
)

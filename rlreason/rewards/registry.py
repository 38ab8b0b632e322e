"""The rewards, each with its facts in its own file."""

from __future__ import annotations

from rlreason.rewards.base import RewardConfig, RewardRow
from rlreason.rewards.controls import FORMAT, RANDOM
from rlreason.rewards.custom import CUSTOM
from rlreason.rewards.dense import DENSE
from rlreason.rewards.orm import ORM
from rlreason.rewards.sparse import SPARSE
from rlreason.rows import Table

REWARDS: Table[RewardRow] = Table(
    "reward",
    RewardRow,
    RewardConfig,
    {"sparse": SPARSE, "dense": DENSE, "orm": ORM, "custom": CUSTOM, "random": RANDOM, "format": FORMAT},
)

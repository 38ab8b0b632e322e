"""The data sets, each with its facts in its own file."""

from __future__ import annotations

from rlreason.config.sections import DataConfig
from rlreason.data.base import Dataset
from rlreason.data.gsm8k import GSM8K
from rlreason.data.gsm_symbolic import GSM_SYMBOLIC
from rlreason.data.svamp import SVAMP
from rlreason.data.wordproblems import WORD_PROBLEMS
from rlreason.rows import Table

DATASETS: Table[Dataset] = Table(
    "data",
    Dataset,
    DataConfig,
    {"gsm8k": GSM8K, "svamp": SVAMP, "gsm_symbolic": GSM_SYMBOLIC, "wordproblems": WORD_PROBLEMS},
)

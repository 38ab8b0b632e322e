"""The data sets, each with its facts in its own file."""

from __future__ import annotations

from rlreason.config.sections import DataConfig
from rlreason.data.base import Dataset
from rlreason.data.files import FILES
from rlreason.data.gsm8k import GSM8K
from rlreason.data.gsm8k_platinum import GSM8K_PLATINUM
from rlreason.data.gsm_symbolic import GSM_SYMBOLIC
from rlreason.data.math import MATH
from rlreason.data.svamp import SVAMP
from rlreason.data.wordproblems import WORD_PROBLEMS
from rlreason.rows import Table

DATASETS: Table[Dataset] = Table(
    "data",
    Dataset,
    DataConfig,
    {
        "files": FILES,
        "gsm8k": GSM8K,
        "gsm8k_platinum": GSM8K_PLATINUM,
        "math": MATH,
        "svamp": SVAMP,
        "gsm_symbolic": GSM_SYMBOLIC,
        "wordproblems": WORD_PROBLEMS,
    },
)

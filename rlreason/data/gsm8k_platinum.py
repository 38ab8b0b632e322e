"""GSM8K-Platinum: GSM8K's test questions without those that are ambiguous or had a wrong answer (Vendrow et al. 2025).

It has test questions only; the training questions are GSM8K's, so what was trained on `gsm8k` can be measured here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rlreason.config.sections import DataConfig
from rlreason.data import gsm8k
from rlreason.data.base import Dataset, official
from rlreason.data.layout import split_rows
from rlreason.data.sources import hub_rows
from rlreason.types import Problem

HUB_NAME = "madrylab/gsm8k-platinum"
HUB_SUBSET = "main"


def load(split: str, path: str | None) -> list[Problem]:
    """Load GSM8K's training questions, or the test questions of GSM8K-Platinum.

    Args:
        split: "train" or "test".
        path: Folder with the test questions and, for training, those of GSM8K's training split, in any form; None
            loads both from the Hub.

    Raises:
        UserError: The data are missing or malformed; the message names file and line.
    """
    if split == "train":
        return gsm8k.load(split, path)
    if path is None:
        rows = hub_rows("gsm8k_platinum", HUB_NAME, HUB_SUBSET, split)
    else:
        rows = split_rows(path, None, split, default_subset=HUB_SUBSET)
    return [gsm8k.problem(row, f"gsm8k_platinum-{split}-{row.number}") for row in rows]


GSM8K_PLATINUM = Dataset(
    settings=DataConfig,
    title="GSM8K-Platinum",
    splits=partial(official, load),
    generated=False,
    solutions=True,
    other_kind=False,
    facts=replace(gsm8k.FACTS, test=1209),
    hub_name=HUB_NAME,
    licence="mit",
)

"""What all sequences of a supervised micro-batch begin with is computed once: few-shot examples are most of a prompt.

The sequences of a micro-batch are put behind their common beginning in one row. The positions of each go on from its
end, and its tokens see the beginning and themselves, not each other, so that hidden states are those of separate rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from rlreason.training.common import IGNORED

if TYPE_CHECKING:
    import torch

Row = Mapping[str, Sequence[int]]  # "input_ids" and "labels" of one sequence


@dataclass(frozen=True, slots=True)
class SharedBeginnings:
    """A data collator: one row for a micro-batch of which a third of the tokens need not be computed again.

    Args:
        separately: The collator of all others.
    """

    separately: Callable[[Sequence[Row]], dict[str, Any]]

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The inputs of one forward pass."""
        learned = [row for row in rows if learned_from(row["labels"]) < len(row["labels"])]  # fillers learn nothing
        common = common_beginning(learned)
        if not worth_while(common, [len(row["input_ids"]) for row in learned]):
            return self.separately(rows)
        return joined(learned, common)


def worth_while(common: float, lengths: Sequence[float]) -> bool:
    """Whether sequences of such lengths, of which `common` tokens are shared, are to be one row.

    A third of the tokens must be saved: the row needs a mask of its own, with which attention is slower.
    """
    return 3 * common * (len(lengths) - 1) >= sum(lengths) > 0


def common_beginning(rows: Sequence[Row]) -> int:
    """How many tokens all sequences begin with, and learn nothing of, the one after them included.

    A row's loss looks one token ahead. So the first token of each sequence behind the beginning must carry none: in the
    row it follows another sequence.
    """
    if not rows:
        return 0
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*(row["input_ids"] for row in rows), strict=False))
    first = min(learned_from(row["labels"]) for row in rows)
    return max(0, min(sum(1 for _ in same), first - 1))


def learned_from(labels: Sequence[int]) -> int:
    """Index of the first token with loss; the number of tokens where none has."""
    return next((index for index, label in enumerate(labels) if label != IGNORED), len(labels))


def joined(rows: Sequence[Row], common: int) -> dict[str, torch.Tensor]:
    """Sequences behind what they have in common.

    Returns:
        `input_ids`, `labels` and `position_ids` of shape `(1, length)`, and `attention_mask` of shape
        `(1, 1, length, length)`: which tokens each token sees.
    """
    import torch

    beginning = list(rows[0]["input_ids"][:common])
    ids, labels, positions = beginning.copy(), [IGNORED] * common, list(range(common))
    owner = [0] * common  # the sequence of each token, from 1; 0 for the beginning
    for number, row in enumerate(rows, 1):
        rest = row["input_ids"][common:]
        ids += rest
        labels += row["labels"][common:]
        positions += range(common, common + len(rest))
        owner += [number] * len(rest)
    owners = torch.tensor(owner)
    allowed = (owners == 0) | (owners == owners.unsqueeze(1))
    return {
        "input_ids": torch.tensor([ids]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": allowed.tril().view(1, 1, len(ids), len(ids)),
    }

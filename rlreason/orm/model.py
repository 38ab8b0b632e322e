"""Scores of a trained outcome reward model: for rewards, for labels of steps, for reranking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.answers.steps import through_answer
from rlreason.errors import UserError
from rlreason.orm.calibration import Calibration
from rlreason.run.checkpoints import CARD_FILE
from rlreason.types import Rollout

if TYPE_CHECKING:
    from rlreason.models.scalar_head import ScalarHeadModel

TOKENS_PER_BATCH = 16_384
WINDOW = 8192  # solutions that are grouped by length at a time, so that any number of them streams through


Scored = Callable[[int, int], None]


def unseen(done: int, total: int) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True)
class Card:
    """What a trained model's folder says about it.

    Args:
        tokenizer: Fingerprint of the vocabulary that it reads.
        likelihood: Whether its head reads the likelihood of the solution.
        calibration: From its logits to p(right).
        questions: Hashes of the questions that it was trained and calibrated on.
    """

    tokenizer: str
    likelihood: bool
    calibration: Calibration
    questions: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write the card; a folder without one is not a finished model."""
        (folder / CARD_FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Card:
    """The card of a model.

    Raises:
        UserError: The folder holds no outcome reward model.
    """
    try:
        values = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        calibration = Calibration(**values.pop("calibration"))
        return Card(**{**values, "calibration": calibration, "questions": tuple(values["questions"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{folder} holds no outcome reward model ({CARD_FILE} is missing or broken); train one with algo=orm"
        ) from error


class OutcomeModel:
    """Scores solutions with the model in `folder`.

    Where a GPU computes, its weights are read once, kept in main memory in bfloat16, and on the GPU while it scores
    only; elsewhere they are in memory only while it scores.

    Args:
        folder: A trained model.
        card: Its card.
        make_room: Called before the weights are brought to where they compute: what generates there gives its memory
            back.
    """

    def __init__(self, folder: Path, card: Card, make_room: Callable[[], None]) -> None:
        self.folder = folder
        self.card = card
        self.make_room = make_room
        self._kept: ScalarHeadModel | None = None

    def step_scores(self, graded: Sequence[Rollout], progress: Scored = unseen) -> list[tuple[float, ...]]:
        """p(right) at the end of every step through the final answer; nothing for an empty completion.

        Args:
            graded: What is scored.
            progress: Called with how many are scored, of how many.
        """
        return [tuple(self.card.calibration.probability(logits).tolist()) for logits in self.logits(graded, progress)]

    def logits(self, graded: Sequence[Rollout], progress: Scored = unseen) -> list[tuple[float, ...]]:
        """The same before calibration."""
        found: list[tuple[float, ...]] = [()] * len(graded)
        done = 0
        with self._in_place() as model:
            for rows in batches([_length(item) for item in graded]):
                for row, values in zip(rows, _batch_logits(model, [graded[row] for row in rows]), strict=True):
                    found[row] = values
                done += len(rows)
                progress(done, len(graded))
        return found

    @contextmanager
    def _in_place(self) -> Iterator[ScalarHeadModel]:
        """The model where it computes, for the block; what generates there has given its memory back."""
        from rlreason.models.loading import bfloat16_is_fast, free_memory, on_gpu, trains_on_gpu

        self.make_room()
        if not trains_on_gpu():
            yield self._read("float32")
        else:
            if self._kept is None:
                self._kept = self._read("bfloat16" if bfloat16_is_fast() else "float32")
            with on_gpu(self._kept) as model:
                yield model
        free_memory()

    def _read(self, dtype: str) -> ScalarHeadModel:
        from rlreason.models.loading import load_model
        from rlreason.models.scalar_head import load_scalar_head_model

        return load_scalar_head_model(self.folder, self.card.likelihood, load_model(self.folder, dtype))


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of sequences in groups of similar length, without the empty ones.

    A group has at most `TOKENS_PER_BATCH` tokens with its padding, or is a single sequence.
    """
    for start in range(0, len(lengths), WINDOW):
        rows = sorted(
            (row for row in range(start, min(start + WINDOW, len(lengths))) if lengths[row]), key=lengths.__getitem__
        )
        group: list[int] = []
        for row in rows:
            if group and lengths[row] * (len(group) + 1) > TOKENS_PER_BATCH:
                yield group
                group = []
            group.append(row)
        if group:
            yield group


def _length(item: Rollout) -> int:
    return len(item.prompt_ids) + through_answer(item.steps)[-1].end if item.steps else 0


def _batch_logits(model: Any, items: Sequence[Rollout]) -> list[tuple[float, ...]]:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from rlreason.models.loading import bfloat16_is_fast

    device = model.head.weight.device
    sequences = [torch.tensor([*item.prompt_ids, *item.completion_ids][: _length(item)]) for item in items]
    starts = [len(item.prompt_ids) for item in items]
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast()):
        padded = pad_sequence(sequences, batch_first=True).to(device)
        logits = model(padded, torch.tensor(starts, device=device)).logits.cpu()  # (batch, time)
    return [
        tuple(row[[start + step.end - 1 for step in through_answer(item.steps)]].tolist())
        for row, start, item in zip(logits, starts, items, strict=True)
    ]

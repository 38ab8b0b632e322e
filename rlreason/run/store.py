"""Rollouts on disk: appended as they finish, sealed as one Parquet file per stage.

While a stage samples, finished rollouts go to Arrow stream files (`<stage>.part-<n>.arrows`), one record batch per
engine step, flushed at once: a killed process loses only what was not finished. A later process reads what the
parts hold, however the last one ends, samples the rest into a new part, and seals the stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlreason.answers.arithmetic import operations
from rlreason.run.files import put_in_place
from rlreason.types import Problem, Rollout, StepReward, token_tuple

# What the sampler knows: the attribute of a rollout and the type of its column, by the column's name.
PARTS = {
    "problem_id": ("problem.id", pa.string()),
    "sample": ("sample", pa.int32()),
    "seed": ("seed", pa.int64()),
    "prompt_token_ids": ("prompt_ids", pa.list_(pa.int32())),
    "token_ids": ("completion_ids", pa.list_(pa.int32())),
    "logprobs": ("sampler_logprobs", pa.list_(pa.float32())),
    "text": ("text", pa.string()),
    "finish_reason": ("finish_reason", pa.string()),
}
TEXTS = ("problem_id", "sample", "seed", "text", "finish_reason", "answer", "correct", "unread")
ROWS_AT_ONCE = 256
Prompts = dict[tuple[int, ...], tuple[int, ...]]
PART_SCHEMA = pa.schema([(column, kind) for column, (_, kind) in PARTS.items()])
STEP_TYPE = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("value", pa.float32())])
SEALED_SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("round", pa.int32()),
        ("checkpoint", pa.string()),
        ("temperature", pa.float32()),
        *PART_SCHEMA,
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("unread", pa.bool_()),
        ("reward", pa.float32()),
        ("step_rewards", pa.list_(STEP_TYPE)),
        ("operations", pa.string()),
    ]
)
SCORES_SCHEMA = pa.schema(
    [("problem_id", pa.string()), ("sample", pa.int32()), ("step_scores", pa.list_(pa.float64()))]
)


class PartWriter:
    """Appends finished rollouts of one stage to a part file of their own."""

    def __init__(self, folder: Path, stage: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(_parts(folder, stage))
        self._file = (folder / f"{stage}.part-{number}.arrows").open("xb")
        self._writer = pa.ipc.new_stream(self._file, PART_SCHEMA)

    def append(self, rollouts: Sequence[Rollout]) -> None:
        """Store rollouts so that they survive the death of this process."""
        self._writer.write_batch(pa.RecordBatch.from_pydict(_part_columns(rollouts), schema=PART_SCHEMA))
        self._file.flush()

    def close(self) -> None:
        """Finish the part."""
        self._writer.close()
        self._file.close()


def read_parts(folder: Path, stage: str, problems: Mapping[str, Problem]) -> list[Rollout]:
    """All whole rollouts in the parts of a stage, before grading.

    A record batch that was cut off is dropped, and each sample is returned once. `problems`: what was asked, by id.
    """
    found: dict[tuple[str, int], Rollout] = {}
    prompts: Prompts = {}
    for part in _parts(folder, stage):
        for batch in _whole_batches(part):
            for rollout in _rollouts(batch.to_pydict(), problems, prompts):
                found.setdefault((rollout.problem.id, rollout.sample), rollout)
    return list(found.values())


def unsealed(folder: Path) -> dict[Path, str]:
    """The part files of all stages that are not sealed, each with the name of its stage."""
    return {part: part.name.partition(".part-")[0] for part in folder.glob("*.part-*.arrows")}


def seal(
    folder: Path,
    stage: str,
    rollouts: Sequence[Rollout],
    *,
    round_number: int,
    checkpoint: str,
    temperature: float,
) -> None:
    """Write the stage's Parquet file, whole or not at all."""
    columns: dict[str, Any] = {
        "stage": [stage] * len(rollouts),
        "round": [round_number] * len(rollouts),
        "checkpoint": [checkpoint] * len(rollouts),
        "temperature": [temperature] * len(rollouts),
        **_part_columns(rollouts),
        "answer": [item.answer for item in rollouts],
        "correct": [item.correct for item in rollouts],
        "unread": [item.is_unread for item in rollouts],
        "reward": [item.total_reward for item in rollouts],
        "step_rewards": [
            [{"start": step.start, "end": step.end, "value": step.value} for step in item.rewards] for item in rollouts
        ],
        "operations": [operations(item.text) for item in rollouts],
    }
    _write(folder / f"{stage}.parquet", pa.Table.from_pydict(columns, schema=SEALED_SCHEMA))


def read_sealed(folder: Path, stage: str, problems: Mapping[str, Problem]) -> list[Rollout]:
    """The rollouts of a sealed stage, in the order in which they were sealed; their steps are not stored.

    `problems`: what was asked, by id.

    Raises:
        KeyError: A rollout answers another problem, or the file lacks a column.
    """
    rollouts: list[Rollout] = []
    prompts: Prompts = {}
    # Python's objects of a row take many times its bytes in the file, most of them those of its prompt.
    for batch in pq.read_table(folder / f"{stage}.parquet").to_batches(max_chunksize=ROWS_AT_ONCE):
        columns = batch.to_pydict()
        columns.setdefault("unread", [False] * batch.num_rows)  # earlier versions did not tell it from wrong
        rollouts += [
            replace(
                rollout,
                answer=answer,
                correct=correct,
                is_unread=unread,
                rewards=tuple(StepReward(**step) for step in steps),
            )
            for rollout, answer, correct, unread, steps in zip(
                _rollouts(columns, problems, prompts),
                *(columns[name] for name in ("answer", "correct", "unread", "step_rewards")),
                strict=True,
            )
        ]
    return rollouts


def read_texts(folder: Path, stage: str, problems: Mapping[str, Problem]) -> list[Rollout]:
    """As `read_sealed`, without tokens, log-probs and rewards, which take many times the memory of the texts.

    Raises:
        KeyError: A rollout answers another problem, or the file lacks a column.
    """
    table = pq.read_table(folder / f"{stage}.parquet", columns=list(TEXTS))
    columns = table.to_pydict()
    columns.setdefault("unread", [False] * table.num_rows)  # as in `read_sealed`
    rows = zip(*(columns[name] for name in TEXTS), strict=True)
    return [
        Rollout(problems[asked], sample, seed, (), (), (), text, ending, answer=answer, correct=right, is_unread=unread)
        for asked, sample, seed, text, ending, answer, right, unread in rows
    ]


def is_sealed(folder: Path, stage: str) -> bool:
    """Whether the Parquet file of a stage is there, and not empty or cut."""
    try:
        pq.read_metadata(folder / f"{stage}.parquet")
    except (OSError, pa.ArrowException):
        return False
    return True


def asked_problems(path: Path) -> list[str]:
    """The problem id of every rollout in a sealed file."""
    ids: list[str] = pq.read_table(path, columns=["problem_id"])["problem_id"].to_pylist()
    return ids


def longest_completion(folder: Path, stage: str) -> int:
    """Tokens of the longest completion of a sealed stage."""
    return max(map(len, pq.read_table(folder / f"{stage}.parquet", columns=["token_ids"])["token_ids"]), default=0)


def write_scores(path: Path, rollouts: Sequence[Rollout], scores: Sequence[Sequence[float]]) -> None:
    """Write the step scores of rollouts, whole or not at all."""
    columns = {
        "problem_id": [rollout.problem.id for rollout in rollouts],
        "sample": [rollout.sample for rollout in rollouts],
        "step_scores": [list(values) for values in scores],
    }
    _write(path, pa.Table.from_pydict(columns, schema=SCORES_SCHEMA))


def write_evaluation(path: Path, columns: dict[str, Any]) -> None:
    """Write what was measured, one value per problem under every name of `columns`, whole or not at all."""
    _write(path, pa.table(columns))


def read_scores(path: Path) -> list[tuple[float, ...]]:
    """Step scores in the order in which they were written."""
    return [tuple(values) for values in pq.read_table(path)["step_scores"].to_pylist()]


def remove_parts(folder: Path, stage: str) -> None:
    """Delete the parts of a stage that has been sealed."""
    for part in _parts(folder, stage):
        part.unlink()


def _write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary, compression="zstd")
    put_in_place(temporary, path)


def _parts(folder: Path, stage: str) -> list[Path]:
    return sorted(folder.glob(f"{stage}.part-*.arrows"), key=lambda part: int(part.stem.rsplit("-", 1)[1]))


def _whole_batches(part: Path) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    # Where the writer died inside a batch, everything before it is whole.
    with part.open("rb") as file, suppress(pa.ArrowInvalid, OSError):
        for batch in pa.ipc.open_stream(file):
            batches.append(batch)
    return batches


def _part_columns(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    return {column: list(map(attrgetter(attribute), rollouts)) for column, (attribute, _) in PARTS.items()}


def _rollouts(columns: dict[str, Any], problems: Mapping[str, Problem], prompts: Prompts) -> list[Rollout]:
    """The rollouts of some rows; `prompts` holds those met so far, each of which is kept once for all its samples."""
    rows = zip(*(columns[column] for column in PARTS), strict=True)
    return [
        Rollout(
            problems[asked],
            sample,
            seed,
            prompts.setdefault(tuple(prompt), token_tuple(prompt)),
            token_tuple(tokens),
            tuple(logprobs),
            *how_it_ended,
        )
        for asked, sample, seed, prompt, tokens, logprobs, *how_it_ended in rows
    ]

"""A few rollouts to look at: what the policy wrote at the start and at the end of training, rewarded step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rlreason.run.folder import training_files
from rlreason.study.folders import StudyRun, read_columns

QUESTIONS = 3
LONGEST = 1500  # characters of a question or a completion
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Line:
    """One step of a completion.

    Args:
        text: What was written.
        reward: What it earned; None where the reward has nothing to say about it.
    """

    text: str
    reward: float | None


@dataclass(frozen=True)
class Example:
    """One rollout.

    Args:
        question: As the model read it.
        lines: Its steps.
        answer: The extracted final answer; None where there is none.
        correct: Whether it is right.
        reward: The sum of its rewards.
    """

    question: str
    lines: tuple[Line, ...]
    answer: str | None
    correct: bool
    reward: float


def examples(run: StudyRun) -> tuple[list[Example], list[Example]]:
    """Right and wrong training rollouts of the first and of the last stage, on the same questions where there are some.

    The first stage is sampled from the policy that training starts from. Where there is no other, the second list is
    empty.

    Raises:
        ValueError: A file of rollouts cannot be read.
    """
    files = training_files(run.folder)
    if not files:
        return [], []
    decode = decoder(run)
    first, last = _outcomes(files[0]), _outcomes(files[-1])
    questions = sorted(last, key=lambda name: (name not in first, len(last[name]) < 2, name))[:QUESTIONS]
    others = [name for name in questions if name in first]
    others += [name for name in sorted(first, key=lambda name: (len(first[name]) < 2, name)) if name not in others]
    return (
        _read(run, files[0], first, others[:QUESTIONS], decode),
        _read(run, files[-1], last, questions, decode) if len(files) > 1 else [],
    )


def split_rewards(
    text: str, token_ids: Sequence[int], rewards: Sequence[dict[str, Any]], decode: Decode | None
) -> tuple[Line, ...]:
    """The lines of a completion, each with the reward that it earned.

    Args:
        text: The completion.
        token_ids: The same as tokens.
        rewards: `start`, `end` (tokens) and `value` of every step that was rewarded, in order.
        decode: From tokens to text. Without it lines are matched by their number, or left without rewards.
    """
    if decode is None:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(rewards) == len(lines):
            return tuple(Line(line, step["value"]) for line, step in zip(lines, rewards, strict=True))
        if len(rewards) == 1 and lines:
            return (*(Line(line, None) for line in lines[:-1]), Line(lines[-1], rewards[0]["value"]))
        return tuple(Line(line, None) for line in lines)
    found: list[Line] = []
    position = 0
    for step in rewards:
        found += [Line(line, None) for line in _lines(decode(token_ids[position : step["start"]]))]
        lines = _lines(decode(token_ids[step["start"] : step["end"]])) or [""]
        found += [Line(line, None) for line in lines[:-1]] + [Line(lines[-1], step["value"])]
        position = step["end"]
    return (*found, *(Line(line, None) for line in _lines(decode(token_ids[position:]))))


def decoder(run: StudyRun) -> Decode | None:
    """From token ids to text, by the tokeniser beside one of the run's checkpoints; None where it has none."""
    path = next(iter(sorted((run.folder / "checkpoints").glob("*/tokenizer.json"))), None)
    if path is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _outcomes(path: Path) -> dict[str, dict[bool, int]]:
    """For every question, the first right and the first wrong sample."""
    table = read_columns(path, ["problem_id", "sample", "correct"]).to_pandas()
    found: dict[str, dict[bool, int]] = {}
    for (problem, correct), sample in table.groupby(["problem_id", "correct"])["sample"].min().items():
        found.setdefault(problem, {})[bool(correct)] = int(sample)
    return found


def _read(
    run: StudyRun, path: Path, outcomes: dict[str, dict[bool, int]], questions: Sequence[str], decode: Decode | None
) -> list[Example]:
    names = ["problem_id", "sample", "prompt_token_ids", "token_ids", "text", "answer", "correct", "step_rewards"]
    table = read_columns(path, names)
    # Without this the rows of one question would be searched for in hundreds of megabytes of Python lists.
    table = table.filter(pc.is_in(table["problem_id"], value_set=pa.array(questions, pa.string())))
    rows = {(row["problem_id"], row["sample"]): row for row in table.to_pylist()}
    found = []
    for problem in questions:
        for _, sample in sorted(outcomes[problem].items(), reverse=True):
            row = rows[problem, sample]
            question = _question(run, decode(row["prompt_token_ids"])) if decode else f"question {problem}"
            steps = row["step_rewards"]
            text = row["text"] if len(row["text"]) <= LONGEST else row["text"][:LONGEST] + " ..."
            whole = text == row["text"]
            lines = split_rewards(text, row["token_ids"], steps if whole else (), decode if whole else None)
            total = float(sum(step["value"] for step in steps))
            found.append(Example(question, lines, row["answer"], row["correct"], total))
    return found


def _question(run: StudyRun, prompt: str) -> str:
    """The question itself: the end of a prompt that may begin with worked examples."""
    beginning = str(run.settings.get("prompt.template") or "").partition("{{")[0].strip()
    position = prompt.rfind(beginning) if beginning else -1
    question = prompt[position:] if position > 0 else prompt
    return question.strip()[-LONGEST:]


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]

"""Which column holds the question, the answer and the solution: as the user says, or by the names that are in use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlreason.data.golds import gold, solution_steps
from rlreason.data.sources import Row, names_of, shown
from rlreason.errors import UserError

# By rank: names of the same rank are equally likely. Dotted ones are those of verl and of SkyRL, where `prompt` is a
# list of messages, and what surrounds the question in it belongs to other prompts than ours.
QUESTIONS = (
    ("question", "problem"),
    ("extra_info.question",),
    ("prompt", "query", "instruction"),
    ("input", "text", "task", "question_text", "problem_text", "problem_statement", "messages"),
)
ANSWERS = (
    ("reward_model.ground_truth", "reward_spec.ground_truth"),
    (
        *("answer", "final_answer", "expected_answer", "correct_answer", "reference_answer"),
        *("gold_answer", "golden_answer", "gold", "ground_truth", "ground_truth_answer"),
    ),
    ("result", "target", "label", "reference", "expected", "gt", "numerical_answer"),
    ("output", "response", "completion"),
)
SOLUTIONS = (
    (
        *("solution", "rationale", "reasoning", "explanation"),
        *("worked_solution", "reference_solution", "gold_solution"),
    ),
    ("cot", "chain_of_thought", "generated_solution", "steps"),
    ("extra_info.answer",),
)
SPLITS = (("split",), ("extra_info.split",))
USER_ROLES = ("user", "human")


@dataclass(frozen=True)
class Columns:
    """The columns that a problem is made of.

    Args:
        question: Holds the question: text, or messages of which one is the user's.
        answer: Holds the gold answer, or a worked solution that ends with it.
        solution: Holds the worked solution; None where no column of its own does.
        guessed: Which of them were guessed, as the user would name them: "data.question=problem".
    """

    question: str
    answer: str
    solution: str | None
    guessed: Sequence[str]


def columns_of(rows: Sequence[Row], question: str | None, answer: str | None, solution: str | None) -> Columns:
    """The columns that the user named, and guesses for the others.

    Args:
        rows: All rows of the data.
        question: The user's choice, as are the others; None: to be guessed.
        answer: See `question`.
        solution: See `question`.

    Raises:
        UserError: No column has a name that is known for what is looked for, or several equally good ones have.
    """
    chosen = {
        "question": question or guess(rows, QUESTIONS, "question"),
        "solution": solution or guess(rows, SOLUTIONS, "solution"),
    }
    # A data set without a column for the answer states it at the end of its solutions, as MATH does.
    chosen["answer"] = answer or guess(rows, ANSWERS, "answer") or chosen["solution"]
    for what in ("question", "answer"):
        if chosen[what] is None:
            there = dict.fromkeys(str(name) for row in rows for name in row.values)
            raise UserError(
                f"{rows[0].place}: no column has a name that is known for the {what} (there: {names_of(there)}); "
                f"name it: data.{what}=COLUMN"
            )
    given = {"question": question, "answer": answer, "solution": solution}
    guessed = [f"data.{what}={chosen[what]}" for what in given if given[what] is None and chosen[what] is not None]
    found = chosen["solution"] if chosen["solution"] != chosen["answer"] else None
    return Columns(str(chosen["question"]), str(chosen["answer"]), found, guessed)


def guess(rows: Sequence[Row], ranks: Sequence[Sequence[str]], what: str) -> str | None:
    """The column whose name has the first rank among those that hold something; None where there is none.

    Args:
        rows: All rows of the data.
        ranks: Names in lower case, with "_" between words.
        what: What is looked for, as the field of the section `data` that chooses it.

    Raises:
        UserError: Several columns have names of that rank.
    """
    there = {
        name: _plain(name)
        for name in dict.fromkeys(str(name) for row in rows for name, value in row.values.items() if value is not None)
    }
    for rank in ranks:
        found = [name for name, plain in there.items() if plain in rank]
        found += [name for name in rank if "." in name and any(row.find(name) is not None for row in rows)]
        if len(found) > 1:
            raise UserError(
                f"{rows[0].place}: the columns {', '.join(map(repr, found))} may all be the {what}; "
                f"choose one: data.{what}={found[0]}"
            )
        if found:
            return found[0]
    return None


def question_of(row: Row, column: str) -> str:
    """The question of a row: its text, or what the user says in its messages.

    Raises:
        UserError: It is missing, or neither text nor messages of which exactly one is the user's.
    """
    value = row.value(column)
    if not isinstance(value, list):
        return row.text(column)
    asked = [
        message.get("content", message.get("value"))
        for message in value
        if isinstance(message, Mapping) and message.get("role", message.get("from")) in USER_ROLES
    ]
    if len(asked) != 1 or not isinstance(asked[0], str) or not asked[0].strip():
        raise UserError(
            f"{row.place}: the column {column!r} must be text, or messages of which exactly one is the user's and is "
            f"text; it is {shown(value)}"
        )
    return asked[0].strip()


def answer_of(row: Row, columns: Columns) -> tuple[tuple[str, ...], str]:
    """The steps of the reference solution of a row, empty where there is none, and its gold answer.

    Raises:
        UserError: The answer is missing or is no gold answer, or the solution is not text.
    """
    value = row.value(columns.answer)
    try:
        steps, answer = gold(value)
    except ValueError as error:
        raise UserError(
            f"{row.place}: the column {columns.answer!r} {error} (it is {shown(value)}); give a number, a text, or a "
            "solution that ends with its answer, as in '#### 18', '\\boxed{18}' or 'the answer is 18'"
        ) from error
    if columns.solution is not None and row.find(columns.solution) is not None:
        steps = solution_steps(_lines(row, columns.solution), answer) or steps
    return steps, answer


def _lines(row: Row, column: str) -> str:
    value: Any = row.value(column)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return row.text(column)


def _plain(name: str) -> str:
    """A name in lower case, with "_" between its words: "final_answer" for "Final Answer" and "finalAnswer"."""
    return re.sub(r"[\s_-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())).casefold()

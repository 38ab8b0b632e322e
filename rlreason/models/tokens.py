"""Texts as the tokens that a model reads and writes: one place for every encoding and for what ends a text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlreason.config.sections import ModelConfig, declared_kind
from rlreason.errors import UserError

# What a solution may stand behind where its own prompt would melt into its first token: the end of a line or of a word.
STANDINS = ("\n", "a")
ORDINARY = "Mia has 17 coins , and Ben has 2.5 times  as many.\n\n17*2.5=42.5 (they don't share)\n#### 42.5"
SHOWN = 30  # characters of a text around what a tokeniser has lost


def encoded_prompts(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    """Token ids of texts that a model goes on from.

    Args:
        tokenizer: The model's.
        texts: As the model reads them.
        special: Whether to put the tokens before them that the tokeniser begins a text with. Those that it ends a text
            with, as some do, never stand behind a prompt.
    """
    if not texts:
        return []
    if not special:
        return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"])
    bare, whole = (tokenizer(["a"], add_special_tokens=wanted)["input_ids"][0] for wanted in (False, True))
    starts = [first for first in range(len(whole)) if whole[first : first + len(bare)] == bare]
    behind = len(whole) - len(bare) - starts[0] if starts else 0
    found = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    return [ids[: len(ids) - behind] for ids in found]


def continuation(tokenizer: Any, before: str, text: str) -> tuple[int, ...]:
    """Token ids of `text` as the tokeniser writes it behind `before`: the joined text's without those of `before`.

    Encoded alone a text would be another one: Llama 2's tokeniser puts a space before it, which no model writes at the
    beginning of a line. Where a token would reach over the border, the text stands behind another border instead.
    """
    # The line that the text goes on from decides; the same for all questions, so that it is encoded once.
    cut = before.rstrip("\n").rfind("\n") + 1
    for border in (before[cut:], *STANDINS):
        head = _encoded_border(tokenizer, border)
        joined = tuple(tokenizer(border + text, add_special_tokens=False)["input_ids"])
        if joined[: len(head)] == head:
            return joined[len(head) :]
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@lru_cache(maxsize=1024)
def _encoded_border(tokenizer: Any, border: str) -> tuple[int, ...]:
    return tuple(tokenizer(border, add_special_tokens=False)["input_ids"])


def check_spelling(tokenizer: Any, texts: Iterable[str], name: str) -> None:
    """Refuse a tokeniser that does not give texts back; an ordinary one is tried besides `texts`.

    Unicode's composed form of a character is the same character, and a space before a whole text is nothing.

    Raises:
        UserError: It does not; `name` is what the user calls its model.
    """
    for text in (ORDINARY, *texts):
        wanted = _compared(text)
        found = _compared(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]))
        if found != wanted:
            alike = (position for position in range(len(wanted)) if found[position : position + 1] != wanted[position])
            first = max(0, next(alike, len(wanted)) - SHOWN // 2)
            was, became = wanted[first : first + SHOWN], found[first : first + SHOWN]
            raise UserError(
                f"model.path={name}: the tokeniser turns {was!r} into {became!r}, so the model would read other texts "
                "than the data's; load and save it with the version of transformers that it was made with, or use "
                "another model"
            )


def _compared(text: str) -> str:
    return unicodedata.normalize("NFC", text).lstrip(" ")


def end_ids(folder: Path, tokenizer: Any, chat: bool = False) -> tuple[int, ...]:
    """The tokens that end what a model writes, all that are named: a checkpoint's files often name one each.

    They are those of `generation_config.json`, or of `config.json` where that names none, of the tokeniser, and what
    the chat template closes an answer with.

    Args:
        folder: Of the checkpoint.
        tokenizer: Its tokeniser.
        chat: Whether the first of them, which closes a solution that is learned, is the chat template's.

    Returns:
        Token ids with an embedding, without repetition; empty where none is named.
    """
    settings, named = described(folder), proposals(folder).get("eos_token_id")
    several: list[Any] = list(named) if isinstance(named, list) else [named]
    own, turn = getattr(tokenizer, "eos_token_id", None), turn_end(tokenizer)
    ordered = [turn, own, *several] if chat else [own, *several, turn]
    return tuple(dict.fromkeys(token for token in ordered if is_embedded(token, settings)))


def turn_end(tokenizer: Any) -> int | None:
    """The special token that the chat template closes an answer with; None without a template, or where it has none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    import jinja2

    answer = "An answer."
    messages = [{"role": "user", "content": "A question?"}, {"role": "assistant", "content": answer}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError):
        return None  # a prompt that needs the template says what is wrong with it
    behind = tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    return next((token for token in behind if token in special), None)


def model_kind(config: ModelConfig, tokenizer: Any) -> str:
    """What a model was trained to do: "base", "instruct" or "embedded"; its tokeniser tells where nobody has said."""
    declared = declared_kind(config.kind, config.path)
    if declared is not None:
        return declared
    return "instruct" if getattr(tokenizer, "chat_template", None) else "base"


def is_embedded(token: Any, settings: Mapping[str, Any]) -> bool:
    """Whether `token` is the id of a token that a model of these settings (its `config.json`) has an embedding for."""
    return isinstance(token, int) and 0 <= token < settings.get("vocab_size", token + 1)


def check_embedded(folder: Path, ids: Iterable[int], tokenizer: Any, name: str) -> None:
    """Refuse token ids that the checkpoint in `folder` has no embedding for.

    Raises:
        UserError: One has none; `name` is what the user calls the model.
    """
    settings = described(folder)
    highest = max(ids, default=0)
    if not is_embedded(highest, settings):
        raise UserError(
            f"model.path={name}: prompts have the token {tokenizer.convert_ids_to_tokens(highest)!r} ({highest}), and "
            f"the model has only {settings['vocab_size']:,} embeddings; resize them (resize_token_embeddings), or use "
            "the tokeniser that belongs to the model"
        )


def described(folder: Path) -> Mapping[str, Any]:
    """What the `config.json` of a checkpoint says; nothing where there is none."""
    return _said(folder / "config.json")


def proposals(folder: Path) -> Mapping[str, Any]:
    """What the `generation_config.json` of a checkpoint says, with the tokens of `config.json` where it names none."""
    tokens = {name: described(folder).get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    said = {name: value for name, value in _said(folder / "generation_config.json").items() if value is not None}
    return {**{name: value for name, value in tokens.items() if value is not None}, **said}


def _said(file: Path) -> Mapping[str, Any]:
    return read_object(file, str(file)) if file.is_file() else {}


def read_object(file: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a checkpoint.

    Raises:
        UserError: It holds none; `name` is what the user calls the file.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{name} is not JSON; copy or download the model again") from error
    if not isinstance(values, dict):
        raise UserError(f"{name} is not a JSON object; copy or download the model again")
    return values

"""One spelling for each character: what a model writes in typographic, wide or foreign characters, in plain ones.

Everything that reads answers reads what this returns, so that no other file knows of these characters.
"""

from __future__ import annotations

import re
import unicodedata

_MINUS = "\u2010\u2011\u2012\u2013\u2212\u2796\ufe63\uff0d"
_OTHERS = {
    **dict.fromkeys(_MINUS, "-"),
    **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2715\u2716\u2a2f\u2062", "\u00d7"),  # crosses that multiply, and the sign that is not seen
    **dict.fromkeys("\u2795\u2064", "+"),
    "\u2797": "\u00f7",
    "\U0001f7f0": "=",
    "\u2063": ",",  # not seen, between the items of a list
    "\u066a": "%",
    **dict.fromkeys("\u00ba\u02da", "\u00b0"),  # what keyboards have in place of the sign of degrees
    "\u066b": ".",
    "\u066c": ",",
    "\u220e": " ",
}
_MOST_MARKS = 30  # on one character
_GROUPING_SPACES = "\u00a0\u2007\u2008\u2009\u200a\u202f"  # those that separate thousands
_GROUPED = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:\u00a0[0-9]{3})+(?![0-9])")
# Control characters, the marks that turn the direction of writing, and surrogates.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SUBSCRIPT = re.compile("[\u2080-\u2089]+")
_SUBSCRIPT_DIGITS = {0x2080 + digit: str(digit) for digit in range(10)}


class _Spellings(dict[int, str]):
    """The plain spelling of a character by its code, found when it is first asked for."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _plain_character(chr(code))
        return found


def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    if character in _OTHERS:
        return _OTHERS[character]
    if character in _GROUPING_SPACES:
        return "\u00a0"
    category, decomposition = unicodedata.category(character), unicodedata.decomposition(character)
    if decomposition.startswith(("<super>", "<sub>")):
        return character  # 5 squared is not 52
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    # What is not seen: zero-width and bidirectional marks, variation selectors, the frame of a keycap.
    if category in ("Cf", "Me") or "\ufe00" <= character <= "\ufe0f":
        return ""
    compatible = unicodedata.normalize("NFKC", character)
    if decomposition.startswith("<fraction>"):
        return " " + compatible.replace("\u2044", "/")
    if compatible == character and (category == "So" or "\U0001f3fb" <= character <= "\U0001f3ff"):
        return character if character == "\u00b0" else " "  # a picture, or the tone of its skin
    return "/" if compatible == "\u2044" else compatible


_SPELLINGS = _Spellings()


def plain_text(text: str) -> str:
    """A text in plain characters, with as many line ends as it had; what is plain already is returned as it is.

    Wide forms and the digits of all scripts become ASCII, a fraction in one character is written out
    ("1½" is "1 1/2"), spaces that separate thousands go, other spaces become plain ones, pictures become spaces, and
    what nobody sees goes. Superscripts stay; a subscript number becomes that of LaTeX ("52₈" is "52_{8}").
    """
    if text.isascii():
        return text
    plain = text.translate(_SPELLINGS)
    plain = _GROUPED.sub(lambda match: match[0].replace("\u00a0", ""), plain).replace("\u00a0", " ")
    plain = _SUBSCRIPT.sub(lambda match: f"_{{{match[0].translate(_SUBSCRIPT_DIGITS)}}}", plain)
    return unicodedata.normalize("NFC", _with_few_marks(plain))


def visible_text(text: str) -> str:
    r"""A text that is safe to show: what would steer a terminal, or turn the direction of writing, is written out.

    Line ends and tabs stay. "\x1b[2J" becomes the seven characters of its escape, a lone surrogate likewise, which no
    file could hold.
    """
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _with_few_marks(text: str) -> str:
    """A text with no more combining marks on one character than Unicode's stream-safe format allows.

    Marks are sorted where a text is composed, which takes a time that is quadratic in their number.
    """
    if not any(map(unicodedata.combining, set(text))):
        return text
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MOST_MARKS:
            kept.append(character)
    return "".join(kept)

"""`python -m bench.parity FILE ...`: our verdicts beside those of published extractions, on the same completions.

Each FILE is a run's `rollouts/STAGE.parquet` (with `--golds`, JSON Lines of `problem_id` and `answer`), or the JSON
Lines that lm_eval writes with `--log_samples`, whose own verdicts are then compared. Without a FILE a small corpus of
texts is.

The rules, written anew from what lm-evaluation-harness documents for `gsm8k`: strict is the first `#### NUMBER`,
flexible the last number; both are compared as text without commas, dollar signs and a last full stop. math-verify
reads the whole text by its own extraction.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

from rlreason.answers.equality import grade, verdicts
from rlreason.answers.extraction import final_answer_line, last_number

CORPUS = (
    ("6 * 7 = <<6*7=42>>42\n#### 42", "42"),
    ("#### $42.00", "42"),
    ("#### 42 pens", "42"),
    ("#### 1,234", "1234"),
    ("#### 40\nWait, 6 * 7 = 42.\n#### 42", "42"),
    ("#### 42\nQuestion: And of 5 and 8?\n#### 40", "42"),
    ("The answer is 42.", "42"),
    ("So \\boxed{42}.", "42"),
    ("\\boxed{\\frac{84}{2}}", "42"),
    ("It is 42 pens in 3 bags", "42"),
    ("#### 5 dozen", "60"),
    ("#### 6 * 7", "42"),
    ("#### 6 * 7 = 42", "42"),
    ("#### 41 or 42", "42"),
    ("<think>#### 41</think>\n#### 42", "42"),
    ("#### 50%", "0.5"),
    ("Nobody knows", "42"),
)
STRICT = re.compile(r"#### (-?[0-9.,]+)")
NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def plain(number: str | None) -> str | None:
    """A number as the exact match of the harness compares it."""
    return None if number is None else re.sub(r"[,$]", "", number).removesuffix(".")


def by_rules(text: str, gold: str) -> dict[str, bool]:
    """Verdicts of the published extractions."""
    first, numbers = STRICT.search(text), NUMBER.findall(text)
    return {
        "strict": first is not None and plain(first[1]) == plain(gold),
        "flexible": bool(numbers) and plain(numbers[-1]) == plain(gold),
        "math-verify": of_math_verify(text, gold),
    }


def of_math_verify(text: str, gold: str) -> bool:
    """The verdict of math-verify's own extraction."""
    from math_verify import parse, verify

    return bool(verify(parse(gold), parse(text)))


def ours(text: str, gold: str) -> dict[str, bool]:
    """Our standard and our lenient verdict."""
    verdict = verdicts([text], [gold])[0]
    number = last_number(text) if verdict.answer is None else None
    lenient = verdict.correct if number is None else grade([final_answer_line(number)], [gold])[0]
    return {"standard": verdict.correct, "lenient": lenient}


def samples(path: Path, golds: dict[str, str]) -> list[tuple[str, str, dict[str, bool]]]:
    """Text, gold answer and the verdicts that the file has, of every completion in it."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path, columns=["problem_id", "text"]).to_pylist()
        return [(row["text"], golds[row["problem_id"]], {}) for row in rows]
    found: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        names = {"strict-match": "strict", "flexible-extract": "flexible"}
        text, gold = row["resps"][0][0], row["target"].rpartition("####")[2].strip()
        found[text, gold][names.get(row["filter"], row["filter"])] = bool(row["exact_match"])
    return [(text, gold, theirs) for (text, gold), theirs in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--golds", type=Path, help="JSON Lines with problem_id and answer, for Parquet files")
    parser.add_argument("--shown", type=int, default=3, help="texts shown of every kind of difference")
    options = parser.parse_args()
    golds = {}
    if options.golds is not None:
        rows = map(json.loads, options.golds.read_text(encoding="utf-8").splitlines())
        golds = {row["problem_id"]: row["answer"] for row in rows}
    drawn = [item for path in options.files for item in samples(path, golds)]
    if not options.files:
        drawn = [(text, gold, {}) for text, gold in CORPUS]
    right: Counter[str] = Counter()
    differences: dict[str, list[str]] = defaultdict(list)
    for text, gold, reported in drawn:
        own, theirs = ours(text, gold), by_rules(text, gold) | reported
        right.update(name for name, verdict in (own | theirs).items() if verdict)
        for name, verdict in theirs.items():
            mine = "lenient" if name == "flexible" else "standard"
            if own[mine] != verdict:
                kind = f"{mine} {'right' if own[mine] else 'wrong'}, {name} {'right' if verdict else 'wrong'}"
                differences[kind].append(f"{text[-200:]!r}, gold {gold}")
    for name, count in right.items():
        print(f"{name}: {count:,} of {len(drawn):,} right")
    for kind, texts in sorted(differences.items()):
        print(f"{kind}: {len(texts):,}", *texts[: options.shown], sep="\n    ")


if __name__ == "__main__":
    main()

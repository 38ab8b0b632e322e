"""The findings of the paper as hypotheses, tested on a study's own runs."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.study.arms import Comparison


@dataclass(frozen=True)
class Finding:
    """One finding of the paper, and what this study says about it.

    Args:
        number: Of the finding.
        statement: The paper's claim.
        certainty: "known" or "likely": how sure it is that the paper says so.
        verdict: "holds", "does not hold" or "not enough evidence".
        evidence: One or two sentences with numbers.
    """

    number: int
    statement: str
    certainty: str
    verdict: str
    evidence: str


def findings(comparison: Comparison) -> list[Finding]:
    """Every finding that can be spoken of; empty where none can."""
    del comparison
    return []

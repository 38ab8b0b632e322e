"""What the planner knows of an experiment's algorithm, as its row tells."""

from __future__ import annotations

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig
from rlreason.planning.facts import AlgorithmFacts


def algorithm_facts(config: ExperimentConfig) -> AlgorithmFacts | None:
    """What its algorithm draws, learns and keeps; None where the row does not tell."""
    plan = ALGORITHMS[config.algo.name].plan
    return None if plan is None else plan(config.algo)

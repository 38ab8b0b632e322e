"""Everything that an experiment trains: the start, the outcome reward model, the policy, as the rows tell."""

from __future__ import annotations

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.needs import trains_outcome_model
from rlreason.config.sections import SFTInitConfig
from rlreason.planning.facts import AlgorithmFacts, Update


def algorithm_facts(config: ExperimentConfig) -> AlgorithmFacts | None:
    """What the algorithm draws, learns and keeps; None where its row does not tell."""
    plan = ALGORITHMS[config.algo.name].plan
    return None if plan is None else plan(config.algo)


def updates(config: ExperimentConfig) -> list[Update]:
    """The kinds of training of an experiment, in the order in which they come; without those that are not known."""
    facts = algorithm_facts(config)
    found = (initial_update(config), outcome_update(config), None if facts is None else facts.update)
    return [update for update in found if update is not None]


def initial_update(config: ExperimentConfig) -> Update | None:
    """The supervised fine-tuning of `init=sft`; None without it."""
    if not isinstance(config.init, SFTInitConfig):
        return None
    return Update("SFT (init)", "init", config.init, lambda sizes: sizes.reference)


def outcome_update(config: ExperimentConfig) -> Update | None:
    """The training of the outcome reward model; None without it."""
    if not trains_outcome_model(config):
        return None
    loss = "outcome" if config.orm.likelihood else "value"
    return Update("ORM training", "orm", config.orm, lambda sizes: sizes.longest_completion, loss=loss)

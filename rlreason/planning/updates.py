"""Everything that an experiment trains: the start, the outcome reward model, the policy."""

from __future__ import annotations

from rlreason.config.experiment import ExperimentConfig
from rlreason.config.needs import trains_outcome_model
from rlreason.config.sections import SFTInitConfig
from rlreason.planning.algorithms import algorithm_facts
from rlreason.planning.facts import Update


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

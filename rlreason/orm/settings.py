"""The settings of the outcome reward model."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.base import setting
from rlreason.config.updates import SupervisedConfig
from rlreason.run.checkpoints import outcome_model_path


@dataclass(frozen=True, kw_only=True)
class OutcomeModelConfig(SupervisedConfig):
    """The outcome reward model (ORM): p(the solution will be right | question, steps so far)."""

    name: str = setting("outcome, rollout or local")
    path: str | None = setting(
        "folder of a trained ORM, or of a run of algo=orm; null: train one as described here, cached for later runs",
        read=outcome_model_path,
    )
    samples: int = setting("K, solutions sampled for every training question", at_least=1)
    temperature: float = setting("sampling temperature of those solutions", above=0)
    label: str = setting(
        "a prefix's label: the outcome of its own solution, or the share of right continuations from it",
        choices=("outcome", "rollout"),
    )
    continuations: int = setting("continuations sampled from every prefix with label=rollout", at_least=1)
    loss_on: str = setting(
        "positions with loss: steps (each step's last token) or tokens (every token)", choices=("steps", "tokens")
    )
    likelihood: bool = setting("the head also reads how likely the language model finds the solution so far")

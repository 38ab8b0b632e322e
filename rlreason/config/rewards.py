"""What earns credit, and the outcome reward model behind it."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.base import Settings, SupervisedConfig, require, setting


@dataclass(frozen=True, kw_only=True)
class SparseRewardConfig(Settings):
    """1 for a right final answer, 0 otherwise, received at the last token of the answer."""

    name: str = setting("sparse")
    threshold: float = setting("return from which expert iteration keeps a solution")


@dataclass(frozen=True, kw_only=True)
class DenseRewardConfig(Settings):
    """The sparse reward, and credit for every result of the reference solution that a step reaches."""

    name: str = setting("dense")
    weight: float = setting(
        "credit for all results of the reference solution together, shared among them; reward=sparse gives none",
        above=0,
    )
    threshold: float = setting("return from which expert iteration keeps a solution")

    def check(self) -> None:
        """Refuse credit for steps that weighs as much as a right answer, unless it is asked for."""
        require(
            self.weight < 1,
            f"reward.weight={self.weight} must be below 1, or every step without a right answer is worth as much as "
            "a right answer",
        )


@dataclass(frozen=True, kw_only=True)
class OutcomeRewardConfig(Settings):
    """The outcome reward model's probability that the solution is right; the section `orm` says which model."""

    name: str = setting("orm")
    at: str = setting(
        "end: the last step's score at the last step; steps: each step receives what it adds to the score",
        choices=("end", "steps"),
    )
    threshold: float | None = setting(
        "score from which expert iteration keeps a solution; null: calibrated on the validation questions"
    )


@dataclass(frozen=True, kw_only=True)
class OutcomeModelConfig(SupervisedConfig):
    """The outcome reward model (ORM): p(the solution will be right | question, steps so far)."""

    name: str = setting("outcome, rollout or local")
    path: str | None = setting(
        "folder of a trained ORM, such as runs/NAME/orm; null: train one as described here, cached for later runs"
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

"""What earns credit, and the outcome reward model behind it."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.base import SupervisedConfig, documented, one_of, require


@dataclass(frozen=True, kw_only=True)
class SparseRewardConfig:
    """1 for a right final answer, 0 otherwise, received at the last token of the answer."""

    name: str = documented("sparse")
    threshold: float = documented("return from which expert iteration keeps a solution")


@dataclass(frozen=True, kw_only=True)
class DenseRewardConfig:
    """The sparse reward, and credit for every result of the reference solution that a step reaches."""

    name: str = documented("dense")
    weight: float = documented(
        "credit for all results of the reference solution together, shared among them so that lengths are equal"
    )
    threshold: float = documented("return from which expert iteration keeps a solution")

    def __post_init__(self) -> None:
        require(self.weight > 0, f"reward.weight={self.weight} must be above 0; reward=sparse gives no step credit")
        require(
            self.weight < 1,
            f"reward.weight={self.weight} must be below 1, or every step without a right answer is worth as much as "
            "a right answer",
        )


@dataclass(frozen=True, kw_only=True)
class OutcomeRewardConfig:
    """The outcome reward model's probability that the solution is right; the section `orm` says which model."""

    name: str = documented("orm")
    at: str = documented(
        "end: the last step's score at the last step; steps: each step receives what it adds to the score"
    )
    threshold: float | None = documented(
        "score from which expert iteration keeps a solution; null: calibrated on the validation questions"
    )

    def __post_init__(self) -> None:
        one_of("reward.at", self.at, ("end", "steps"))


@dataclass(frozen=True, kw_only=True)
class OutcomeModelConfig(SupervisedConfig):
    """The outcome reward model (ORM): p(the solution will be right | question, steps so far)."""

    name: str = documented("outcome, rollout or local")
    path: str | None = documented("folder of a trained ORM; null: train one as described here, cached for later runs")
    samples: int = documented("solutions sampled for every training question (K)")
    temperature: float = documented("sampling temperature of those solutions")
    label: str = documented("a prefix's label: outcome (of its own solution) or rollout (share of right continuations)")
    continuations: int = documented("continuations sampled from every prefix with label=rollout")
    loss_on: str = documented("positions with loss: steps (each step's last token) or tokens (every token)")
    likelihood: bool = documented("the head also reads how likely the language model finds the solution so far")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("orm.label", self.label, ("outcome", "rollout"))
        one_of("orm.loss_on", self.loss_on, ("steps", "tokens"))
        require(self.path != "???", "orm.path is empty: name the folder of a trained ORM, e.g. orm.path=runs/NAME/orm")
        for key in ("samples", "continuations"):
            require(getattr(self, key) >= 1, f"orm.{key}={getattr(self, key)} must be at least 1")
        require(self.temperature > 0, f"orm.temperature={self.temperature} must be above 0")

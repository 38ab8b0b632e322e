"""How the policy is trained."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.base import SupervisedConfig, documented, one_of, require


@dataclass(frozen=True, kw_only=True)
class SFTConfig(SupervisedConfig):
    """Supervised fine-tuning on the reference solutions, as an algorithm."""

    name: str = documented("sft")
    evaluations: int = documented("checkpoints evaluated on the way, evenly spaced; 1: only the last")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.evaluations >= 1, f"algo.evaluations={self.evaluations} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ExpertIterationConfig(SupervisedConfig):
    """Expert iteration: sample, keep the best, fine-tune, repeat."""

    name: str = documented("ei")
    rounds: int = documented("largest number of rounds")
    samples: int = documented("solutions sampled for every training question in a round (K)")
    questions: int = documented("training questions per round, a fresh seeded draw each round; 0 means all of them")
    temperature: float = documented("sampling temperature")
    keep: str = documented("solutions kept: return (at least the threshold), correct (right answer), or both")
    threshold: float | None = documented("solutions whose return is at least this are kept; null: the reward's own")
    deduplicate: str = documented(
        "within a question, keep one solution per: steps (normalised), operations (arithmetic only), text, or none"
    )
    aggregate: bool = documented("train on the solutions of all rounds so far, not only the latest")
    restart: str = documented("every round fine-tunes: base (pretrained, as in the paper), init (SFT), or policy")
    join_references: bool = documented("add the reference solutions to the training data of every round")
    patience: int = documented("stop after this many rounds in a row without a better validation maj@1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rounds >= 1, f"algo.rounds={self.rounds} must be at least 1")
        require(self.samples >= 1, f"algo.samples={self.samples}: K must be at least 1")
        require(self.questions >= 0, f"algo.questions={self.questions} must not be negative (0 means all)")
        require(
            self.temperature > 0, f"algo.temperature={self.temperature} must be above 0: K equal samples teach nothing"
        )
        one_of("algo.keep", self.keep, ("return", "correct", "both"))
        one_of("algo.deduplicate", self.deduplicate, ("steps", "operations", "text", "none"))
        one_of("algo.restart", self.restart, ("base", "init", "policy"))
        require(self.patience >= 1, f"algo.patience={self.patience} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ReturnConditionedConfig(SupervisedConfig):
    """Return-conditioned RL: learn from right and wrong solutions under tags, ask for the good one."""

    name: str = documented("rcrl")
    rollouts: str | None = documented(
        "stored rollouts to learn from: a run folder or a Parquet file; null: sample them"
    )
    samples: int = documented("solutions sampled for every training question (K)")
    questions: int = documented("training questions, a seeded draw; 0 means all of them")
    temperature: float = documented("sampling temperature")
    per: str = documented("a tag for every step, or one for the solution")
    labels: str = documented("what decides good or bad: outcome (the answer) or orm (the score reaches the threshold)")
    threshold: float | None = documented(
        "ORM score from which a step is good; null: calibrated on validation questions"
    )
    good_per_bad: float | None = documented("solutions with a right answer kept per one with a wrong answer; null: all")
    deduplicate: str = documented("within a question, keep one solution per: steps, operations, text, or none")
    good_tag: str = documented("written before what is good, and asked for at test time")
    bad_tag: str = documented("written before what is bad")
    tags_as: str = documented("tags are ordinary text, or tokens added to the vocabulary")
    restart: str = documented("checkpoint that is fine-tuned: base (pretrained) or init (SFT)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.samples >= 1, f"algo.samples={self.samples}: K must be at least 1")
        require(self.questions >= 0, f"algo.questions={self.questions} must not be negative (0 means all)")
        require(self.temperature > 0, f"algo.temperature={self.temperature} must be above 0")
        one_of("algo.per", self.per, ("step", "solution"))
        one_of("algo.labels", self.labels, ("outcome", "orm"))
        one_of("algo.deduplicate", self.deduplicate, ("steps", "operations", "text", "none"))
        one_of("algo.tags_as", self.tags_as, ("text", "tokens"))
        one_of("algo.restart", self.restart, ("base", "init"))
        ratio = self.good_per_bad
        require(ratio is None or ratio > 0, f"algo.good_per_bad={ratio} must be above 0, or null to keep all")
        require(
            self.good_tag.strip() != "" and self.bad_tag.strip() != "" and self.good_tag != self.bad_tag,
            f"algo.good_tag={self.good_tag!r} and algo.bad_tag={self.bad_tag!r} must be two different texts",
        )
        require("\n" not in self.good_tag + self.bad_tag, "algo.good_tag and algo.bad_tag must not hold a line end")


@dataclass(frozen=True, kw_only=True)
class OutcomeModelAlgorithmConfig:
    """Train the outcome reward model that the section `orm` describes, and report how well it judges."""

    name: str = documented("orm")

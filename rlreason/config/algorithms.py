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
    deduplicate: str = documented("within a question, keep one solution per: steps, operations, text, or none")
    good_tag: str = documented("token added to the vocabulary, before what is good; asked for at test time")
    bad_tag: str = documented("token added to the vocabulary, before what is bad")
    restart: str = documented("checkpoint that is fine-tuned: base (pretrained) or init (SFT)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.samples >= 1, f"algo.samples={self.samples}: K must be at least 1")
        require(self.questions >= 0, f"algo.questions={self.questions} must not be negative (0 means all)")
        require(self.temperature > 0, f"algo.temperature={self.temperature} must be above 0")
        one_of("algo.per", self.per, ("step", "solution"))
        one_of("algo.labels", self.labels, ("outcome", "orm"))
        one_of("algo.deduplicate", self.deduplicate, ("steps", "operations", "text", "none"))
        one_of("algo.restart", self.restart, ("base", "init"))
        require(
            self.good_tag.strip() != "" and self.bad_tag.strip() != "" and self.good_tag != self.bad_tag,
            f"algo.good_tag={self.good_tag!r} and algo.bad_tag={self.bad_tag!r} must be two different texts",
        )
        require("\n" not in self.good_tag + self.bad_tag, "algo.good_tag and algo.bad_tag must not hold a line end")


@dataclass(frozen=True, kw_only=True)
class OutcomeModelAlgorithmConfig:
    """Train the outcome reward model that the section `orm` describes, and report how well it judges."""

    name: str = documented("orm")


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig:
    """What PPO and GRPO share: batches of fresh rollouts, each learned from and dropped."""

    batches: int = documented("batches of rollouts; each is sampled from the policy of that moment")
    questions: int = documented("training questions per batch")
    samples: int = documented("solutions sampled for every question of a batch (K), at least 2")
    temperature: float = documented("sampling temperature")
    epochs: int = documented("passes over each batch of rollouts")
    minibatch_size: int = documented("rollouts per optimizer step; must divide questions times samples")
    micro_batch_size: int = documented("rollouts per forward pass; must divide minibatch_size")
    learning_rate: float = documented("peak learning rate of AdamW")
    warmup_ratio: float = documented("share of the steps in which the learning rate rises from 0")
    schedule: str = documented("learning rate after the warm-up: cosine, linear or constant")
    weight_decay: float = documented("AdamW weight decay")
    max_grad_norm: float = documented("gradient norm above which gradients are scaled down")
    clip: float = documented("the probability ratio is clipped to 1 - clip .. 1 + clip")
    kl_coefficient: float = documented("weight of the KL to the initial policy; 0: no reference model is held")
    entropy_coefficient: float = documented("weight of an entropy bonus in the loss")
    importance_cap: float | None = documented(
        "cap of the weights that correct for the sampler's numerics; null: no correction"
    )
    gap_limit: float = documented(
        "mean |log-prob of trainer - log-prob of sampler| per token, in nats, above which the run ends"
    )
    evaluations: int = documented("evaluations on the way, evenly spaced, the last at the end")
    replay: str = documented("order of questions: uniform passes, or prioritized by what can be learned from them")
    backtracking: bool = documented("start from a part of the reference solution, shortened as it is mastered")

    @property
    def batch_size(self) -> int:
        """Rollouts per batch."""
        return self.questions * self.samples

    def __post_init__(self) -> None:
        for key in ("batches", "questions", "epochs", "minibatch_size", "micro_batch_size", "evaluations"):
            require(getattr(self, key) >= 1, f"algo.{key}={getattr(self, key)} must be at least 1")
        require(self.samples >= 2, f"algo.samples={self.samples} must be at least 2")
        require(
            self.batch_size % self.minibatch_size == 0,
            f"algo.minibatch_size={self.minibatch_size} must divide algo.questions x algo.samples = {self.batch_size}",
        )
        require(
            self.minibatch_size % self.micro_batch_size == 0,
            f"algo.micro_batch_size={self.micro_batch_size} must divide algo.minibatch_size={self.minibatch_size}",
        )
        require(self.evaluations <= self.batches, f"algo.evaluations={self.evaluations} is more than algo.batches")
        require(self.temperature > 0, f"algo.temperature={self.temperature} must be above 0")
        require(self.learning_rate > 0, f"algo.learning_rate={self.learning_rate} must be above 0")
        require(0 <= self.warmup_ratio < 1, f"algo.warmup_ratio={self.warmup_ratio} must be in [0, 1)")
        one_of("algo.schedule", self.schedule, ("cosine", "linear", "constant"))
        require(self.weight_decay >= 0, f"algo.weight_decay={self.weight_decay} must not be negative")
        require(self.max_grad_norm > 0, f"algo.max_grad_norm={self.max_grad_norm} must be above 0")
        require(0 < self.clip < 1, f"algo.clip={self.clip} must be between 0 and 1")
        require(self.kl_coefficient >= 0, f"algo.kl_coefficient={self.kl_coefficient} must not be below 0")
        require(
            self.entropy_coefficient >= 0, f"algo.entropy_coefficient={self.entropy_coefficient} must not be below 0"
        )
        cap = self.importance_cap
        require(cap is None or cap >= 1, f"algo.importance_cap={cap} must be at least 1, or null for no correction")
        require(self.gap_limit > 0, f"algo.gap_limit={self.gap_limit} must be above 0")
        one_of("algo.replay", self.replay, ("uniform", "prioritized"))


@dataclass(frozen=True, kw_only=True)
class PPOConfig(OnPolicyConfig):
    """PPO: clipped policy gradient with a critic, rewards and a KL penalty at every token."""

    name: str = documented("ppo")
    gamma: float = documented("discount per token")
    gae_lambda: float = documented("generalised advantage estimation: 0 trusts the critic, 1 the sampled return")
    whiten: bool = documented("shift and scale advantages to mean 0 and variance 1 over the tokens of a batch")
    truncated: str = documented("a completion cut at its limit: bootstrap (critic's value), zero, or mask (no loss)")
    critic: str = documented("shared (a head on the policy's trunk) or separate (a model of its own)")
    critic_start: str = documented("separate critic starts as: policy (init checkpoint) or orm (outcome reward model)")
    critic_learning_rate: float = documented("peak learning rate of the critic's head, or of the separate critic")
    value_coefficient: float = documented("weight of the value loss beside the policy's")
    value_clip: float | None = documented("values move at most this far per batch; null: no clipping")
    value_warmup: int = documented("first batches in which only the critic learns")
    kl_in: str = documented("the KL penalty is part of the reward of each token (reward), or of the loss (loss)")
    kl_target: float | None = documented(
        "KL per completion that an adaptive coefficient holds; null: fixed coefficient"
    )
    kl_stop: float | None = documented(
        "mean KL between the policies before and after a step at which a batch's epochs end; null: never"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("gamma", "gae_lambda"):
            require(0 <= getattr(self, key) <= 1, f"algo.{key}={getattr(self, key)} must be in [0, 1]")
        one_of("algo.truncated", self.truncated, ("bootstrap", "zero", "mask"))
        one_of("algo.critic", self.critic, ("shared", "separate"))
        one_of("algo.critic_start", self.critic_start, ("policy", "orm"))
        one_of("algo.kl_in", self.kl_in, ("reward", "loss"))
        require(
            self.critic_start == "policy" or self.critic == "separate",
            "algo.critic_start=orm needs algo.critic=separate: a shared critic has the policy's trunk",
        )
        require(self.critic_learning_rate > 0, f"algo.critic_learning_rate={self.critic_learning_rate} must be above 0")
        require(self.value_coefficient > 0, f"algo.value_coefficient={self.value_coefficient} must be above 0")
        for key in ("value_clip", "kl_target", "kl_stop"):
            value = getattr(self, key)
            require(value is None or value > 0, f"algo.{key}={value} must be above 0, or null")
        require(
            0 <= self.value_warmup < self.batches, f"algo.value_warmup={self.value_warmup} must be below algo.batches"
        )
        require(
            self.kl_target is None or self.kl_coefficient > 0,
            "algo.kl_target adapts algo.kl_coefficient, which must start above 0",
        )


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(OnPolicyConfig):
    """GRPO: clipped policy gradient with the other solutions of a question in the place of a critic."""

    name: str = documented("grpo")
    advantage: str = documented(
        "group (return minus the group's mean, over its deviation), dr_grpo (no deviation) or rloo (mean of the others)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("algo.advantage", self.advantage, ("group", "dr_grpo", "rloo"))

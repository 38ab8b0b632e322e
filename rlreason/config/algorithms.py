"""How the policy is trained."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.base import SCHEDULES, Settings, SupervisedConfig, require, setting

DEDUPLICATE = ("steps", "operations", "text", "none")


@dataclass(frozen=True, kw_only=True)
class SFTConfig(SupervisedConfig):
    """Supervised fine-tuning on the reference solutions, as an algorithm."""

    name: str = setting("sft")
    evaluations: int = setting("checkpoints evaluated on the way, evenly spaced; 1: only the last", at_least=1)


@dataclass(frozen=True, kw_only=True)
class ExpertIterationConfig(SupervisedConfig):
    """Expert iteration: sample, keep the best, fine-tune, repeat."""

    name: str = setting("ei")
    rounds: int = setting("largest number of rounds", at_least=1)
    samples: int = setting("K, solutions sampled for every training question in a round", at_least=1)
    questions: int = setting(
        "training questions per round, a fresh seeded draw each round; 0 means all of them", at_least=0
    )
    temperature: float = setting("sampling temperature; at 0, K equal samples would teach nothing", above=0)
    keep: str = setting(
        "solutions kept: those whose return is at least the threshold, whose answer is correct, or both",
        choices=("return", "correct", "both"),
    )
    threshold: float | None = setting("solutions whose return is at least this are kept; null: the reward's own")
    deduplicate: str = setting(
        "what makes two solutions of a question equal, so that one is kept: the normalised steps, the arithmetic "
        "operations only, or the text",
        choices=DEDUPLICATE,
    )
    aggregate: bool = setting("train on the solutions of all rounds so far, not only the latest")
    restart: str = setting(
        "checkpoint that every round fine-tunes: base (pretrained, as in the paper), init (SFT), or the policy so far",
        choices=("base", "init", "policy"),
    )
    patience: int = setting("stop after this many rounds in a row without a better validation maj@1", at_least=1)


@dataclass(frozen=True, kw_only=True)
class ReturnConditionedConfig(SupervisedConfig):
    """Return-conditioned RL: learn from right and wrong solutions under tags, ask for the good one."""

    name: str = setting("rcrl")
    rollouts: str | None = setting("stored rollouts to learn from: a run folder or a Parquet file; null: sample them")
    samples: int = setting("K, solutions sampled for every training question", at_least=1)
    questions: int = setting("training questions, a seeded draw; 0 means all of them", at_least=0)
    temperature: float = setting("sampling temperature", above=0)
    per: str = setting("what gets a tag of its own", choices=("step", "solution"))
    labels: str = setting(
        "what decides good or bad: the answer's outcome, or whether the ORM's score reaches the threshold",
        choices=("outcome", "orm"),
    )
    threshold: float | None = setting("ORM score from which a step is good; null: calibrated on validation questions")
    deduplicate: str = setting("what makes two solutions of a question equal, so that one is kept", choices=DEDUPLICATE)
    good_tag: str = setting("token added to the vocabulary, before what is good; asked for at test time")
    bad_tag: str = setting("token added to the vocabulary, before what is bad")
    restart: str = setting("checkpoint that is fine-tuned: base (pretrained) or init (SFT)", choices=("base", "init"))

    def check(self) -> None:
        """Refuse tags that cannot be told apart or would end a step."""
        super().check()
        require(
            self.good_tag.strip() != "" and self.bad_tag.strip() != "" and self.good_tag != self.bad_tag,
            f"algo.good_tag={self.good_tag!r} and algo.bad_tag={self.bad_tag!r} must be two different texts",
        )
        require("\n" not in self.good_tag + self.bad_tag, "algo.good_tag and algo.bad_tag must not hold a line end")


@dataclass(frozen=True, kw_only=True)
class OutcomeModelAlgorithmConfig(Settings):
    """Train the outcome reward model that the section `orm` describes, and report how well it judges."""

    name: str = setting("orm")


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(Settings):
    """What PPO and GRPO share: batches of fresh rollouts, each learned from and dropped."""

    batches: int = setting("batches of rollouts; each is sampled from the policy of that moment", at_least=1)
    questions: int = setting("training questions per batch", at_least=1)
    samples: int = setting("K, solutions sampled for every question of a batch", at_least=2)
    temperature: float = setting("sampling temperature", above=0)
    epochs: int = setting("passes over each batch of rollouts", at_least=1)
    minibatch_size: int = setting("rollouts per optimizer step; must divide questions times samples", at_least=1)
    micro_batch_size: int = setting("rollouts per forward pass; must divide minibatch_size", at_least=1)
    learning_rate: float = setting("peak learning rate of AdamW", above=0)
    warmup_ratio: float = setting("share of the steps in which the learning rate rises from 0", at_least=0, below=1)
    schedule: str = setting("learning rate after the warm-up", choices=SCHEDULES)
    weight_decay: float = setting("AdamW weight decay", at_least=0)
    max_grad_norm: float = setting("gradient norm above which gradients are scaled down", above=0)
    clip: float = setting("the probability ratio is clipped to 1 - clip .. 1 + clip", above=0, below=1)
    kl_coefficient: float = setting("weight of the KL to the initial policy; 0: no reference model is held", at_least=0)
    entropy_coefficient: float = setting("weight of an entropy bonus in the loss", at_least=0)
    importance_cap: float | None = setting(
        "cap of the weights that correct for the sampler's numerics; null: no correction", at_least=1
    )
    gap_limit: float = setting(
        "mean |log-prob of trainer - log-prob of sampler| per token, in nats, above which the run ends", above=0
    )
    evaluations: int = setting("evaluations on the way, evenly spaced, the last at the end", at_least=1)
    replay: str = setting(
        "order of questions: uniform passes, or prioritized by what can be learned from them",
        choices=("uniform", "prioritized"),
    )
    backtracking: bool = setting("start from a part of the reference solution, shortened as it is mastered")

    @property
    def batch_size(self) -> int:
        """Rollouts per batch."""
        return self.questions * self.samples

    def check(self) -> None:
        """Refuse batches that do not divide, and more evaluations than batches."""
        require(
            self.batch_size % self.minibatch_size == 0,
            f"algo.minibatch_size={self.minibatch_size} must divide algo.questions x algo.samples = {self.batch_size}",
        )
        require(
            self.minibatch_size % self.micro_batch_size == 0,
            f"algo.micro_batch_size={self.micro_batch_size} must divide algo.minibatch_size={self.minibatch_size}",
        )
        require(self.evaluations <= self.batches, f"algo.evaluations={self.evaluations} is more than algo.batches")


@dataclass(frozen=True, kw_only=True)
class PPOConfig(OnPolicyConfig):
    """PPO: clipped policy gradient with a critic, rewards and a KL penalty at every token."""

    name: str = setting("ppo")
    gamma: float = setting("discount per token", at_least=0, at_most=1)
    gae_lambda: float = setting(
        "generalised advantage estimation: 0 trusts the critic, 1 the sampled return", at_least=0, at_most=1
    )
    whiten: bool = setting("shift and scale advantages to mean 0 and variance 1 over the tokens of a batch")
    truncated: str = setting(
        "a completion cut at its limit: bootstrap (critic's value), zero, or mask (no loss)",
        choices=("bootstrap", "zero", "mask"),
    )
    critic: str = setting("a head on the policy's trunk, or a separate model", choices=("shared", "separate"))
    critic_start: str = setting(
        "separate critic starts as: policy (init checkpoint) or orm (outcome reward model)", choices=("policy", "orm")
    )
    critic_learning_rate: float = setting("peak learning rate of the critic's head, or of the separate critic", above=0)
    value_coefficient: float = setting("weight of the value loss beside the policy's", above=0)
    value_clip: float | None = setting("values move at most this far per batch; null: no clipping", above=0)
    value_warmup: int = setting("first batches in which only the critic learns", at_least=0)
    kl_in: str = setting(
        "the KL penalty is part of the reward of each token, or of the loss", choices=("reward", "loss")
    )
    kl_target: float | None = setting(
        "KL per completion that an adaptive coefficient holds; null: fixed coefficient", above=0
    )
    kl_stop: float | None = setting(
        "mean KL between the policies before and after a step at which a batch's epochs end; null: never", above=0
    )

    def check(self) -> None:
        """Refuse a shared critic with a start of its own, a warm-up of all batches, and a target without a penalty."""
        super().check()
        require(
            self.critic_start == "policy" or self.critic == "separate",
            "algo.critic_start=orm needs algo.critic=separate: a shared critic has the policy's trunk",
        )
        require(
            self.value_warmup < self.batches,
            f"algo.value_warmup={self.value_warmup} must be below algo.batches={self.batches}",
        )
        require(
            self.kl_target is None or self.kl_coefficient > 0,
            "algo.kl_target adapts algo.kl_coefficient, which must start above 0",
        )


@dataclass(frozen=True, kw_only=True)
class GRPOConfig(OnPolicyConfig):
    """GRPO: clipped policy gradient with the other solutions of a question in the place of a critic."""

    name: str = setting("grpo")
    advantage: str = setting(
        "group (return minus the group's mean, over its deviation), dr_grpo (no deviation), rloo (mean of the others)",
        choices=("group", "dr_grpo", "rloo"),
    )

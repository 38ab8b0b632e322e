"""The settings of updates that algorithms share: supervised ones, and on-policy ones."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.base import Settings, require, setting

SCHEDULES = ("cosine", "linear", "constant")
# After these shares of an algorithm's batches or steps a checkpoint is taken; fine where a policy changes most.
CANDIDATES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
EVALUATIONS = "checkpoints evaluated, the last so many of those after 1/32, 1/16, 1/8, 1/4, 1/2, 3/4 and all of"


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Settings):
    """AdamW, as every update has it."""

    learning_rate: float = setting("peak learning rate of AdamW", above=0)
    warmup_ratio: float = setting("share of the steps in which the learning rate rises from 0", at_least=0, below=1)
    schedule: str = setting("learning rate after the warm-up", choices=SCHEDULES)
    weight_decay: float = setting("AdamW weight decay", at_least=0)
    max_grad_norm: float = setting("gradient norm above which gradients are scaled down", above=0)


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(OptimizerConfig):
    """One supervised update: cross-entropy on completions, through trl.SFTTrainer."""

    epochs: float = setting("passes over the solutions", above=0)
    batch_size: int = setting("sequences per optimizer step", at_least=1)
    micro_batch_size: int = setting("sequences per forward pass; must divide batch_size", at_least=1)

    def check(self) -> None:
        """Refuse a micro-batch that does not divide the batch."""
        require(
            self.batch_size % self.micro_batch_size == 0,
            f"micro_batch_size={self.micro_batch_size} must divide batch_size={self.batch_size}",
        )


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig(OptimizerConfig):
    """What PPO and GRPO share: batches of fresh rollouts, each learned from and dropped."""

    batches: int = setting("batches of rollouts; each is sampled from the policy of that moment", at_least=1)
    questions: int = setting("training questions per batch", at_least=1)
    samples: int = setting("K, solutions sampled for every question of a batch", at_least=2)
    temperature: float = setting("sampling temperature", above=0)
    epochs: int = setting("passes over each batch of rollouts", at_least=1)
    minibatch_size: int = setting("rollouts per optimizer step; must divide questions times samples", at_least=1)
    micro_batch_size: int = setting("rollouts per forward pass; must divide minibatch_size", at_least=1)
    clip: float = setting("the probability ratio is clipped to 1 - clip .. 1 + clip", above=0, below=1)
    clip_high: float | None = setting("upper side of the clip, as 1 + clip_high; null: as algo.clip", above=0)
    loss: str | None = setting(
        "a loss per token of your own in the place of the clipped surrogate and the KL beside it; null: those", own=True
    )
    kl_coefficient: float = setting("weight of the KL to the initial policy; 0: no reference model is held", at_least=0)
    entropy_coefficient: float = setting("weight of an entropy bonus in the loss", at_least=0)
    importance_cap: float | None = setting(
        "cap of the weights that correct for the sampler's numerics; null: no correction", at_least=1
    )
    gap_limit: float = setting(
        "mean |log-prob of trainer - log-prob of sampler| per token, in nats, above which the run ends", above=0
    )
    evaluations: int = setting(f"{EVALUATIONS} the batches", at_least=1, at_most=len(CANDIDATES))
    replay: str = setting(
        "order of questions: uniform passes, or prioritized by what can be learned from them",
        choices=("uniform", "prioritized"),
    )
    backtracking: bool = setting("start from a part of the reference solution, shortened as it is mastered")

    @property
    def ratio_range(self) -> tuple[float, float]:
        """What the probability ratio is clipped to."""
        return 1 - self.clip, 1 + (self.clip if self.clip_high is None else self.clip_high)

    @property
    def batch_size(self) -> int:
        """Rollouts per batch."""
        return self.questions * self.samples

    @property
    def fewest_batches(self) -> tuple[int, str]:
        """The fewest batches that the other settings allow, and the setting that decides."""
        return 1, ""

    def check(self) -> None:
        """Refuse batches that do not divide."""
        require(
            self.batch_size % self.minibatch_size == 0,
            f"algo.minibatch_size={self.minibatch_size} must divide algo.questions x algo.samples = {self.batch_size}",
        )
        require(
            self.minibatch_size % self.micro_batch_size == 0,
            f"algo.micro_batch_size={self.micro_batch_size} must divide algo.minibatch_size={self.minibatch_size}",
        )

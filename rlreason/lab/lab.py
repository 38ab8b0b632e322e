"""What an algorithm may ask of a run: to sample, to update, to measure. Each is done once, however often it is asked.

A stage that the journal knows is answered from the run folder; one that was interrupted continues from what it stored.
So an interrupted algorithm is simply run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rlreason.algorithms.not_kept import NotKept
from rlreason.config.updates import OnPolicyConfig, SupervisedConfig
from rlreason.errors import UserError
from rlreason.lab.context import Context
from rlreason.lab.measuring import Evaluations, log, measured, selection_accuracy
from rlreason.lab.on_policy import Batches, finish_training, finished_training, training
from rlreason.lab.sampling import rollouts
from rlreason.lab.scoring import reward_function, step_scores
from rlreason.lab.stored import policy_of_study, stored_rollouts
from rlreason.lab.updating import example, fine_tuned
from rlreason.models.loading import add_tokens
from rlreason.models.return_condition import ReturnCondition
from rlreason.models.tokens import continuation
from rlreason.orm.model import OutcomeModel
from rlreason.run.stage import INIT, checkpoint_of_round, sampled, sampling_batch, sampling_round, scores
from rlreason.training.common import OnlineSettings, Progress, UpdateReport
from rlreason.training.supervised import Example
from rlreason.types import Problem, Rollout


@dataclass(frozen=True)
class Lab:
    """A run as an algorithm sees it.

    Args:
        context: The run's context.
        evaluations: What has been measured.
    """

    context: Context
    evaluations: Evaluations = field(default_factory=Evaluations)

    @property
    def reward_threshold(self) -> float:
        """The return from which a solution is kept, as the reward has it."""
        chosen = self.context.config.reward.threshold
        return self.orm_threshold if chosen is None else chosen

    @property
    def orm_threshold(self) -> float:
        """The score from which the outcome reward model calls a solution right, calibrated on validation questions."""
        return self.outcome_model.card.calibration.threshold

    @property
    def outcome_model(self) -> OutcomeModel:
        """The outcome reward model of a run that has one."""
        if self.context.outcome_model is None:
            raise RuntimeError("this run was prepared without an outcome reward model")
        return self.context.outcome_model

    @property
    def folder(self) -> Path:
        """The run folder, for pictures."""
        return self.context.run.folder

    @property
    def validation_questions(self) -> int:
        """How many questions select checkpoints."""
        return len(self.context.splits.validation)

    def samples_seen(self, drawn: int) -> int:
        """Rollouts that were learned from once an algorithm has drawn so many: its outcome reward model's besides."""
        return drawn + self.context.run.outcome_model_rollouts

    def sample(
        self, number: int, policy: Path, problems: Sequence[Problem], samples: int, temperature: float
    ) -> list[Rollout]:
        """Draw and reward the training rollouts of a round: `samples` completions of every problem."""
        stage, reward = sampling_round(number), reward_function(self.context)
        return rollouts(self.context, stage, policy, problems, samples, temperature, reward)

    def stored(self, path: str) -> list[Rollout]:
        """The training rollouts of an earlier run on this run's training questions, see `stored_rollouts`."""
        return stored_rollouts(self.context, Path(path))

    def policy_of_study(self, algo: str) -> tuple[Path, int]:
        """What an algorithm ended with in this run's study, and the rollouts it learned from, see `policy_of_study`."""
        return policy_of_study(self.context, algo)

    def step_scores(self, number: int, found: Sequence[Rollout]) -> list[tuple[float, ...]]:
        """The outcome reward model's p(right) at the end of every step of the rollouts of a round."""
        return step_scores(self.context, scores(sampling_round(number)), self.outcome_model, found, "reward")

    def example(self, rollout: Rollout) -> Example:
        """The rollout as a training sequence that ends after its final answer."""
        return example(self.context, rollout)

    def is_finished(self, rollout: Rollout) -> bool:
        """Whether a solution came to its end, see `StepSplitter.is_finished`."""
        return self.context.splitter.is_finished(rollout)

    def update(
        self,
        number: int,
        start: Path,
        examples: Sequence[Example],
        config: SupervisedConfig,
        snapshots: Sequence[float] = (),
        condition: ReturnCondition | None = None,
    ) -> list[Path]:
        """Fine-tune `start` on `examples`; a checkpoint after each share of the steps in `snapshots`, and the last."""
        return fine_tuned(self.context, number, start, examples, config, snapshots, condition)

    def evaluate(self, number: int, policy: Path, samples_seen: int, facts: Mapping[str, float] | None = None) -> float:
        """Measure the checkpoint of a round (0: the start); its greedy accuracy (maj@1) on the validation questions.

        Args:
            number: The round's.
            policy: Its checkpoint.
            samples_seen: Rollouts that the algorithm has drawn until then.
            facts: Further numbers for the log.
        """
        accuracy = selection_accuracy(self.context, self.evaluations, number, policy)
        settings = self.context.config.eval
        k = settings.k if number == 0 else settings.k_between
        facts = {"validation/maj@1": accuracy, **(facts or {})}
        name = checkpoint_of_round(number)
        seen = self.samples_seen(samples_seen) if number else 0
        measured(self.context, self.evaluations, name, number, policy, seen, k, facts)
        return accuracy

    def judged_samples(self, policy: Path) -> tuple[list[Rollout], list[tuple[float, ...]], int]:
        """Measure a policy before training; its samples of the reported questions, the outcome reward model's scores of
        every step of each, and the resamples that intervals are to have.
        """
        settings = self.context.config.eval
        k = max(1, settings.k)
        measured(self.context, self.evaluations, INIT, 0, policy, samples_seen=0, k=k)
        samples = list(self.evaluations.at_start)
        stage = scores(sampled(settings.split, INIT))
        return samples, step_scores(self.context, stage, self.outcome_model, samples, "evaluate"), settings.resamples

    def log(self, what: str, metrics: Mapping[str, float]) -> None:
        """Log numbers that belong to no round."""
        log(self.context, what, metrics, self.context.run.training_rollouts)

    def report(self, number: int, facts: Mapping[str, float], not_kept: NotKept) -> None:
        """Put the numbers of a round's sampling where the user sees them.

        Args:
            number: The round's.
            facts: Numbers by name.
            not_kept: How many of the round's rollouts nothing is learned from.
        """
        shown = ", ".join(f"{name.replace('_', ' ')} {value:,.3g}" for name, value in facts.items())
        self.context.display.line(f"round {number}: {shown}")
        named = {f"train/{name}": value for name, value in facts.items()}
        seen = self.context.run.training_rollouts
        log(self.context, f"sampled-round-{number}", named, seen, not_kept=asdict(not_kept))

    def with_tokens(self, checkpoint: Path, tokens: Sequence[str]) -> Path:
        """A copy of a starting checkpoint whose vocabulary has `tokens` as well."""
        start = self.context.start
        name = "sft" if checkpoint == start.init != start.base else "base"
        return add_tokens(checkpoint, tokens, self.context.run.checkpoint(f"{name}-with-tags"))

    def token_ids(self, text: str, checkpoint: Path) -> tuple[int, ...]:
        """A text as the tokeniser of `checkpoint` encodes it.

        Raises:
            UserError: The tokeniser cannot spell it.
        """
        from rlreason.models.loading import load_tokenizer

        tokenizer = load_tokenizer(checkpoint)
        ids = continuation(tokenizer, "\n", text)
        if tokenizer.decode(list(ids)) != text:
            raise UserError(
                f"the tokeniser turns the tag {text!r} into {tokenizer.decode(list(ids))!r}; choose another tag"
            )
        return ids

    def batches(self, config: OnPolicyConfig, problems: Sequence[Problem], seed: int) -> Batches:
        """What draws and rewards the batches of on-policy training."""
        return Batches(self.context, config, problems, seed)

    def finished_training(self, checkpoints: Mapping[int, Path]) -> tuple[str, int] | None:
        """Of finished on-policy training, why it ended early ("" if it did not), and the batches it learned from.

        Args:
            checkpoints: Those that are taken, by the batch after which they are; all must be whole.
        """
        return finished_training(self.context, checkpoints)

    def training(self) -> AbstractContextManager[tuple[OnlineSettings, Progress]]:
        """What on-policy training gets from the run; the block's time is that of training."""
        return training(self.context)

    def finish_training(self, report: UpdateReport) -> tuple[str, int]:
        """Record that on-policy training is finished; what `finished_training` gives from now on."""
        return finish_training(self.context, report)

    def record(self, batch: int, metrics: Mapping[str, float], samples_seen: int) -> None:
        """Log the metrics of a batch."""
        named = {f"train/{name}": value for name, value in metrics.items()}
        log(self.context, sampling_batch(batch).name, named, self.samples_seen(samples_seen))

    def checkpoint(self, number: int) -> Path:
        """The folder of the policy of an evaluation on the way."""
        return self.context.run.checkpoint(checkpoint_of_round(number))

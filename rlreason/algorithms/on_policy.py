"""The course of on-policy training: batches from the policy of the moment, checkpoints on the way, the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlreason.algorithms.base import Questions, Trained
from rlreason.algorithms.budget import whole
from rlreason.algorithms.selection import candidates, ended
from rlreason.config.updates import OnPolicyConfig
from rlreason.distributed import ranks
from rlreason.planning.facts import AlgorithmFacts, Sizes, Update, Work, drawn
from rlreason.training.common import OnlineSettings, Progress, Recorder, UpdateReport, last_complete, silent
from rlreason.training.method import Method

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab
    from rlreason.training.on_policy_trainer import Batches

Settings = TypeVar("Settings", bound=OnPolicyConfig)
MakeMethod = Callable[[Any, OnlineSettings], Method]


@dataclass
class Course:
    """Which checkpoints are taken on the way, and how good each is; in rank 0.

    Args:
        config: Of PPO or GRPO.
        lab: Evaluates.
        accuracies: Validation maj@1 of every checkpoint evaluated so far.
    """

    config: OnPolicyConfig
    lab: Lab
    accuracies: dict[Path, float] = field(default_factory=dict)

    @cached_property
    def checkpoints(self) -> dict[int, Path]:
        """The checkpoint that is taken after a batch, by the batch's number."""
        due = candidates(self.config.evaluations, self.config.batches)
        return {batch: self.lab.checkpoint(number) for number, batch in enumerate(due, start=1)}

    def due(self, batch: int) -> Path | None:
        """Where the policy is to be saved after a batch; None where it is not, or is saved already."""
        folder = self.checkpoints.get(batch)
        return None if folder is None or folder.exists() else folder

    def measure(self) -> None:
        """Evaluate the checkpoints that are there and have not been evaluated."""
        for number, (batch, folder) in enumerate(self.checkpoints.items(), start=1):
            if folder.exists() and folder not in self.accuracies:
                seen = batch * self.config.batch_size
                self.accuracies[folder] = self.lab.evaluate(number, folder, seen)

    def record(self, batch: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a batch."""
        self.lab.record(batch, metrics, batch * self.config.batch_size)


def on_policy(
    config: OnPolicyConfig, start: Start, questions: Questions, seed: int, lab: Lab, make_method: MakeMethod
) -> Trained:
    """Train on fresh batches, and end with one of the checkpoints that were evaluated, see `selection.chosen`.

    Args:
        config: Of PPO or GRPO.
        start: The starting checkpoints.
        questions: What may be trained on.
        seed: The run's seed.
        lab: Carries out what is expensive.
        make_method: Makes PPO's or GRPO's part of the training of a policy, in every process; must be picklable.
    """
    first = lab.evaluate(0, start.init, samples_seen=0)
    course = Course(config, lab, {start.init: first})
    finished = lab.finished_training(course.checkpoints)
    if finished is None:
        batches = lab.batches(config, questions.problems, seed)
        with lab.training() as (settings, progress):
            arguments = (config, start.init, seed, settings, make_method)
            with ranks.called_elsewhere(on_policy_update, *arguments):
                report = on_policy_update(*arguments, batches=batches, course=course, progress=progress)
        finished = lab.finish_training(report)
    ending, seen = finished
    course.measure()
    ending = f"ended in batch {seen} of {config.batches}: {ending}" if ending else f"all {seen} batches are done"
    return ended(course.accuracies, lab.validation_questions, seen * config.batch_size, ending)


def on_policy_update(
    config: OnPolicyConfig,
    start: Path,
    seed: int,
    settings: OnlineSettings,
    make_method: MakeMethod,
    batches: Batches | None = None,
    course: Course | None = None,
    progress: Progress = silent,
) -> UpdateReport:
    """Train from `start`, or from the last resumable checkpoint, in every process.

    Args:
        config: Of PPO or GRPO.
        start: Folder of the checkpoint to start from.
        seed: Of minibatches, adapters and the critic.
        settings: The run's settings.
        make_method: Makes PPO's or GRPO's part of the training of a policy.
        batches: Draws rollouts, in rank 0; the other ranks receive what it has drawn.
        course: Takes and evaluates checkpoints, in rank 0.
        progress: Called with (step, total steps, loss).
    """
    from transformers import PrinterCallback, set_seed

    from rlreason.models import loading
    from rlreason.training.on_policy_trainer import BatchesOfRankZero, Diverged, OnPolicyTrainer

    if course is not None:
        course.measure()
    ranks.wait()  # inside training nobody waits as long as an evaluation may take
    set_seed(seed)
    tokenizer = loading.load_tokenizer(start)
    below = start if settings.adapters_alone else None

    def save_checkpoint(model: Any, folder: Path) -> None:
        loading.save_snapshot(model, tokenizer, folder)

    def save_for_engine(model: Any, folder: Path) -> None:
        loading.save_for_engine(model, tokenizer, folder, below, settings.model.dtype)

    steps = config.epochs * config.batch_size // config.minibatch_size
    recorder = Recorder(settings.checkpoint_seconds, progress, save_every=steps)
    policy = loading.load_for_training(start, settings.model, settings.sharding)
    trainer = OnPolicyTrainer(
        config,
        make_method(policy, settings),
        batches or BatchesOfRankZero(),
        save_for_engine,
        policy,
        tokenizer,
        settings,
        seed,
        [_watcher(steps, course, save_checkpoint), recorder.callback()],
    )
    trainer.remove_callback(PrinterCallback)
    ending = ""
    try:
        trainer.train(resume_from_checkpoint=last_complete(settings.scratch))
    except Diverged as error:
        ending = str(error)
    report = _report(trainer, config, ending)
    del trainer, policy
    loading.free_memory()  # the engine wants it back
    return report


def _watcher(steps: int, course: Course | None, save: Callable[[Any, Path], None]) -> Any:
    """A `transformers.TrainerCallback` that after every batch takes and evaluates the checkpoint, if one is due.

    All processes save it, and rank 0, which has the course, evaluates and logs.
    """
    from transformers import TrainerCallback

    from rlreason.models import loading

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % steps:
                return
            folder = ranks.shared(course.due(state.global_step // steps) if course is not None else None)
            if folder is not None:
                save(model, folder)
                loading.free_memory_everywhere()
            if course is not None:
                course.measure()
            ranks.wait()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if course is not None and logs and "loss" in logs:
                course.record(state.global_step // steps, {key: x for key, x in logs.items() if x is not None})

    return Watcher()


def _report(trainer: Any, config: OnPolicyConfig, ending: str) -> UpdateReport:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-10:]
    tokens = config.epochs * int(trainer.state.num_input_tokens_seen)
    return UpdateReport(trainer.state.global_step, tokens, sum(losses) / max(1, len(losses)), ending)


def reference_model(config: OnPolicyConfig, start: Path, run: OnlineSettings) -> Any:
    """The initial policy in the engine's precision; None where its KL does not count, and with LoRA, see `Method`.

    Args:
        config: Of PPO or GRPO.
        start: Folder of the initial policy.
        run: LoRA, precision and sharding.
    """
    from rlreason.models.loading import load_beside_training

    if config.kl_coefficient == 0 or run.model.lora_rank > 0:
        return None
    return load_beside_training(start, run.model.dtype, run.sharding)


def planned_on_policy(settings: OnPolicyConfig, critic: str = "") -> AlgorithmFacts:
    """Batches of fresh rollouts, each learned from `epochs` times.

    Args:
        settings: What PPO and GRPO share.
        critic: As in `Update`.
    """
    update = Update(
        "on-policy training",
        "algo",
        settings,
        lambda sizes: sizes.longest_completion,
        batch_key="minibatch_size",
        loss="on-policy",
        rollouts=settings.batch_size,
        critic=critic,
        reference=settings.kl_coefficient > 0,
    )

    def work(sizes: Sizes) -> list[Work]:
        rollouts = settings.batches * settings.batch_size
        tokens = rollouts * (sizes.prompt + sizes.completion) * settings.epochs
        steps = settings.batches * settings.epochs * settings.batch_size // settings.minibatch_size
        return [
            drawn("sampling", rollouts, sizes, settings.batches * settings.questions, settings.batch_size),
            Work(update.phase, "train", rollouts * settings.epochs, tokens, steps=steps),
        ]

    checkpoints = len(candidates(settings.evaluations, settings.batches))
    return AlgorithmFacts(update, work, checkpoints, stops_early=True, samples=settings.samples)


def rollouts_at_most(settings: OnPolicyConfig, questions: int) -> int:
    """Training rollouts of all batches; the number of training questions does not matter."""
    del questions
    return settings.batches * settings.batch_size


def for_budget(settings: Settings, budget: int, questions: int) -> Settings:
    """As many batches as the budget pays for.

    Raises:
        UserError: It pays for fewer than the other settings need, or would be left unused.
    """
    del questions
    least, reason = settings.fewest_batches
    what = "a batch" if least == 1 else f"each of at least {least} batches ({reason})"
    return replace(settings, batches=whole(budget, settings.batch_size, what, least))

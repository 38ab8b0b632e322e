"""The course of on-policy training: batches from the policy of the moment, checkpoints on the way, the best of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlreason.algorithms.base import Questions, Trained
from rlreason.algorithms.budget import whole
from rlreason.algorithms.curriculum import Curriculum
from rlreason.config.updates import OnPolicyConfig
from rlreason.distributed import ranks
from rlreason.planning.facts import AlgorithmFacts, Sizes, Update, Work, drawn
from rlreason.training.common import OnlineSettings, Progress, Recorder, UpdateReport, last_complete, silent
from rlreason.types import Asked, Rollout

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


Settings = TypeVar("Settings", bound=OnPolicyConfig)
Drawn = tuple[list[Asked], list[Rollout]]
Draw = Callable[[int, Callable[[Path], None]], Drawn]


@dataclass(frozen=True)
class Loop:
    """What a trainer is made from.

    Args:
        draw: Gives the questions and rollouts of a batch, by its number and the model that samples it.
        model: The policy, at its start.
        tokenizer: Its tokeniser.
        settings: Of the run.
        seed: Of minibatches, adapters and the critic.
        callbacks: Of transformers' Trainer.
    """

    draw: Callable[[int, Any], Drawn]
    model: Any
    tokenizer: Any
    settings: OnlineSettings
    seed: int
    callbacks: list[Any]


@dataclass
class Course:
    """What the process that conducts adds to training: rollouts, and which checkpoints there are and how good each is.

    Args:
        config: Of PPO or GRPO.
        lab: Evaluates.
        draw: Gives the questions and rollouts of a batch, by its number and what saves the policy.
        accuracies: Validation maj@1 of every checkpoint evaluated so far.
    """

    config: OnPolicyConfig
    lab: Lab
    draw: Draw
    accuracies: dict[Path, float] = field(default_factory=dict)

    @cached_property
    def evaluated(self) -> dict[int, Path]:
        """The checkpoint that is taken after a batch, by the batch's number."""
        count = self.config.evaluations
        return {
            round(number * self.config.batches / count): self.lab.checkpoint(number) for number in range(1, count + 1)
        }

    def measure(self) -> None:
        """Evaluate the checkpoints that are there and have not been evaluated."""
        for number, (batch, folder) in enumerate(self.evaluated.items(), start=1):
            if folder.exists() and folder not in self.accuracies:
                seen = batch * self.config.batch_size
                self.accuracies[folder] = self.lab.evaluate(number, folder, seen)

    def finished(self, batch: int, save: Callable[[Path], None]) -> None:
        """Take the checkpoint of a batch, if there is to be one, and evaluate it."""
        folder = self.evaluated.get(batch)
        if folder is not None:
            if not folder.exists():
                save(folder)
            self.measure()


def on_policy(
    config: OnPolicyConfig,
    start: Start,
    questions: Questions,
    seed: int,
    lab: Lab,
    make_trainer: Callable[[Loop], Any],
) -> Trained:
    """Train on fresh batches, and end with one of the checkpoints that were evaluated, see `chosen`.

    Args:
        config: Of PPO or GRPO.
        start: The starting checkpoints.
        questions: What may be trained on.
        seed: Of the run.
        lab: Carries out what is expensive.
        make_trainer: Makes the trainer of a loop, in every process; must be picklable.
    """
    first = lab.evaluate(0, start.init, samples_seen=0)
    course = Course(config, lab, batches(config, questions, seed, lab), {start.init: first})

    def work(settings: OnlineSettings, progress: Progress) -> UpdateReport:
        return ranks.together(
            on_policy_update, config, start.init, seed, settings, make_trainer, course=course, progress=progress
        )

    ending, seen = lab.train_on_policy(work)
    course.measure()
    policy = chosen(course.accuracies, lab.validation_questions)
    verdict = f"ended in batch {seen} of {config.batches}: {ending}" if ending else f"all {seen} batches are done"
    verdict = f"{verdict}; validation maj@1 went from {first:.3f} to {course.accuracies[policy]:.3f}"
    return Trained(policy, seen * config.batch_size, verdict)


def planned_on_policy(settings: OnPolicyConfig, critic: str, reference: str) -> AlgorithmFacts:
    """Batches of fresh rollouts, each learned from `epochs` times.

    Args:
        settings: What PPO and GRPO share.
        critic: As in `Update`.
        reference: As in `Update`, where the KL to the initial policy counts.
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
        reference=reference if settings.kl_coefficient > 0 else "",
    )

    def work(sizes: Sizes) -> list[Work]:
        rollouts = settings.batches * settings.batch_size
        tokens = rollouts * (sizes.prompt + sizes.completion) * settings.epochs
        steps = settings.batches * settings.epochs * settings.batch_size // settings.minibatch_size
        return [
            drawn("sampling", rollouts, sizes, settings.batches * settings.questions),
            Work(update.phase, "train", rollouts * settings.epochs, tokens, steps=steps),
        ]

    return AlgorithmFacts(update, work, settings.evaluations, samples=settings.samples)


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


def chosen(accuracies: Mapping[Path, float], questions: int) -> Path:
    """The latest checkpoint whose validation accuracy is within one standard error of the best.

    A later one has learned from more samples; a difference that small on so few questions is no reason against it.

    Args:
        accuracies: Of the checkpoints, in the order of training.
        questions: How many validation questions there are.
    """
    best = max(accuracies.values())
    enough = best - math.sqrt(best * (1 - best) / questions)
    return [folder for folder, accuracy in accuracies.items() if accuracy >= enough][-1]


def batches(config: OnPolicyConfig, questions: Questions, seed: int, lab: Lab) -> Draw:
    """A function that draws a batch, by its number and what saves the policy of the moment.

    The curriculum of a resumed run is told the stored batches first, so that it knows what it knew.
    """
    prefixes = lab.reference_prefixes() if config.backtracking else {}
    curriculum = Curriculum(config, questions.problems, prefixes, seed)
    remembers = config.backtracking or config.replay == "prioritized"
    learned = 0

    def draw(number: int, save: Callable[[Path], None]) -> Drawn:
        nonlocal learned
        for batch in range(learned + 1 if remembers else number, number + 1):
            asked = curriculum.choose(batch)
            scored = lab.sample_batch(batch, save, asked, config.samples, config.temperature)
            curriculum.learn(batch, asked, scored)
        learned = number
        return asked, scored

    return draw


def on_policy_update(
    config: OnPolicyConfig,
    start: Path,
    seed: int,
    settings: OnlineSettings,
    make_trainer: Callable[[Loop], Any],
    course: Course | None = None,
    progress: Progress = silent,
) -> UpdateReport:
    """Train from `start`, or from the last resumable checkpoint, in every process.

    Args:
        config: Of PPO or GRPO.
        start: Folder of the checkpoint to start from.
        seed: Of minibatches, adapters and the critic.
        settings: Of the run.
        make_trainer: Makes the trainer of a loop.
        course: In the process that conducts; the others receive its rollouts.
        progress: Called with (step, total steps, loss).
    """
    from transformers import PrinterCallback, set_seed

    from rlreason.models import loading
    from rlreason.training.divided_trainer import Diverged

    if course is not None:
        course.measure()
    set_seed(seed)
    tokenizer = loading.load_tokenizer(start)

    def save(model: Any, folder: Path) -> None:
        loading.save_snapshot(model, tokenizer, folder)

    below = start if settings.adapters_alone else None

    def drawn(number: int, model: Any) -> Drawn:
        return ranks.led(
            lambda join: _conductor(course).draw(number, join),
            lambda folder: loading.save_for_engine(model, tokenizer, folder, below),
        )

    steps = config.epochs * config.batch_size // config.minibatch_size
    recorder = Recorder(settings.checkpoint_seconds, progress, save_every=steps)
    callbacks = [_watcher(steps, course, save), recorder.callback()]
    policy = loading.load_for_training(start, settings.model)
    trainer = make_trainer(Loop(drawn, policy, tokenizer, settings, seed, callbacks))
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


def _report(trainer: Any, config: OnPolicyConfig, ending: str) -> UpdateReport:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-10:]
    tokens = config.epochs * int(trainer.state.num_input_tokens_seen)
    return UpdateReport(trainer.state.global_step, tokens, sum(losses) / max(1, len(losses)), ending)


def _conductor(course: Course | None) -> Course:
    """The course, in the process that has it."""
    assert course is not None
    return course


def _watcher(steps: int, course: Course | None, save: Callable[[Any, Path], None]) -> Any:
    """A `transformers.TrainerCallback` that tells the course every batch's metrics and its end, in all processes."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % steps == 0:
                ranks.led(
                    lambda join: _conductor(course).finished(state.global_step // steps, join),
                    lambda folder: save(model, folder),
                )

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if course is not None and logs and "loss" in logs:
                batch = state.global_step // steps
                metrics = {key: value for key, value in logs.items() if value is not None}
                course.lab.record(batch, metrics, batch * course.config.batch_size)

    return Watcher()

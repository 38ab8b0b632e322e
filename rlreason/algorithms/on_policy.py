"""The course of on-policy training: batches from the policy of the moment, checkpoints on the way, the best of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rlreason.algorithms import OnlineSettings, Questions, Stages, Start, Trained
from rlreason.algorithms.curriculum import Curriculum
from rlreason.algorithms.training import Recorder, UpdateReport, last_complete
from rlreason.config import OnPolicyConfig
from rlreason.types import Asked, ScoredRollout

Drawn = tuple[list[Asked], list[ScoredRollout]]


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
    """Where training stands: which checkpoints there are, and how good each is.

    Args:
        config: Of PPO or GRPO.
        stages: Evaluates.
        accuracies: Validation maj@1 of every checkpoint evaluated so far.
    """

    config: OnPolicyConfig
    stages: Stages
    accuracies: dict[Path, float] = field(default_factory=dict)

    @cached_property
    def evaluated(self) -> dict[int, Path]:
        """The checkpoint that is taken after a batch, by the batch's number."""
        count = self.config.evaluations
        return {
            round(number * self.config.batches / count): self.stages.online.checkpoint(number)
            for number in range(1, count + 1)
        }

    def measure(self) -> None:
        """Evaluate the checkpoints that are there and have not been evaluated."""
        for number, (batch, folder) in enumerate(self.evaluated.items(), start=1):
            if folder.exists() and folder not in self.accuracies:
                seen = batch * self.config.batch_size
                self.accuracies[folder] = self.stages.evaluate(number, folder, seen)

    def finished(self, batch: int, model: Any, save: Callable[[Any, Path], None]) -> None:
        """Take the checkpoint of a batch, if there is to be one, and evaluate it."""
        folder = self.evaluated.get(batch)
        if folder is not None:
            if not folder.exists():
                save(model, folder)
            self.measure()


def on_policy(
    config: OnPolicyConfig,
    start: Start,
    questions: Questions,
    seed: int,
    stages: Stages,
    make_trainer: Callable[[Loop], Any],
) -> Trained:
    """Train on fresh batches, and end with one of the checkpoints that were evaluated, see `chosen`."""
    first = stages.evaluate(0, start.init, samples_seen=0)
    course = Course(config, stages, {start.init: first})
    draw = batches(config, questions, seed, stages)
    ending, seen = stages.online.train(partial(_train, course, start.init, seed, draw, make_trainer))
    course.measure()
    policy = chosen(course.accuracies, stages.online.validation_questions)
    verdict = f"ended in batch {seen} of {config.batches}: {ending}" if ending else f"all {seen} batches are done"
    verdict = f"{verdict}; validation maj@1 went from {first:.3f} to {course.accuracies[policy]:.3f}"
    return Trained(policy, seen * config.batch_size, verdict)


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


def batches(
    config: OnPolicyConfig, questions: Questions, seed: int, stages: Stages
) -> Callable[[int, Callable[[Path], None]], Drawn]:
    """A function that draws a batch, by its number and what saves the policy of the moment.

    The curriculum of a resumed run is told the stored batches first, so that it knows what it knew.
    """
    prefixes = stages.online.reference_prefixes() if config.backtracking else {}
    curriculum = Curriculum(config, questions.problems, prefixes, seed)
    remembers = config.backtracking or config.replay == "prioritized"
    learned = 0

    def draw(number: int, save: Callable[[Path], None]) -> Drawn:
        nonlocal learned
        for batch in range(learned + 1 if remembers else number, number + 1):
            asked = curriculum.choose(batch)
            scored = stages.online.sample_batch(batch, save, asked, config.samples, config.temperature)
            curriculum.learn(batch, asked, scored)
        learned = number
        return asked, scored

    return draw


def _train(
    course: Course,
    start: Path,
    seed: int,
    draw: Callable[[int, Callable[[Path], None]], Drawn],
    make_trainer: Callable[[Loop], Any],
    settings: OnlineSettings,
) -> UpdateReport:
    """Train from `start`, or from the last resumable checkpoint."""
    from transformers import PrinterCallback, set_seed

    from rlreason.algorithms.on_policy_trainer import Diverged
    from rlreason.models.loading import (
        free_memory,
        load_for_training,
        load_tokenizer,
        save_for_engine,
        save_snapshot,
    )

    config = course.config
    course.measure()
    set_seed(seed)
    tokenizer = load_tokenizer(start)

    def save(model: Any, folder: Path) -> None:
        save_snapshot(model, tokenizer, folder)

    below = start if settings.adapters_alone else None
    steps = config.epochs * config.batch_size // config.minibatch_size
    recorder = Recorder(settings.checkpoint_seconds, settings.progress, save_every=steps)
    watcher = _watcher(
        steps,
        lambda batch, model: course.finished(batch, model, save),
        lambda batch, metrics: course.stages.online.record(batch, metrics, batch * config.batch_size),
    )
    loop = Loop(
        lambda number, model: draw(number, lambda folder: save_for_engine(model, tokenizer, folder, below)),
        load_for_training(start, settings.model),
        tokenizer,
        settings,
        seed,
        [watcher, recorder.callback()],
    )
    trainer = make_trainer(loop)
    trainer.remove_callback(PrinterCallback)
    ending = ""
    try:
        trainer.train(resume_from_checkpoint=last_complete(settings.scratch))
    except Diverged as error:
        ending = str(error)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-10:]
    tokens = config.epochs * int(trainer.state.num_input_tokens_seen)
    report = UpdateReport(trainer.state.global_step, tokens, sum(losses) / max(1, len(losses)), ending)
    del trainer, loop
    free_memory()  # the engine wants it back
    return report


def _watcher(steps: int, finished: Callable[[int, Any], None], record: Callable[[int, dict[str, float]], None]) -> Any:
    """A `transformers.TrainerCallback` that reports every batch's metrics and its end."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % steps == 0:
                finished(state.global_step // steps, model)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                record(state.global_step // steps, {key: value for key, value in logs.items() if value is not None})

    return Watcher()

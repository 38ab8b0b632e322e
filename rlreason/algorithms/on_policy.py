"""The course of on-policy training: batches sampled from the policy of that moment, checkpoints on the way, the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.algorithms import Questions, Stages, Start, Trained
from rlreason.algorithms.curriculum import Curriculum
from rlreason.algorithms.training import Progress, Recorder, UpdateReport, last_complete
from rlreason.config import ModelConfig, OnPolicyConfig
from rlreason.types import Asked, ScoredRollout


@dataclass(frozen=True)
class Loop:
    """What a trainer is made from.

    Args:
        draw: Gives the questions and rollouts of a batch, by its number and the model that samples it.
        model: The policy, at its start.
        tokenizer: Its tokeniser.
        model_config: LoRA, precision and gradient checkpointing.
        max_completion_tokens: Limit of a completion.
        scratch: Folder of resumable checkpoints.
        seed: Of minibatches, adapters and the critic.
        callbacks: Of transformers' Trainer.
    """

    draw: Callable[[int, Any], tuple[list[Asked], list[ScoredRollout]]]
    model: Any
    tokenizer: Any
    model_config: ModelConfig
    max_completion_tokens: int
    scratch: Path
    seed: int
    callbacks: list[Any]


def on_policy(
    config: OnPolicyConfig,
    start: Start,
    questions: Questions,
    seed: int,
    stages: Stages,
    make_trainer: Callable[[Loop], Any],
) -> Trained:
    """Train on fresh batches, and end with the best of the checkpoints that were evaluated."""
    accuracies = {start.init: stages.evaluate(0, start.init, samples_seen=0)}
    first = accuracies[start.init]
    evaluated = {round(n * config.batches / config.evaluations): n for n in range(1, config.evaluations + 1)}

    def measure(batch: int, folder: Path) -> None:
        if folder not in accuracies:
            accuracies[folder] = stages.evaluate(evaluated[batch], folder, batch * config.batch_size)

    draw = batches(config, questions, seed, stages)

    def work(
        scratch: Path, model_config: ModelConfig, limit: int, checkpoint_seconds: float, progress: Progress
    ) -> UpdateReport:
        from transformers import PrinterCallback, set_seed

        from rlreason.algorithms.on_policy_trainer import Diverged
        from rlreason.models.loading import free_memory, load_for_training, load_tokenizer, save_snapshot

        for batch, number in evaluated.items():
            if stages.checkpoint(number).exists():
                measure(batch, stages.checkpoint(number))
        set_seed(seed)
        tokenizer = load_tokenizer(start.init)

        def finished(batch: int, model: Any) -> None:
            if batch in evaluated:
                folder = stages.checkpoint(evaluated[batch])
                if not folder.exists():
                    save_snapshot(model, tokenizer, folder)
                measure(batch, folder)

        steps = config.epochs * config.batch_size // config.minibatch_size
        recorder = Recorder(checkpoint_seconds, progress, save_every=steps)
        watcher = _watcher(steps, finished, lambda batch, logs: stages.record(batch, logs, batch * config.batch_size))
        trainer = make_trainer(
            Loop(
                lambda number, model: draw(number, lambda folder: save_snapshot(model, tokenizer, folder)),
                load_for_training(start.init, model_config),
                tokenizer,
                model_config,
                limit,
                scratch,
                seed,
                [watcher, recorder.callback()],
            )
        )
        trainer.remove_callback(PrinterCallback)
        ending = ""
        try:
            trainer.train(resume_from_checkpoint=last_complete(scratch))
        except Diverged as error:
            ending = str(error)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-10:]
        tokens = config.epochs * int(trainer.state.num_input_tokens_seen)
        report = UpdateReport(trainer.state.global_step, tokens, sum(losses) / max(1, len(losses)), ending)
        del trainer
        free_memory()  # the engine wants it back
        return report

    ending, batches_seen = stages.train_online(work)
    for batch, number in evaluated.items():
        if stages.checkpoint(number).exists():
            measure(batch, stages.checkpoint(number))
    best = max(accuracies, key=lambda folder: accuracies[folder])
    verdict = (
        f"ended after batch {batches_seen} of {config.batches}: {ending}"
        if ending
        else f"all {config.batches} batches are done"
    )
    return Trained(
        best,
        batches_seen * config.batch_size,
        f"{verdict}; validation maj@1 went from {first:.3f} to {accuracies[best]:.3f}",
    )


def batches(
    config: OnPolicyConfig, questions: Questions, seed: int, stages: Stages
) -> Callable[[int, Callable[[Path], None]], tuple[list[Asked], list[ScoredRollout]]]:
    """A function that draws a batch, by its number and what saves the policy of the moment.

    The curriculum of a resumed run is told the stored batches first, so that it knows what it knew.
    """
    prefixes = stages.reference_prefixes() if config.backtracking else {}
    curriculum = Curriculum(config, questions.problems, prefixes, seed)
    learned = 0

    def draw(number: int, save: Callable[[Path], None]) -> tuple[list[Asked], list[ScoredRollout]]:
        nonlocal learned
        remembers = config.backtracking or config.replay == "prioritized"
        for batch in range(learned + 1 if remembers else number, number + 1):
            asked = curriculum.choose(batch)
            scored = stages.sample_batch(batch, save, asked, config.samples, config.temperature)
            curriculum.learn(batch, asked, scored)
        learned = number
        return asked, scored

    return draw


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

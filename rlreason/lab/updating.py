"""Updates of a run: each done once, resumable, and leaving its checkpoint whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlreason.config.updates import SupervisedConfig
from rlreason.data.prompts import solution_text
from rlreason.distributed import ranks
from rlreason.lab.context import Context
from rlreason.lab.sampling import derived_seed
from rlreason.models.return_condition import ReturnCondition
from rlreason.models.tokens import continuation
from rlreason.run.checkpoints import refuse_broken
from rlreason.run.files import put_in_place
from rlreason.run.stage import Stage, checkpoint_of_round, update
from rlreason.training.common import Progress, UpdateReport
from rlreason.training.supervised import Example, supervised_update
from rlreason.types import Problem, Rollout


def fine_tuned(
    context: Context,
    number: int,
    start: Path,
    examples: Sequence[Example],
    settings: SupervisedConfig,
    snapshots: Sequence[float] = (),
    condition: ReturnCondition | None = None,
) -> list[Path]:
    """The checkpoints of the supervised update of a round: those of `snapshots`, and the last.

    Args:
        context: The run's context.
        number: The round's number, from 1.
        start: The checkpoint to fine-tune.
        examples: What is learned.
        settings: Learning rate, epochs, batch.
        snapshots: Shares of the steps after which a checkpoint is kept, each below 1, in order.
        condition: How the policy will have to be asked, where it is conditioned on returns.
    """
    stage = update(number)
    outputs = [context.run.checkpoint(checkpoint_of_round(number + later)) for later in range(len(snapshots) + 1)]

    def work(output: Path, resumable: Path, progress: Progress) -> UpdateReport:
        report = ranks.together(
            supervised_update,
            start,
            examples,
            settings,
            context.config.model,
            output,
            resumable,
            derived_seed(context.config.seed, stage.name),
            context.config.checkpoint_seconds,
            list(zip(snapshots, outputs, strict=False)),
            context.config.sharding,
            progress=progress,
        )
        if condition is not None:
            condition.save(output)
        return report

    trained(context, stage, f"fine-tuning on {len(examples):,} solutions", outputs, len(examples), work)
    return outputs


def trained(
    context: Context,
    stage: Stage,
    description: str,
    outputs: Sequence[Path],
    examples: int,
    work: Callable[[Path, Path, Progress], UpdateReport],
) -> None:
    """Do `work(folder of the last checkpoint, folder for resumable checkpoints, progress)` once.

    Args:
        context: The run's context.
        stage: The update.
        description: What is done, for the user.
        outputs: The checkpoints that it leaves, the last at the end.
        examples: What is learned from, a number for the journal.
        work: Does it.
    """
    output = outputs[-1]
    resumable = context.run.folder / "training" / stage.name

    def make() -> tuple[None, dict[str, Any]]:
        context.engine.release()
        unfinished = output.with_name(f".{output.name}.partial")
        with context.display.bar(f"{stage.name}: {description}") as bar, context.run.timed("train"):
            report = work(unfinished, resumable, lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}"))
        shutil.rmtree(output, ignore_errors=True)
        put_in_place(unfinished, output)
        files = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
        facts = {"steps": report.steps, "loss": report.loss, "examples": examples, "files": files}
        return None, {"tokens": {"train": report.tokens}, **facts}

    def whole() -> None:
        for checkpoint in outputs:
            refuse_broken(checkpoint)
        lost = [name for name in context.run.journal[stage.name].get("files", ()) if not (output / name).exists()]
        if lost:
            raise FileNotFoundError(f"{output} lacks {', '.join(lost)}")

    context.run.once(stage, make, whole)
    shutil.rmtree(resumable, ignore_errors=True)


def example(context: Context, rollout: Rollout) -> Example:
    """A rollout as a training sequence: cut after its final answer's line and closed by a token that ends a text.

    What the token limit cut before that is not closed, or the policy would learn to stop there.
    """
    ids = list(rollout.completion_ids[: context.splitter.end_of_answer(rollout.completion_ids, rollout.text)])
    if context.splitter.is_finished(rollout) and not (ids and ids[-1] in context.ends):
        ids.append(context.ends[0])
    return Example(rollout.prompt_ids, tuple(ids))


def reference(context: Context, problem: Problem) -> Example:
    """The reference solution of a problem as a training sequence."""
    prompt = context.prompts[problem.id]
    ids = continuation(context.tokenizer, prompt.text, solution_text(problem, context.config.protocol))
    return Example(prompt.token_ids, (*ids, context.ends[0]))

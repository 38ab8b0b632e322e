"""The stages of on-policy training: a batch of rollouts from the policy of the moment, and the training around them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlreason.data.prompts import solution_text
from rlreason.engines.shared_memory import folder_in_memory
from rlreason.engines.start import takes_adapters
from rlreason.lab.context import Context
from rlreason.lab.sampling import rollouts
from rlreason.lab.scoring import reward_function
from rlreason.planning.shape import model_shape
from rlreason.run.stage import ON_POLICY_TRAINING, Kind, sampling_batch
from rlreason.training.common import OnlineSettings, Progress, UpdateReport
from rlreason.types import Asked, Rollout

ADAPTER_SHARE = 0.5  # of the weights below them; more than adapters of any sensible rank have


def batch_of_rollouts(
    context: Context,
    number: int,
    save: Callable[[Path], None],
    asked: Sequence[Asked],
    samples: int,
    temperature: float,
) -> list[Rollout]:
    """Draw and reward a batch from the policy that `save` writes to a folder; one that is stored is read again."""
    stage, run = sampling_batch(number), context.run
    with folder_in_memory(_sync_bytes(context), run.folder / "training" / "sync") as folder:
        policy = folder / stage.name
        if stage.name not in run.journal:
            with run.timed("sync"):
                save(policy)
        found = rollouts(
            context,
            stage,
            policy,
            [item.problem for item in asked],
            samples,
            temperature,
            reward_function(context),
            given={item.problem.id: item.given_ids for item in asked},
        )
    context.engine.release()
    return found


def trained_on_policy(context: Context, work: Callable[[OnlineSettings, Progress], UpdateReport]) -> tuple[str, int]:
    """Do `work` once; why it ended early ("" if it did not), and the batches that it learned from."""
    stage, run, config = ON_POLICY_TRAINING, context.run, context.config

    def make() -> tuple[tuple[str, int], dict[str, Any]]:
        with context.display.bar("training on fresh rollouts") as bar, run.timed("train"):
            settings = OnlineSettings(
                run.folder / "training" / stage.name,
                config.model,
                config.data.max_completion_tokens,
                config.checkpoint_seconds,
                takes_adapters(config.engine),
                config.sharding,
            )
            report = work(settings, lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}"))
        batches = sum(record["kind"] == Kind.ROLLOUTS for record in run.journal.values())
        facts = {"steps": report.steps, "loss": report.loss, "ending": report.ending, "batches": batches}
        return (report.ending, batches), {"tokens": {"train": report.tokens}, **facts}

    def read() -> tuple[str, int]:
        record = run.journal[stage.name]
        return record["ending"], record["batches"]

    found = run.once(stage, make, read)
    shutil.rmtree(run.folder / "training", ignore_errors=True)
    return found


def reference_prefixes(context: Context) -> dict[str, list[tuple[int, ...]]]:
    """What precedes each line of every training question's reference solution, in tokens; by problem id."""
    prefixes = {}
    for problem in context.splits.training:
        text = solution_text(problem)
        ids = tuple(context.tokenizer(text, add_special_tokens=False)["input_ids"])
        if problem.steps:
            prefixes[problem.id] = [ids[: step.start] for step in context.splitter.split(ids, text)]
    return prefixes


def _sync_bytes(context: Context) -> float | None:
    """Bytes of the weights on their way to the engine, in 4-byte floats; None where memory is no way."""
    config = context.config
    shape = model_shape(config.model)
    if shape is None or config.engine.executor == "ray":  # whose engine may be on other machines
        return None
    alone = config.model.lora_rank > 0 and takes_adapters(config.engine)
    return (ADAPTER_SHARE if alone else 1.0) * 4 * shape.parameters

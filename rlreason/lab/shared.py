"""What runs that start alike share: made once, in a folder of the cache, with a journal of its own.

The folder's name says everything that decides its content. One process works in it at a time; an interrupted one leaves
what the next one continues with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import filelock

from rlreason.display import Display
from rlreason.distributed import ranks
from rlreason.engines.start import choose_engine
from rlreason.errors import UserError
from rlreason.lab.context import Context
from rlreason.lab.sampling import derived_seed, rollouts, sealed_rollouts
from rlreason.lab.updating import reference, trained
from rlreason.run.files import put_in_place
from rlreason.run.folder import Run
from rlreason.run.identity import RUNTIME_FIELDS
from rlreason.run.stage import INIT, Stage, shared
from rlreason.run.trackers import Tracker
from rlreason.training.common import Progress, UpdateReport
from rlreason.training.supervised import supervised_update
from rlreason.types import Problem, Rollout

Value = TypeVar("Value")
ELSEWHERE = ("orm_learning_rate", "rl_learning_rate")  # of `model`; no supervised update of the policy reads them


@dataclass(frozen=True)
class Made:
    """What became of something that runs share.

    Args:
        value: What it is.
        folder: Where it lies.
        journal: Of that folder.
        cached: Whether it was complete before.
    """

    value: Any
    folder: Path
    journal: Mapping[str, Mapping[str, Any]]
    cached: bool


def made_once(
    context: Context, name: str, deciding: Mapping[str, Any], last: Stage, what: str, work: Callable[[Context], Value]
) -> Made:
    """Do `work` in a folder of the cache unless it is done already; its costs are this run's.

    Args:
        context: The context of the run that needs it.
        name: Begins the name of the folder.
        deciding: Everything that decides the content.
        last: The stage of that folder after which it is complete.
        what: What it is, for a run that waits for another one.
        work: Gets a context whose run folder is that of the cache.
    """
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]
    folder = (Path(context.config.runs_dir) / "cache" / f"{name}-{digest}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder / ".making", what, context.display):
        run = Run(folder, context.run.config, any_configuration=True, used_by=context.run)
        cached, earlier = last.name in run.journal, run.totals("seconds")
        try:
            value = work(replace(context, run=run, tracker=Tracker()))
        finally:
            run.close()
    spent = run.totals("seconds")
    context.run.add_costs({kind: amount - earlier.get(kind, 0.0) for kind, amount in spent.items()})
    return Made(value, folder, run.journal, cached)


@contextmanager
def alone_in(lock_file: Path, what: str, display: Display) -> Iterator[None]:
    """Do the block while no other process does; one that has to wait says what for."""
    lock = filelock.FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        display.line(f"waiting for {what}, which another run is making")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def deciding_sections(context: Context, sections: Sequence[str]) -> dict[str, Any]:
    """What decides what runs may share: some sections, what lies at their paths, the seed, the base model."""
    config = context.config
    deciding: dict[str, Any] = {name: asdict(getattr(config, name)) for name in sections}
    for elsewhere in ELSEWHERE:
        deciding.get("model", {}).pop(elsewhere, None)
    contents = context.run.config.get("contents", {})
    read = {key: digest for key, digest in contents.items() if key.partition(".")[0] in sections}
    return {**deciding, "contents": read, "seed": config.seed, "source": context.source}


def sft_checkpoint(context: Context, problems: Sequence[Problem]) -> Path:
    """The SFT model of `init=sft`.

    Args:
        context: The run's context.
        problems: Training questions; those with a worked solution are learned.

    Raises:
        UserError: None has one.
    """
    config = context.config
    examples = [reference(context, problem) for problem in problems if problem.steps]
    if not examples:
        raise UserError("init=sft needs worked solutions and this data set has none; use init=scratch")
    stage = shared("sft")

    def work(cache: Context) -> Path:
        output = cache.run.folder / "checkpoint"

        def fine_tune(unfinished: Path, resumable: Path, progress: Progress) -> UpdateReport:
            return ranks.together(
                supervised_update,
                cache.start.base,
                examples,
                config.init,
                config.model,
                unfinished,
                resumable,
                derived_seed(config.seed, stage.name),
                config.checkpoint_seconds,
                (),
                config.sharding,
                progress=progress,
            )

        what = f"init=sft, on {len(examples):,} reference solutions"
        trained(cache, stage, what, [output], len(examples), fine_tune)
        return output

    deciding = deciding_sections(context, ("init", "model", "data", "prompt"))
    name = f"sft-{config.model.name}-{config.data.name}"
    made = made_once(context, name, deciding, stage, "the SFT checkpoint", work)
    if stage.name not in context.run.journal:
        record = made.journal[stage.name]
        facts = {} if made.cached else {key: record[key] for key in ("tokens", "steps", "loss")}
        context.run.commit(stage, cached=made.cached, **facts)
    checkpoint: Path = made.value
    return checkpoint


def evaluation_rollouts(
    context: Context,
    stage: Stage,
    policy: Path,
    problems: Sequence[Problem],
    samples: int,
    temperature: float,
    ask_for_bad: bool = False,
) -> list[Rollout]:
    """The rollouts of an evaluation; those of the starting checkpoint are drawn once for all runs that start alike.

    A run that uses shared ones holds the same sealed files as one that drew them itself. Arguments as for
    `sampling.rollouts`.
    """
    if stage.checkpoint != INIT or policy != context.start.init:
        return rollouts(context, stage, policy, problems, samples, temperature, ask_for_bad=ask_for_bad)
    run = context.run

    def make() -> tuple[list[Rollout], dict[str, Any]]:
        def work(cache: Context) -> list[Rollout]:
            found = rollouts(cache, stage, policy, problems, samples, temperature)
            take(cache.run.rollouts / f"{stage.name}.parquet", run.rollouts)
            return found

        config, what = context.config, "the evaluation of the starting checkpoint"
        name = f"base-{config.model.name}-{config.data.name}-{config.init.name}"
        made = made_once(context, name, _deciding_base(context), stage, what, work)
        record = made.journal[stage.name]
        facts = {fact: record[fact] for fact in ("rollouts", "cut_at_limit", "unread", "probe_gap") if fact in record}
        return made.value, {"tokens": {} if made.cached else record["tokens"], "cached": made.cached, **facts}

    return run.once(stage, make, lambda: sealed_rollouts(context, stage.name, problems))


def take(file: Path, folder: Path) -> None:
    """Put a file of the cache into a folder: the same file under a second name where the disk can do that."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{file.name}.tmp"
    temporary.unlink(missing_ok=True)
    try:
        os.link(file, temporary)
    except OSError:
        shutil.copyfile(file, temporary)
    put_in_place(temporary, folder / file.name)


def _deciding_base(context: Context) -> dict[str, Any]:
    """What decides the rollouts of the starting checkpoint."""
    config = context.config
    # The start is made with the prompt of training, whatever it is asked with.
    asked_with = {} if context.asked_with == config.prompt else {"asked_with": asdict(context.asked_with)}
    engine = {field: value for field, value in asdict(config.engine).items() if f"engine.{field}" not in RUNTIME_FIELDS}
    return {
        "start": deciding_sections(context, ("init", "model", "data", "prompt")),
        "engine": engine | {"name": choose_engine(config.engine.name)},
        "longest_context": context.engine.longest_context,  # an engine with other limits may round differently
        "temperature": config.eval.temperature,
        "split": config.eval.split,
        "k": config.eval.k,
        **asked_with,
    }

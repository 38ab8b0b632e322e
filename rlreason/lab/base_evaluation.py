"""The evaluation of the starting checkpoint: drawn once for all runs that start alike, kept in the folder of each.

The rollouts are made in a folder of the cache with a journal of its own, so that an interrupted process leaves what
the next one continues with. A run that uses them holds the same sealed files as one that drew them itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rlreason.config.context import completion_factor, longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.engines.start import choose_engine
from rlreason.lab.common import alone_in, cache_key
from rlreason.lab.generation import Generation
from rlreason.models.resolve import ResolvedModel
from rlreason.rewards.sparse import sparse_reward
from rlreason.run import store
from rlreason.run.folder import Run
from rlreason.run.identity import RUNTIME_FIELDS
from rlreason.types import Problem, ScoredRollout


@dataclass(frozen=True)
class BaseEvaluation:
    """The rollouts of one starting checkpoint that evaluations ask for.

    Args:
        checkpoint: The starting checkpoint.
        folder: In the cache; its name says everything that decides the rollouts.
    """

    checkpoint: Path
    folder: Path


def base_evaluation(config: ExperimentConfig, model: ResolvedModel, checkpoint: Path) -> BaseEvaluation:
    """Where the rollouts of the starting checkpoint of this run are kept."""
    deciding = {
        "start": cache_key(config, ("init", "model", "data", "prompt"), model.source),
        "engine": {
            field: value for field, value in asdict(config.engine).items() if f"engine.{field}" not in RUNTIME_FIELDS
        }
        | {"name": choose_engine(config.engine.name)},
        # An engine with other limits may round differently.
        "longest_context": longest_context(config.data, completion_factor(config)),
        "temperature": config.eval.temperature,
        "split": config.eval.split,
        "k": config.eval.k,
    }
    key = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(config.runs_dir) / "cache" / f"base-{config.model.name}-{config.data.name}-{config.init.name}-{key}"
    return BaseEvaluation(checkpoint, folder.resolve())


def evaluation_rollouts(
    base: BaseEvaluation | None,
    generation: Generation,
    stage: str,
    round_number: int,
    policy: Path,
    problems: Sequence[Problem],
    samples: int,
    temperature: float,
    ask_for_bad: bool = False,
) -> list[ScoredRollout]:
    """The rollouts of any evaluation of a run; see `Generation.rollouts` and `base_rollouts`."""
    if base is not None and policy == base.checkpoint and "-init" in stage:
        return base_rollouts(base, generation, stage, problems, samples, temperature)
    return generation.rollouts(
        stage, round_number, policy, problems, samples, temperature, "evaluate", sparse_reward, ask_for_bad
    )


def base_rollouts(
    base: BaseEvaluation,
    generation: Generation,
    stage: str,
    problems: Sequence[Problem],
    samples: int,
    temperature: float,
) -> list[ScoredRollout]:
    """The rollouts of a stage of the starting checkpoint's evaluation, from the cache or drawn into it.

    Args:
        base: Of the starting checkpoint.
        generation: Of the run that needs them; its journal gets the stage's line.
        stage: Such as "test-init-greedy".
        problems: What is asked.
        samples: Completions of each problem.
        temperature: 0 is greedy decoding.
    """
    run = generation.run
    if stage in run.journal:
        return store.read_sealed(run.rollouts, stage)
    base.folder.mkdir(parents=True, exist_ok=True)
    with alone_in(base.folder / ".drawing", "the evaluation of the starting checkpoint", generation.display):
        cache = Run(base.folder, run.config, any_configuration=True)
        cached = stage in cache.journal
        earlier = cache.totals("seconds")
        try:
            inner = Generation(
                generation.config,
                cache,
                generation.display,
                generation.tokenizer,
                generation.prompts,
                generation.engine,
            )
            rollouts = inner.rollouts(
                stage, 0, base.checkpoint, problems, samples, temperature, "evaluate", sparse_reward
            )
        finally:
            cache.close()
        take(cache.rollouts / f"{stage}.parquet", run.rollouts)
    run.add_costs({kind: spent - earlier.get(kind, 0.0) for kind, spent in cache.totals("seconds").items()})
    record = cache.journal[stage]
    facts = {fact: record[fact] for fact in ("rollouts", "cut_at_limit", "probe_gap") if fact in record}
    run.commit(stage, tokens={} if cached else record["tokens"], cached=cached, **facts)
    return rollouts


def take(file: Path, folder: Path) -> None:
    """Put a file of the cache into a folder: the same file under a second name where the disk can do that."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{file.name}.tmp"
    temporary.unlink(missing_ok=True)
    try:
        os.link(file, temporary)
    except OSError:
        shutil.copyfile(file, temporary)
    os.replace(temporary, folder / file.name)

"""What training and evaluation share: fitting prompts, quiet libraries, the result."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from rlreason.config.context import completion_factor, longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.data.prompts import build_prompts
from rlreason.display import Display, plain_list
from rlreason.distributed.shares import check_heads
from rlreason.errors import UserError
from rlreason.models.architecture import check_weights
from rlreason.models.loading import check_precision
from rlreason.models.resolve import ResolvedModel
from rlreason.planning.measured import planned_and_measured
from rlreason.run.folder import environment
from rlreason.types import Problem, Prompt

if TYPE_CHECKING:
    from rlreason.lab.stages import RunStages

KINDS = ("start", "sample", "grade", "reward", "train", "sync", "evaluate", "total")


def quiet_libraries() -> None:
    """Keep progress bars and notices of the libraries out of ours; their warnings about real trouble stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    # The range of vLLM versions that TRL drives itself; here it is given finished rollouts.
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM", category=UserWarning)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def fit_prompts(
    config: ExperimentConfig,
    tokenizer: Any,
    training: Sequence[Problem],
    problems: Sequence[Problem],
    display: Display,
) -> tuple[dict[str, Prompt], list[str]]:
    """The prompts that fit, by problem id, and the ids of those that do not, which are reported."""
    prompts, too_long = build_prompts(
        problems, training, config.prompt, tokenizer, config.data.seed, config.data.max_prompt_tokens
    )
    if too_long:
        display.line(
            f"left out {len(too_long):,} of {len(problems):,} questions: their prompts are longer than "
            f"data.max_prompt_tokens={config.data.max_prompt_tokens} ({plain_list(too_long)})"
        )
    return {prompt.problem_id: prompt for prompt in prompts}, too_long


def check_shape(config: ExperimentConfig, folder: Path) -> None:
    """Refuse what does not go with the model in `folder`, or with its precision on this machine.

    Raises:
        UserError: The GPU lacks the engine's precision, the weights are not those of the model that `config.json`
            describes, the longest context has more tokens than the model has positions, or its heads cannot be divided
            between `engine.tensor_parallel_size` GPUs.
    """
    check_precision(config.model.dtype)
    check_weights(folder)
    shape = json.loads((folder / "config.json").read_text())
    shape = shape.get("text_config", shape)
    if heads := shape.get("num_attention_heads"):
        of_keys = shape.get("num_key_value_heads") or heads
        check_heads(heads, of_keys, config.engine.tensor_parallel_size, config.model.name)
    positions = shape.get("max_position_embeddings")
    longest = longest_context(config.data, completion_factor(config))
    if positions is not None and longest > positions:
        raise UserError(
            f"prompts and completions of up to {longest:,} tokens do not fit into the model's {positions:,} positions; "
            "lower data.max_completion_tokens or data.max_prompt_tokens"
        )


def cache_key(config: ExperimentConfig, sections: Sequence[str], source: str) -> str:
    """A hash of everything that decides a stage which runs may share.

    Args:
        config: Of the run.
        sections: The sections that the stage depends on, besides the seed.
        source: Where the base model came from.
    """
    deciding: dict[str, Any] = {name: asdict(getattr(config, name)) for name in sections}
    for elsewhere in ("orm_learning_rate", "rl_learning_rate"):
        deciding.get("model", {}).pop(elsewhere, None)
    deciding |= {"seed": config.seed, "source": source}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:12]


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


def write_result(stages: RunStages, model: ResolvedModel, too_long: Sequence[str], **facts: Any) -> dict[str, Any]:
    """Assemble, save and track the result of a run."""
    run = stages.run
    if "result" not in run.journal:
        run.commit("result")
    seconds = run.totals("seconds")
    tokens = run.totals("tokens")
    journal = run.journal.items()
    result = {
        "name": run.folder.name,
        "config": run.config,
        **environment(),
        "model_source": model.source,
        "evaluations": stages.evaluations,
        **facts,
        "rollouts": {stage: record["rollouts"] for stage, record in journal if "rollouts" in record},
        "prompts_too_long": len(too_long),
        "probe_gaps": {stage: record["probe_gap"] for stage, record in journal if "probe_gap" in record},
        "cut_at_limit": {stage: record["cut_at_limit"] for stage, record in journal if "cut_at_limit" in record},
        "seconds": {kind: round(seconds.get(kind, 0.0), 3) for kind in KINDS},
        "tokens": {kind: int(tokens.get(kind, 0)) for kind in ("sample", "train", "evaluate")},
    }
    cached = {stage for stage in ("sft", "orm") if run.journal.get(stage, {}).get("cached")}
    result["plan"] = planned_and_measured(stages.generation.config, seconds, result["tokens"], run.peaks(), cached)
    final = stages.evaluations[-1]["metrics"]
    stages.tracker.finish({f"final/{metric}": values["value"] for metric, values in final.items()})
    run.finish(result)
    return result

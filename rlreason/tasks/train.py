"""The training task: from a composed experiment to a trained checkpoint and its result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock

from rlreason import trackers
from rlreason.algorithms import Questions, Stages, Start, Trained
from rlreason.algorithms.expert_iteration import expert_iteration
from rlreason.algorithms.sft import sft
from rlreason.algorithms.supervised import supervised_update
from rlreason.config import ExperimentConfig, SFTInitConfig
from rlreason.data import evaluation_problems, training_data
from rlreason.errors import UserError
from rlreason.evaluation.evaluate import differences
from rlreason.models.memory import check_fits
from rlreason.models.resolve import ResolvedModel, resolve
from rlreason.run import Run
from rlreason.tasks.common import cache_key, fit_prompts, quiet_libraries, write_result
from rlreason.tasks.display import Display
from rlreason.tasks.stages import RunStages, derived_seed

Algorithm = Callable[[Any, Start, Questions, int, Stages], Trained]
ALGORITHMS: dict[str, Algorithm] = {"sft": sft, "ei": expert_iteration}


def train(config: ExperimentConfig, plain_config: dict[str, Any], folder: Path, display: Display) -> dict[str, Any]:
    """Run the experiment that `config` describes, from wherever an earlier try left it.

    Args:
        config: The typed experiment.
        plain_config: The same as plain values, saved with the run.
        folder: The run folder.
        display: Shows progress and the result.

    Returns:
        The result, as in `result.json`.

    Raises:
        UserError: Data, model, memory or run folder do not allow it; the message says what to do.
    """
    check_fits(config.model, training=True)
    data = training_data(config.data)
    measured = evaluation_problems(config.data, config.eval.split)
    model = resolve(config.model)
    run = Run(folder, plain_config)
    try:
        display.record = run.event
        with run.timed("start"):
            quiet_libraries()
            from rlreason.models.loading import load_tokenizer

            tokenizer = load_tokenizer(model.folder)
        prompts, too_long = fit_prompts(
            config, tokenizer, data.train, (*data.train, *data.validation, *measured), display
        )
        stages = RunStages(
            config=config,
            run=run,
            tracker=trackers.start(config.tracker, folder, plain_config),
            display=display,
            tokenizer=tokenizer,
            prompts=prompts,
            too_long=too_long,
            validation=asked(data.validation, prompts, "validation"),
            measured=asked(measured, prompts, config.eval.split),
        )
        train_problems = asked(data.train, prompts, "training")
        references = {problem.id: stages.reference(problem) for problem in train_problems if problem.steps}
        questions = Questions(train_problems, references)
        start = Start(model.folder, starting_checkpoint(config, model, questions, run, display))

        trained = ALGORITHMS[config.algo.name](config.algo, start, questions, config.seed, stages)

        last_round = len(stages.evaluations) - 1
        stages.measure("final", last_round, trained.policy, trained.samples_seen, config.eval.k, {})
        changes = differences(stages.per_problem["init"], stages.per_problem["final"], config.eval.resamples)
        return write_result(
            stages,
            model,
            verdict=trained.verdict,
            differences={name: interval.to_dict() for name, interval in changes.items()},
            policy=str(trained.policy.relative_to(folder) if trained.policy.is_relative_to(folder) else trained.policy),
        )
    finally:
        run.close()


def asked(problems: Any, prompts: Any, split: str) -> tuple[Any, ...]:
    """The problems whose prompts fit.

    Raises:
        UserError: None does.
    """
    fitting = tuple(problem for problem in problems if problem.id in prompts)
    if not fitting:
        raise UserError(f"no {split} question fits into data.max_prompt_tokens; raise it")
    return fitting


def starting_checkpoint(
    config: ExperimentConfig, model: ResolvedModel, questions: Questions, run: Run, display: Display
) -> Path:
    """The checkpoint of `init`: the pretrained one, or its SFT model, trained once for all runs that share it."""
    if not isinstance(config.init, SFTInitConfig):
        return model.folder
    examples = list(questions.references.values())
    if not examples:
        raise UserError("init=sft needs worked solutions and this data set has none; use init=scratch")
    key = cache_key(config, model)
    cache = Path(config.runs_dir) / "cache" / f"sft-{config.model.name}-{config.data.name}-{key}"
    checkpoint = (cache / "checkpoint").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / ".lock"):
        if checkpoint.exists():
            if "sft" not in run.journal:
                run.commit("sft", cached=True)
            return checkpoint
        partial = cache / ".checkpoint.partial"
        with display.bar(f"init=sft: fine-tuning on {len(examples):,} reference solutions") as bar, run.timed("train"):
            report = supervised_update(
                model.folder,
                examples,
                config.init,
                config.model,
                partial,
                cache / "training",
                derived_seed(config.seed, "sft"),
                config.checkpoint_seconds,
                lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}"),
            )
        partial.rename(checkpoint)
        shutil.rmtree(cache / "training", ignore_errors=True)
    run.commit("sft", tokens={"train": report.tokens}, steps=report.steps, loss=report.loss, cached=False)
    return checkpoint

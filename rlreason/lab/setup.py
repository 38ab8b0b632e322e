"""What training needs before its first stage: data, model, run folder, prompts, the starting checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlreason.algorithms.base import Questions, Start
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.outcome_model import uses_outcome_model
from rlreason.config.sections import SFTInitConfig
from rlreason.data.splits import evaluation_problems, training_data
from rlreason.display import Display
from rlreason.distributed.ranks import together
from rlreason.errors import UserError
from rlreason.lab.base_evaluation import base_evaluation
from rlreason.lab.common import alone_in, cache_key, check_shape, fit_prompts, quiet_libraries
from rlreason.lab.generation import Generation, SharedEngine, derived_seed
from rlreason.lab.outcome_model import given_model, outcome_model, refuse_seen_questions
from rlreason.lab.stages import RunStages
from rlreason.models.resolve import ResolvedModel, resolve
from rlreason.planning.fit import check_fits
from rlreason.rewards.dense import lacks_results
from rlreason.run import trackers
from rlreason.run.folder import Run
from rlreason.training.supervised import supervised_update
from rlreason.types import Problem


@dataclass(frozen=True)
class Prepared:
    """A training run that is ready for its algorithm.

    Args:
        stages: Carries out its stages.
        model: The base model.
        start: The starting checkpoints.
        questions: What may be trained on.
        too_long: Ids of the questions whose prompts do not fit.
    """

    stages: RunStages
    model: ResolvedModel
    start: Start
    questions: Questions
    too_long: Sequence[str]


@contextmanager
def prepared(
    config: ExperimentConfig, plain_config: dict[str, Any], folder: Path, display: Display
) -> Iterator[Prepared]:
    """Everything up to the first stage, and the outcome reward model where the run uses one.

    Raises:
        UserError: Data, model, memory or run folder do not allow it; the message says what to do.
    """
    advice = check_fits(config)
    if advice is not None:
        display.line(advice)
    data = training_data(config.data)
    measured = evaluation_problems(config.data, config.eval.split)
    elsewhere = evaluation_problems(config.data, "ood") if config.eval.ood else ()
    model = resolve(config.model)
    check_shape(config, model.folder)
    run = Run(folder, plain_config)
    engine = SharedEngine(config)
    try:
        display.record = run.event
        with run.timed("start"):
            quiet_libraries()
            from rlreason.models.loading import load_tokenizer

            tokenizer = load_tokenizer(model.folder)
        prompts, too_long = fit_prompts(
            config, tokenizer, data.train, (*data.train, *data.validation, *measured, *elsewhere), display
        )
        generation = Generation(config, run, display, tokenizer, prompts, engine)
        stages = RunStages(
            generation,
            trackers.start(config.tracker, folder, plain_config),
            validation=asked(data.validation, prompts, "validation"),
            measured=asked(measured, prompts, config.eval.split),
            elsewhere=asked(elsewhere, prompts, "out-of-distribution") if elsewhere else (),
            training=asked(data.train, prompts, "training"),
        )
        report_without_results(config, stages.training, display)
        references = {problem.id: stages.reference(problem) for problem in stages.training if problem.steps}
        questions = Questions(stages.training, references)
        start = Start(model.folder, starting_checkpoint(config, model, questions, run, display))
        stages.base = base_evaluation(config, model, start.init)
        add_outcome_models(stages, start, model)
        yield Prepared(stages, model, start, questions, too_long)
    finally:
        engine.close()
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


def report_without_results(config: ExperimentConfig, training: Sequence[Problem], display: Display) -> None:
    """Say how many questions the dense reward cannot give step credit for."""
    if config.reward.name != "dense":
        return
    without = sum(map(lacks_results, training))
    if without == len(training):
        raise UserError(
            "reward=dense needs worked solutions with results and this data set has none; use reward=sparse"
        )
    if without:
        display.line(f"{without:,} of {len(training):,} reference solutions have no results: only their answer counts")


def add_outcome_models(stages: RunStages, start: Start, model: ResolvedModel) -> None:
    """Make, or take from the cache, the models that reward, label and rerank."""
    generation = stages.generation
    config = generation.config
    if uses_outcome_model(config):
        trained = outcome_model(generation, start, model.source, stages.training, stages.validation)
        stages.outcome_model = stages.judge = trained
    if config.eval.orm is not None and config.eval.orm != "train":
        stages.judge = given_model(Path(config.eval.orm), generation.tokenizer, "eval.orm")
    if stages.judge is not None:
        refuse_seen_questions(stages.judge, stages.measured)


def starting_checkpoint(
    config: ExperimentConfig, model: ResolvedModel, questions: Questions, run: Run, display: Display
) -> Path:
    """The checkpoint of `init`: the pretrained one, or its SFT model, trained once for all runs that share it."""
    if not isinstance(config.init, SFTInitConfig):
        return model.folder
    examples = list(questions.references.values())
    if not examples:
        raise UserError("init=sft needs worked solutions and this data set has none; use init=scratch")
    key = cache_key(config, ("init", "model", "data", "prompt"), model.source)
    cache = Path(config.runs_dir) / "cache" / f"sft-{config.model.name}-{config.data.name}-{key}"
    checkpoint = (cache / "checkpoint").resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with alone_in(cache / ".lock", "the SFT checkpoint", display):
        if checkpoint.exists():
            if "sft" not in run.journal:
                run.commit("sft", cached=True)
            return checkpoint
        partial = cache / ".checkpoint.partial"
        with display.bar(f"init=sft: fine-tuning on {len(examples):,} reference solutions") as bar, run.timed("train"):
            report = together(
                supervised_update,
                model.folder,
                examples,
                config.init,
                config.model,
                partial,
                cache / "training",
                derived_seed(config.seed, "sft"),
                config.checkpoint_seconds,
                (),
                config.sharding,
                progress=lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}"),
            )
        partial.rename(checkpoint)
        shutil.rmtree(cache / "training", ignore_errors=True)
    run.commit("sft", tokens={"train": report.tokens}, steps=report.steps, loss=report.loss, cached=False)
    return checkpoint

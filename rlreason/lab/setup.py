"""What a run needs before its first stage: data, model, run folder, prompts, the starting checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rlreason.algorithms.base import Questions
from rlreason.config.compose import own_parts, with_protocols
from rlreason.config.context import longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.needs import needs_outcome_model
from rlreason.config.sections import PromptConfig, SFTInitConfig, is_auto
from rlreason.data.prompts import solution_text
from rlreason.data.splits import read_data
from rlreason.display import Display
from rlreason.errors import UserError
from rlreason.lab.checks import check_shape, fit_prompts
from rlreason.lab.context import Context, Splits, Start
from rlreason.lab.engine import SharedEngine
from rlreason.lab.shared import sft_checkpoint
from rlreason.lab.updating import reference
from rlreason.models.loading import check_precision
from rlreason.models.resolve import ResolvedModel, resolve
from rlreason.models.tokens import check_embedded, check_spelling, model_kind
from rlreason.orm.training import given_model, outcome_model, refuse_seen_questions
from rlreason.planning.fit import check_fits
from rlreason.planning.hardware import this_machine
from rlreason.planning.phases import engine_tokens
from rlreason.planning.shape import model_shape
from rlreason.planning.workload import ANY_SIZES
from rlreason.quiet import quiet_libraries
from rlreason.rewards.registry import REWARDS
from rlreason.run import trackers
from rlreason.run.files import write_atomically
from rlreason.run.folder import Run
from rlreason.run.identity import OWN
from rlreason.run.left_out import Trouble
from rlreason.types import Problem, Prompt

TRIED = 3  # questions at each end of every split, whose texts the tokeniser is tried on


@dataclass(frozen=True)
class Prepared:
    """A run that is ready for its first stage.

    Args:
        context: What it has at hand.
        questions: What may be trained on.
        too_long: Ids of the questions whose prompts do not fit.
    """

    context: Context
    questions: Questions
    too_long: Sequence[str]


@dataclass(frozen=True)
class Asked:
    """What a run asks of which model, known before there is a run folder.

    Args:
        config: The experiment with the prompts of its kind of model.
        model: Where the model is, and where it came from.
        tokenizer: The model's.
        prompts: Those that fit, by problem id.
        second_prompts: The same of the reported questions under `eval.second_prompt`.
        too_long: Ids of the questions whose prompts do not.
        splits: The questions whose prompts fit.
        seconds: Time that the libraries and the prompts took.
    """

    config: ExperimentConfig
    model: ResolvedModel
    tokenizer: Any
    prompts: Mapping[str, Prompt]
    second_prompts: Mapping[str, Prompt]
    too_long: Sequence[str]
    splits: Splits
    seconds: float


@contextmanager
def prepared(
    config: ExperimentConfig, plain_config: dict[str, Any], folder: Path, display: Display
) -> Iterator[Prepared]:
    """Everything up to the first stage, and the outcome reward model where the run uses one.

    Raises:
        UserError: Data, model, memory or run folder do not allow it; the message says what to do.
    """
    check_precision(config.model.dtype)
    advice = check_fits(config)
    if advice is not None:
        display.line(advice)
    said: list[str] = []
    display.record = said.append
    asked = what_is_asked(config, display)
    config = asked.config
    run = Run(folder, plain_config)
    engine = SharedEngine(
        config,
        longest_context(config),
        cache_tokens=cache_tokens(config, asked),
        report=partial(say_and_count, run, display, Trouble.ENGINE),
    )
    try:
        display.record = run.event
        for text in said:
            run.event(text)
        kind = model_kind(config.model, asked.tokenizer)
        display.line(f"asked with prompt={config.protocol.name}; the model's kind is {kind}")
        keep_own_code(run, config)
        run.add_costs({"start": asked.seconds})
        context = Context(
            config=config,
            run=run,
            display=display,
            tracker=trackers.start(
                config.tracker, folder, plain_config, partial(say_and_count, run, display, Trouble.TRACKER)
            ),
            tokenizer=asked.tokenizer,
            prompts=asked.prompts,
            asked_with=config.protocol,
            second_prompts=asked.second_prompts,
            splits=asked.splits,
            engine=engine,
            source=asked.model.source,
            start=Start(asked.model.folder, asked.model.folder),
        )
        training = asked.splits.training
        references = {item.id: reference(context, item) for item in training if item.steps}
        if config.task.name == "train" and isinstance(config.init, SFTInitConfig):
            context = replace(context, start=Start(asked.model.folder, sft_checkpoint(context, training)))
        yield Prepared(with_outcome_models(context), Questions(training, references), asked.too_long)
    finally:
        engine.close()
        run.close()


def say_and_count(run: Run, display: Display, what: Trouble, line: str) -> None:
    """Show a line of what went wrong, and count it for the table at the end of the run."""
    display.line(line)
    run.trouble(what, line)


def what_is_asked(config: ExperimentConfig, display: Display) -> Asked:
    """Read data and model, and make the prompts; a run folder is made once nothing of it can be refused any more.

    Raises:
        UserError: Data or model do not allow it; the message says what to do.
    """
    trains = config.task.name == "train"
    with display.status(f"reading data={config.data.name}", spinner=False):
        data = read_data(config.data)
    learned = data.training() if trains else None
    validation = learned.validation if learned is not None else ()
    # Solved examples come from training questions also where nothing is trained.
    training = learned.train if learned is not None else data.splits.get("train", ())
    measured = data.measured(config.eval.split)
    elsewhere = data.measured("ood") if trains and config.eval.ood else ()
    with display.status(f"looking for model.path={config.model.path}", spinner=False):
        model = resolve(config.model)
    check_shape(config, model.folder)
    begun = time.monotonic()
    quiet_libraries()
    from rlreason.models.loading import load_tokenizer

    tokenizer = load_tokenizer(model.folder)
    by_itself = is_auto(config.eval.second_prompt)  # nobody has asked for it
    config = with_protocols(config, model_kind(config.model, tokenizer))
    for note in data.notes:
        display.line(note)
    splits = {
        "training": training if trains else (),
        "validation": validation,
        config.eval.split: measured,
        "out-of-distribution": elsewhere,
    }
    name = config.model.path
    asked_of = [problem for problems in splits.values() for problem in (*problems[:TRIED], *problems[-TRIED:])]
    spelled = (text for item in asked_of for text in (item.question, solution_text(item, config.protocol)))
    check_spelling(tokenizer, spelled, name)
    prompts, too_long = fit_prompts(config, config.protocol, tokenizer, training, splits, display)
    check_embedded(model.folder, (token for item in prompts.values() for token in item.token_ids), tokenizer, name)

    def fitting(problems: Sequence[Problem]) -> tuple[Problem, ...]:
        return tuple(problem for problem in problems if problem.id in prompts)

    second_prompts: Mapping[str, Prompt] = {}
    if isinstance(config.eval.second, PromptConfig):
        reported = {config.eval.split: fitting(measured)}
        try:
            second_prompts, _ = fit_prompts(config, config.eval.second, tokenizer, training, reported, display)
        except UserError as error:
            if not by_itself:
                raise UserError(f"eval.second_prompt: {error}") from error
            display.line(f"nothing is measured under prompt={config.eval.second.name} beside: {error}")
            config = replace(config, eval=replace(config.eval, second_prompt=None))
    asked = Splits(fitting(training) if trains else (), fitting(validation), fitting(measured), fitting(elsewhere))
    report_lacking_references(config, asked.training, display)
    return Asked(config, model, tokenizer, prompts, second_prompts, too_long, asked, time.monotonic() - begun)


def cache_tokens(config: ExperimentConfig, asked: Asked) -> int | None:
    """Tokens whose keys and values the engine is to hold for what is asked; None where the model is not understood."""
    machine = this_machine()
    shape = model_shape(replace(config.model, path=str(asked.model.folder)))
    if shape is None or machine.gpus:
        return None
    if not config.check_memory:
        machine = replace(machine, memory=None)
    splits, prompts = asked.splits, (*asked.prompts.values(), *asked.second_prompts.values())
    sizes = replace(
        ANY_SIZES,
        training=len(splits.training),
        validation=len(splits.validation),
        measured=max(len(splits.measured), len(splits.elsewhere)),
        longest_prompt=max(len(prompt.token_ids) for prompt in prompts),
    )
    return engine_tokens(config, shape, machine, sizes)


def report_lacking_references(config: ExperimentConfig, training: Sequence[Problem], display: Display) -> None:
    """Say how many training questions the reward cannot give step credit for.

    Raises:
        UserError: It can for none.
    """
    name = config.reward.name
    lacks = REWARDS[name].lacks_reference
    if lacks is None or not training:
        return
    without = sum(map(lacks, training))
    if without == len(training):
        raise UserError(
            f"reward={name} needs worked solutions with results and this data set has none; use reward=sparse"
        )
    if without:
        display.line(f"{without:,} of {len(training):,} reference solutions have no results: only their answer counts")


def keep_own_code(run: Run, config: ExperimentConfig) -> None:
    """Keep what the user has written and the run is made with in the run folder, as it was imported."""
    for part in own_parts(config):
        name = part.file.name if part.file else f"{part.name}.txt"
        (run.folder / OWN).mkdir(exist_ok=True)
        write_atomically(run.folder / OWN / f"{part.digest}-{name}", part.source)


def with_outcome_models(context: Context) -> Context:
    """The context with the models that reward, label and rerank, made or taken from the cache."""
    config = context.config
    wanted = config.eval.orm
    if config.task.name == "train" and needs_outcome_model(config):
        trained = outcome_model(context)
        context = replace(context, outcome_model=trained, reranker=trained)
    if wanted is not None and wanted != "train":
        reranker = given_model(Path(wanted), context.tokenizer, "eval.orm", context.engine.release)
        context = replace(context, reranker=reranker)
    if context.reranker is not None:
        refuse_seen_questions(context.reranker, context.splits.measured)
    return context

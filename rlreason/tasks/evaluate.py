"""The evaluation task: every metric of one checkpoint, with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlreason.config.experiment import ExperimentConfig
from rlreason.data.splits import evaluation_problems, training_data
from rlreason.display import Display
from rlreason.lab.common import check_shape, fit_prompts, quiet_libraries, write_result
from rlreason.lab.generation import Generation, SharedEngine
from rlreason.lab.outcome_model import given_model, refuse_seen_questions
from rlreason.lab.stages import RunStages
from rlreason.models.resolve import resolve
from rlreason.planning.fit import check_fits
from rlreason.run import trackers
from rlreason.run.folder import Run


def evaluate(config: ExperimentConfig, plain_config: dict[str, Any], folder: Path, display: Display) -> dict[str, Any]:
    """Sample from the model, grade and measure; continue where an earlier try stopped.

    Raises:
        UserError: Data, model, memory or run folder do not allow it; the message says what to do.
    """
    advice = check_fits(config)
    if advice is not None:
        display.line(advice)
    measured = evaluation_problems(config.data, config.eval.split)
    examples = training_data(config.data).train if config.prompt.examples else ()
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
        prompts, too_long = fit_prompts(config, tokenizer, examples, measured, display)
        stages = RunStages(
            Generation(config, run, display, tokenizer, prompts, engine),
            trackers.start(config.tracker, folder, plain_config),
            measured=tuple(problem for problem in measured if problem.id in prompts),
        )
        if config.eval.orm is not None:
            stages.judge = given_model(Path(config.eval.orm), tokenizer, "eval.orm")
            refuse_seen_questions(stages.judge, stages.measured)
        stages.measure("final", 0, model.folder, 0, config.eval.k, {})
        return write_result(stages, model, too_long, verdict=f"evaluated {len(stages.measured):,} questions")
    finally:
        engine.close()
        run.close()

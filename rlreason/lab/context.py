"""What a run has at hand: its configuration and folder, the questions, the prompts, the engine. It never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rlreason.answers.extraction import EXTRACTIONS, Extraction
from rlreason.answers.steps import StepSplitter
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import PromptConfig
from rlreason.display import Display
from rlreason.lab.engine import SharedEngine
from rlreason.models.tokens import end_ids
from rlreason.orm.model import OutcomeModel
from rlreason.run.folder import Run
from rlreason.run.trackers import Tracker
from rlreason.types import Problem, Prompt


@dataclass(frozen=True)
class Splits:
    """The questions of a run whose prompts fit.

    Args:
        training: May be trained on.
        validation: Select checkpoints and calibrate an outcome reward model.
        measured: Are reported.
        elsewhere: Questions of another kind, on which the first and the last policy are measured as well; may be empty.
    """

    training: Sequence[Problem]
    validation: Sequence[Problem]
    measured: Sequence[Problem]
    elsewhere: Sequence[Problem] = ()


@dataclass(frozen=True)
class Start:
    """Where training starts.

    Args:
        base: The pretrained checkpoint.
        init: The checkpoint that `init` asks for: `base` itself, or its SFT model.
    """

    base: Path
    init: Path


@dataclass(frozen=True)
class Context:
    """What every part of a run may use.

    Args:
        config: The experiment.
        run: The run folder.
        display: Shows progress.
        tracker: Receives metrics and example rollouts.
        tokenizer: The base model's tokeniser, which all checkpoints of the run share.
        prompts: The prompt of every question that may be asked, by problem id.
        asked_with: How these were made: the section `prompt`, or that of `eval.second_prompt`.
        second_prompts: Those of the reported questions under `eval.second_prompt`; empty without.
        splits: The questions.
        engine: What generates.
        source: Where the base model came from.
        start: The starting checkpoints.
        outcome_model: Rewards, labels or starts a critic, where the run has one.
        reranker: Ranks samples in evaluations, where the run has one; usually the same.
        splitter: Splits completions into steps.
        ends: Tokens that end a completion; the first closes a solution that is learned.
    """

    config: ExperimentConfig
    run: Run
    display: Display
    tracker: Tracker
    tokenizer: Any
    prompts: Mapping[str, Prompt]
    asked_with: PromptConfig
    second_prompts: Mapping[str, Prompt]
    splits: Splits
    engine: SharedEngine
    source: str
    start: Start
    outcome_model: OutcomeModel | None = None
    reranker: OutcomeModel | None = None
    splitter: StepSplitter = field(init=False)
    ends: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "splitter", StepSplitter(self.tokenizer, self.extraction))
        object.__setattr__(self, "ends", end_ids(self.start.base, self.tokenizer, self.config.protocol.chat))

    @property
    def extraction(self) -> Extraction:
        """How answers are found in what is written under these prompts."""
        return EXTRACTIONS[self.asked_with.extraction]

    def under_second_prompt(self) -> Context:
        """The same with the prompts of `eval.second_prompt`, and the reported questions whose prompts fit."""
        asked_with = self.config.eval.second
        if not isinstance(asked_with, PromptConfig):
            raise RuntimeError("this run has no second prompt")
        measured = tuple(problem for problem in self.splits.measured if problem.id in self.second_prompts)
        splits = replace(self.splits, measured=measured)
        return replace(self, prompts=self.second_prompts, asked_with=asked_with, splits=splits)

    def decode(self, ids: Sequence[int]) -> str:
        """Token ids as text, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

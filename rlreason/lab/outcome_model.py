"""The outcome reward model of a run: a given one, or one trained here and cached for all runs that share its recipe.

It is trained in a folder of its own with its own journal, so that it is resumed like any run and trained once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlreason.algorithms.base import Start
from rlreason.answers.equality import grade
from rlreason.config.rewards import OutcomeModelConfig
from rlreason.distributed.ranks import together
from rlreason.engines.engine import SampleRequest
from rlreason.errors import UserError
from rlreason.lab.common import alone_in, cache_key
from rlreason.lab.generation import Generation, derived_seed
from rlreason.lab.stages import RunStages
from rlreason.models.loading import fingerprint
from rlreason.orm.calibration import Calibration
from rlreason.orm.model import Card, OutcomeModel, read_card
from rlreason.orm.training import outcome_reward_model
from rlreason.orm.update import LabelledSolution, outcome_update
from rlreason.rewards.sparse import sparse_reward
from rlreason.run import store
from rlreason.run.folder import Run
from rlreason.run.trackers import NoTracker
from rlreason.types import GradedRollout, Problem


def outcome_model(
    generation: Generation, start: Start, source: str, training: Sequence[Problem], validation: Sequence[Problem]
) -> OutcomeModel:
    """The model that the section `orm` describes: `orm.path`, or trained once and cached.

    Args:
        generation: Of the run that needs the model.
        start: Its starting checkpoints.
        source: Where its base came from.
        training: Training questions.
        validation: Validation questions.

    Raises:
        UserError: The given model cannot judge this run's solutions, or there is nothing to learn.
    """
    config = generation.config
    if config.orm.path is not None:
        return given_model(Path(config.orm.path), generation.tokenizer, "orm.path")
    key = cache_key(config, ("orm", "init", "model", "data", "prompt"), source)
    folder = Path(config.runs_dir) / "cache" / f"orm-{config.model.name}-{config.data.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    trained = folder.resolve() / "checkpoints" / "round-1"
    with alone_in(folder / ".training", "the outcome reward model", generation.display):
        run = Run(folder.resolve(), generation.run.config, any_configuration=True)
        cached = "calibrated" in run.journal
        earlier = run.totals("seconds")
        try:
            if not cached:
                generation.display.line(f"training the outcome reward model in {folder}")
                inner = Generation(
                    config, run, generation.display, generation.tokenizer, generation.prompts, generation.engine
                )
                stages = ModelStages(inner)
                _, calibration = outcome_reward_model(config.orm, start, training, validation, config.seed, stages)
                save_card(generation, trained, calibration, (*training, *validation))
                run.commit("calibrated", calibration=asdict(calibration))
        finally:
            run.close()
    if "orm" not in generation.run.journal:
        generation.run.add_costs(
            {kind: spent - earlier.get(kind, 0.0) for kind, spent in run.totals("seconds").items()}
        )
        rollouts = sum(record.get("rollouts", 0) for record in run.journal.values())
        generation.run.commit("orm", cached=cached, orm_rollouts=rollouts, folder=str(folder))
    return OutcomeModel(trained, read_card(trained))


def given_model(folder: Path, tokenizer: Any, option: str) -> OutcomeModel:
    """A trained model from a folder that the user names; a run folder of algo=orm will do.

    Raises:
        UserError: There is none, or it reads other tokens than this run writes.
    """
    folder = folder.resolve()
    inside = folder / "checkpoints" / "round-1"
    card = read_card(inside if (inside / "outcome_model.json").exists() else folder)
    if card.tokenizer != fingerprint(tokenizer):
        raise UserError(
            f"{option}={folder}: this outcome reward model was trained with another base and tokeniser; "
            "choose one of the same model family as model=..., or train one with algo=orm"
        )
    return OutcomeModel(inside if (inside / "outcome_model.json").exists() else folder, card)


def refuse_seen_questions(model: OutcomeModel, measured: Sequence[Problem]) -> None:
    """Refuse a model that knows the answers to questions it is to be measured on.

    Raises:
        UserError: It was trained or calibrated on some of them.
    """
    seen = set(model.card.questions)
    shared = [problem.id for problem in measured if question_hash(problem) in seen]
    if shared:
        raise UserError(
            f"the outcome reward model in {model.folder} was trained on {len(shared):,} of the {len(measured):,} "
            f"questions to be measured (first: {shared[0]}); reranking them would be worthless: use another model"
        )


def question_hash(problem: Problem) -> str:
    """The same for questions that differ in white space and case only."""
    return hashlib.sha256(" ".join(problem.question.casefold().split()).encode()).hexdigest()[:16]


def save_card(generation: Generation, folder: Path, calibration: Calibration, questions: Sequence[Problem]) -> None:
    """Write what a later run must know before it trusts the model."""
    Card(
        tokenizer=fingerprint(generation.tokenizer),
        likelihood=generation.config.orm.likelihood,
        calibration=calibration,
        questions=tuple(sorted({question_hash(problem) for problem in questions})),
    ).save(folder)


@dataclass
class ModelStages:
    """Carries out the stages of one model's training; implements `OutcomeStages`."""

    generation: Generation

    def solutions(
        self, purpose: str, policy: Path, problems: Sequence[Problem], samples: int, temperature: float
    ) -> list[GradedRollout]:
        """Draw and grade the solutions of one purpose."""
        scored = self.generation.rollouts(
            f"orm-{purpose}", 1, policy, problems, samples, temperature, "sample", sparse_reward
        )
        return self.generation.as_graded(scored, problems)

    def continuations(
        self, policy: Path, prefixes: Sequence[tuple[GradedRollout, int]], samples: int, temperature: float
    ) -> list[float]:
        """The share of right continuations of every prefix; the prefix becomes part of the prompt."""
        stage = "orm-continuations"
        path = self.generation.run.rollouts / f"{stage}.parquet"
        names = [f"{item.problem.id}/{item.rollout.sample}/{end}" for item, end in prefixes]
        if stage in self.generation.run.journal:
            return [values[0] for values in store.read_scores(path)]
        requests = [
            SampleRequest(
                name,
                sample,
                derived_seed(self.generation.config.seed, stage, name, sample),
                (*item.rollout.prompt_ids, *item.rollout.completion_ids[:end]),
                max(1, self.generation.config.data.max_completion_tokens - end),
            )
            for name, (item, end) in zip(names, prefixes, strict=True)
            for sample in range(samples)
        ]
        drawn = self.generation.drawn(stage, policy, requests, temperature, "sample")
        by_name = dict(zip(names, prefixes, strict=True))
        decode = self.generation.tokenizer.decode
        texts = [
            decode(
                [
                    *by_name[rollout.problem_id][0].rollout.completion_ids[: by_name[rollout.problem_id][1]],
                    *rollout.completion_ids,
                ],
                skip_special_tokens=True,
            )
            for rollout in drawn
        ]
        correct = grade(texts, [by_name[rollout.problem_id][0].problem.answer for rollout in drawn])
        right = dict.fromkeys(names, 0)
        for rollout, is_right in zip(drawn, correct, strict=True):
            right[rollout.problem_id] += is_right
        shares = [right[name] / samples for name in names]
        store.write_scores(path, [item.rollout for item, _ in prefixes], [[share] for share in shares])
        self.generation.commit_rollouts(stage, "sample", drawn)
        return shares

    def update(self, start: Path, solutions: Sequence[LabelledSolution], config: OutcomeModelConfig) -> Path:
        """Train the model unless that is done already."""
        settings = self.generation.config
        output = self.generation.run.checkpoint("round-1")
        seed = derived_seed(settings.seed, "orm")
        RunStages(self.generation, NoTracker()).train(
            "train-orm",
            f"learning from {len(solutions):,} solutions",
            output,
            len(solutions),
            lambda target, resumable, progress: together(
                outcome_update,
                start,
                solutions,
                config,
                settings.model,
                target,
                resumable,
                seed,
                settings.checkpoint_seconds,
                settings.sharding,
                progress=progress,
            ),
        )
        return output

    def logits(self, model: Path, graded: Sequence[GradedRollout]) -> list[tuple[float, ...]]:
        """Raw scores at the end of every step."""
        card = Card("", self.generation.config.orm.likelihood, Calibration(1.0, 0.0, 0.5), ())
        with self.generation.run.timed("reward"):
            return OutcomeModel(model, card).logits(graded)

"""The outcome reward model (Cobbe et al. 2021; Havrilla et al. 2024): p(right | question, steps so far).

K solutions per training question are sampled from a policy and graded; right and wrong ones, weighted to count the
same, train a scalar head on a language model with binary cross-entropy at the end of every step (or at every token),
beside the language model's own loss on the right ones. A prefix is labelled by the outcome of its own solution, or by
the share of right continuations sampled from it (stepwise, GLoRe, Havrilla et al. 2024b). Validation questions
calibrate the score and its threshold.

It is trained in a folder of the cache with a journal of its own, so that it is resumed like any run and trained once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlreason.answers.equality import grade
from rlreason.answers.steps import through_answer
from rlreason.config.needs import learns_from_outcome_model
from rlreason.distributed import ranks
from rlreason.engines.engine import SampleRequest
from rlreason.errors import NothingToLearn, UserError
from rlreason.lab.context import Context
from rlreason.lab.sampling import derived_seed, draw, rollouts, sampling_facts
from rlreason.lab.shared import deciding_sections, made_once
from rlreason.lab.updating import trained
from rlreason.models.loading import fingerprint
from rlreason.orm.calibration import VALIDATION_SAMPLES, Calibration, fit_calibration
from rlreason.orm.model import Card, OutcomeModel, read_card
from rlreason.orm.settings import OutcomeModelConfig
from rlreason.orm.update import LabelledSolution, outcome_update
from rlreason.run import store
from rlreason.run.checkpoints import refuse_broken
from rlreason.run.stage import ORM_CALIBRATION, ORM_UPDATE, orm_solutions, shared
from rlreason.training.common import Progress, UpdateReport
from rlreason.types import Problem, Rollout

CHECKPOINT = "round-1"


def outcome_model(context: Context) -> OutcomeModel:
    """The model that the section `orm` describes: `orm.path`, or trained once and cached.

    Args:
        context: The context of the run that needs the model.

    Raises:
        UserError: The given model cannot judge this run's solutions, or there is nothing to learn.
    """
    config = context.config
    if config.orm.path is not None:
        return given_model(Path(config.orm.path), context.tokenizer, "orm.path", context.engine.release)
    deciding = deciding_sections(context, ("orm", "init", "model", "data", "prompt"))
    name, what = f"orm-{config.model.name}-{config.data.name}", "the outcome reward model"
    made = made_once(context, name, deciding, ORM_CALIBRATION, what, calibrated_model)
    stage = shared("orm")
    if stage.name not in context.run.journal:
        drawn = sum(record.get("rollouts", 0) for record in made.journal.values())
        teaches = learns_from_outcome_model(config)
        context.run.commit(stage, cached=made.cached, orm_rollouts=drawn, orm_teaches=teaches, folder=str(made.folder))
    return OutcomeModel(made.value, read_card(made.value), context.engine.release)


def calibrated_model(cache: Context) -> Path:
    """Train and calibrate a model on solutions of the policy that training starts from; its folder.

    Args:
        cache: A context whose run folder is the model's own.

    Raises:
        NothingToLearn: All solutions are right, or all are wrong, so that there is nothing to tell apart.
    """
    folder = cache.run.checkpoint(CHECKPOINT)

    def make() -> tuple[Path, dict[str, Any]]:
        cache.display.line(f"training the outcome reward model in {cache.run.folder}")
        calibration = outcome_reward_model(cache, folder)
        questions = (*cache.splits.training, *cache.splits.validation)
        save_card(cache, folder, calibration, questions)
        return folder, {"calibration": asdict(calibration)}

    def read() -> Path:
        refuse_broken(folder)
        return folder

    return cache.run.once(ORM_CALIBRATION, make, read)


def outcome_reward_model(cache: Context, folder: Path) -> Calibration:
    """Sample, label, learn, calibrate: the whole method, top to bottom."""
    config = cache.config.orm
    drawn = solutions(cache, "training", cache.splits.training, config.samples, config.temperature)
    chosen = [item for item in drawn if item.steps]
    require_both(chosen, "training questions", "orm.samples")
    if config.label == "rollout":
        prefixes = [(item, step.end) for item in chosen for step in through_answer(item.steps)[:-1]]
        shares = iter(continuations(cache, prefixes, config.continuations, config.temperature))
        labels = [[next(shares) for _ in through_answer(item.steps)[:-1]] + [float(item.correct)] for item in chosen]
    else:
        labels = [[float(item.correct)] * len(through_answer(item.steps)) for item in chosen]
    weights = outcome_weights(chosen)
    learned = [
        labelled(item, values, config.loss_on, weights[item.correct])
        for item, values in zip(chosen, labels, strict=True)
    ]
    learn(cache, cache.start.init, learned, config, folder)

    held_out = solutions(cache, "validation", cache.splits.validation, VALIDATION_SAMPLES, config.temperature)
    held_out = [item for item in held_out if item.steps]
    require_both(held_out, "validation questions", "data.validation_size")
    final = [scores[-1] for scores in raw_scores(cache, folder, held_out)]
    return fit_calibration(final, [item.correct for item in held_out])


def solutions(
    cache: Context, purpose: str, problems: Sequence[Problem], samples: int, temperature: float
) -> list[Rollout]:
    """Graded solutions of one purpose, "training" or "validation", sampled from the starting policy."""
    return rollouts(cache, orm_solutions(purpose), cache.start.init, problems, samples, temperature)


def continuations(
    cache: Context, prefixes: Sequence[tuple[Rollout, int]], samples: int, temperature: float
) -> list[float]:
    """For each (solution, tokens kept), the share of right answers among continuations of those tokens.

    The prefix becomes part of the prompt, and each counts as a problem of its own.
    """
    stage = orm_solutions("continuations")
    path = cache.run.rollouts / f"{stage.name}.parquet"
    names = [f"{item.problem.id}/{item.sample}/{end}" for item, end in prefixes]
    begun = dict(zip(names, prefixes, strict=True))

    def make() -> tuple[list[float], dict[str, Any]]:
        asked = [
            Problem(name, item.problem.question, item.problem.answer)
            for name, (item, _) in zip(names, prefixes, strict=True)
        ]
        requests = [
            SampleRequest(
                problem,
                sample,
                derived_seed(cache.config.seed, stage.name, problem.id, sample),
                (*item.prompt_ids, *item.completion_ids[:end]),
                max(1, cache.config.data.max_completion_tokens - end),
            )
            for problem, (item, end) in zip(asked, prefixes, strict=True)
            for sample in range(samples)
        ]
        drawn = draw(cache, stage, cache.start.init, requests, temperature)
        texts = []
        for rollout in drawn:
            item, end = begun[rollout.problem.id]
            texts.append(cache.decode([*item.completion_ids[:end], *rollout.completion_ids]))
        right = dict.fromkeys(names, 0)
        found = grade(texts, [item.problem.answer for item in drawn], cache.extraction.answer)
        for rollout, correct in zip(drawn, found, strict=True):
            right[rollout.problem.id] += correct
        shares = [right[name] / samples for name in names]
        store.write_scores(path, [item for item, _ in prefixes], [[share] for share in shares])
        return shares, sampling_facts(stage, drawn)

    found = cache.run.once(stage, make, lambda: [values[0] for values in store.read_scores(path)])
    store.remove_parts(cache.run.rollouts, stage.name)
    return found


def learn(
    cache: Context, start: Path, learned: Sequence[LabelledSolution], config: OutcomeModelConfig, output: Path
) -> None:
    """Train the model on labelled solutions."""
    settings = cache.config

    def work(unfinished: Path, resumable: Path, progress: Progress) -> UpdateReport:
        return ranks.together(
            outcome_update,
            start,
            learned,
            config,
            settings.model,
            unfinished,
            resumable,
            derived_seed(settings.seed, "orm"),
            settings.checkpoint_seconds,
            settings.sharding,
            progress=progress,
        )

    trained(cache, ORM_UPDATE, f"learning from {len(learned):,} solutions", [output], len(learned), work)


def raw_scores(cache: Context, model: Path, graded: Sequence[Rollout]) -> list[tuple[float, ...]]:
    """Scores before calibration at the end of every step through the final answer."""
    card = Card("", cache.config.orm.likelihood, Calibration(1.0, 0.0, 0.5), ())
    description = f"{ORM_CALIBRATION.name}: scoring {len(graded):,} solutions"
    with cache.display.bar(description) as bar, cache.run.timed("reward"):
        judge = OutcomeModel(model, card, cache.engine.release)
        return judge.logits(graded, lambda done, total: bar.update(done, total, ""))


def outcome_weights(chosen: Sequence[Rollout]) -> dict[bool, float]:
    """Weights of wrong and of right solutions, such that both count the same together.

    Leaving solutions out until both are equally many, or not balancing at all, was better on one policy's samples and
    worse on another's (docs/log.md, "Outcome reward model, from hidden states alone").
    """
    right = sum(item.correct for item in chosen)
    return {False: len(chosen) / (2 * (len(chosen) - right)), True: len(chosen) / (2 * right)}


def require_both(graded: Sequence[Rollout], what: str, option: str) -> None:
    """Refuse solutions that are all right or all wrong.

    Raises:
        NothingToLearn: They are.
    """
    right = sum(item.correct for item in graded)
    if right in (0, len(graded)):
        raise NothingToLearn(
            f"all {len(graded):,} sampled solutions of the {what} are {'right' if right else 'wrong'}, so an outcome "
            f"reward model has nothing to learn; raise {option} or orm.temperature, or start from another checkpoint"
        )


def labelled(item: Rollout, step_labels: Sequence[float], loss_on: str, weight: float) -> LabelledSolution:
    """A solution with its labels at the ends of its steps, or at each of their tokens."""
    steps = through_answer(item.steps)
    labels = {
        position: label
        for step, label in zip(steps, step_labels, strict=True)
        for position in (range(step.start, step.end) if loss_on == "tokens" else (step.end - 1,))
    }
    return LabelledSolution(item.prompt_ids, item.completion_ids[: steps[-1].end], labels, item.correct, weight)


def given_model(folder: Path, tokenizer: Any, option: str, make_room: Callable[[], None]) -> OutcomeModel:
    """A trained model from a folder that the user names; `make_room` as for `OutcomeModel`.

    Raises:
        UserError: There is none, or it reads other tokens than this run writes.
    """
    folder = folder.resolve()
    card = read_card(folder)
    if card.tokenizer != fingerprint(tokenizer):
        raise UserError(
            f"{option}={folder}: this outcome reward model was trained with another base and tokeniser; "
            "choose one of the same model family as model=..., or train one with algo=orm"
        )
    return OutcomeModel(folder, card, make_room)


def refuse_seen_questions(model: OutcomeModel, measured: Sequence[Problem]) -> None:
    """Refuse a model that knows the answers to questions it is to be measured on.

    Raises:
        UserError: It was trained or calibrated on some of them.
    """
    seen = set(model.card.questions)
    known = [problem.id for problem in measured if question_hash(problem) in seen]
    if known:
        raise UserError(
            f"the outcome reward model in {model.folder} was trained on {len(known):,} of the {len(measured):,} "
            f"questions to be measured (first: {known[0]}); reranking them would be worthless: use another model"
        )


def question_hash(problem: Problem) -> str:
    """The same for questions that differ in white space and case only."""
    return hashlib.sha256(" ".join(problem.question.casefold().split()).encode()).hexdigest()[:16]


def save_card(cache: Context, folder: Path, calibration: Calibration, questions: Sequence[Problem]) -> None:
    """Write what a later run must know before it trusts the model."""
    Card(
        tokenizer=fingerprint(cache.tokenizer),
        likelihood=cache.config.orm.likelihood,
        calibration=calibration,
        questions=tuple(sorted({question_hash(problem) for problem in questions})),
    ).save(folder)

"""Rollouts of a run: stored ones first, the rest from the engine; graded, rewarded, sealed, each stage once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlreason.answers.equality import verdicts
from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.shared_memory import is_in_memory
from rlreason.engines.stepwise import sample_stepwise
from rlreason.lab.context import Context
from rlreason.models.return_condition import condition_of
from rlreason.rewards.base import Reward
from rlreason.rewards.sparse import sparse_reward
from rlreason.run import store
from rlreason.run.stage import INIT, Kind, Stage
from rlreason.types import Problem, Rollout

GREEDY_SEED = -1


def rollouts(
    context: Context,
    stage: Stage,
    policy: Path,
    problems: Sequence[Problem],
    samples: int,
    temperature: float,
    reward: Reward = sparse_reward,
    ask_for_bad: bool = False,
    given: Mapping[str, tuple[int, ...]] | None = None,
) -> list[Rollout]:
    """All rollouts of a stage, in the order of the problems, then of the samples.

    Args:
        context: The run's context.
        stage: Names the stage in the journal and its file.
        policy: The checkpoint; one that is conditioned on returns is asked for good ones.
        problems: What is asked.
        samples: Completions of each problem.
        temperature: 0 is greedy decoding.
        reward: Scores the graded rollouts.
        ask_for_bad: Ask a return-conditioned policy for bad ones instead.
        given: Tokens that the completions of a problem begin with, by its id.
    """
    folder, begun = context.run.rollouts, given or {}
    measures = stage.kind == Kind.EVALUATION

    def make() -> tuple[list[Rollout], dict[str, Any]]:
        requests = [
            _request(context, stage, problem, sample, temperature, begun.get(problem.id, ()))
            for problem in problems
            for sample in range(samples)
        ]
        drawn = draw(context, stage, policy, requests, temperature, ask_for_bad)
        drawn = [_with_given(context, rollout, begun.get(rollout.problem.id, ())) for rollout in drawn]
        with context.run.timed("evaluate" if measures else "grade"):
            graded = graded_rollouts(context, drawn, problems)
        with context.run.timed("evaluate" if measures else "reward"):
            rewarded = [replace(item, rewards=earned) for item, earned in zip(graded, reward(graded), strict=True)]
            checkpoint = name_of(context, policy)
            store.seal(
                folder, stage.name, rewarded, round_number=stage.number, checkpoint=checkpoint, temperature=temperature
            )
        return rewarded, sampling_facts(stage, rewarded)

    found = context.run.once(stage, make, lambda: sealed_rollouts(context, stage.name, problems))
    store.remove_parts(folder, stage.name)
    return found


def taken_rollouts(
    context: Context, stage: Stage, earlier: Stage, policy: Path, problems: Sequence[Problem], temperature: float
) -> list[Rollout]:
    """The rollouts of an earlier stage as those of another, for which the same would be asked of the same policy.

    They are stored under both names and counted once.

    Args:
        context: The run's context.
        stage: Names the stage in the journal and its file.
        earlier: The finished stage that drew them.
        policy: The checkpoint.
        problems: What was asked.
        temperature: They were drawn at.
    """
    folder = context.run.rollouts

    def make() -> tuple[list[Rollout], dict[str, Any]]:
        with context.run.timed("evaluate"):
            found = sealed_rollouts(context, earlier.name, problems)
            checkpoint = name_of(context, policy)
            store.seal(
                folder, stage.name, found, round_number=stage.number, checkpoint=checkpoint, temperature=temperature
            )
        return found, {"same_as": earlier.name}

    taken = context.run.once(stage, make, lambda: sealed_rollouts(context, stage.name, problems))
    store.remove_parts(folder, stage.name)
    return taken


def draw(
    context: Context,
    stage: Stage,
    policy: Path,
    requests: Sequence[SampleRequest],
    temperature: float,
    ask_for_bad: bool = False,
) -> list[Rollout]:
    """Rollouts of all requests, before grading: what an interrupted process has stored, and the rest newly sampled."""
    problems = {request.problem.id: request.problem for request in requests}
    found = store.read_parts(context.run.rollouts, stage.name, problems)
    stored = {(rollout.problem.id, rollout.sample) for rollout in found}
    missing = [request for request in requests if (request.problem.id, request.sample) not in stored]
    if not missing:
        return found
    tokens = count = 0
    stream = _stream(context, policy, missing, temperature, ask_for_bad)
    writer = store.PartWriter(context.run.rollouts, stage.name)
    with (
        context.display.bar(f"{stage.name}: sampling {len(missing):,} from {name_of(context, policy)}") as bar,
        context.run.timed(_spent_on(stage)),
    ):
        bar.update(0, len(missing), "")
        for finished in stream:
            writer.append(finished)
            found += finished
            count += len(finished)
            tokens += sum(len(rollout.completion_ids) for rollout in finished)
            bar.update(count, len(missing), f"{tokens / bar.seconds():,.0f} tokens/s")
    writer.close()
    return found


def graded_rollouts(context: Context, drawn: Sequence[Rollout], problems: Sequence[Problem]) -> list[Rollout]:
    """Rollouts with their steps and their outcome, in the order of the problems, then of the samples."""
    order = {problem.id: position for position, problem in enumerate(problems)}
    ordered = sorted(drawn, key=lambda rollout: (order[rollout.problem.id], rollout.sample))
    golds = [item.problem.answer for item in ordered]
    found = verdicts([item.text for item in ordered], golds, context.extraction.answer)
    return [
        replace(
            item,
            steps=context.splitter.split(item.completion_ids, item.text),
            answer=verdict.answer,
            correct=verdict.correct,
            is_unread=verdict.is_unread,
        )
        for item, verdict in zip(ordered, found, strict=True)
    ]


def sealed_rollouts(context: Context, name: str, problems: Sequence[Problem]) -> list[Rollout]:
    """The rollouts of a finished stage of this run, with their steps again."""
    by_id = {problem.id: problem for problem in problems}
    return [
        replace(item, steps=context.splitter.split(item.completion_ids, item.text))
        for item in store.read_sealed(context.run.rollouts, name, by_id)
    ]


def sampling_facts(stage: Stage, drawn: Sequence[Rollout]) -> dict[str, Any]:
    """What the journal says of a stage that has sampled."""
    return {
        "tokens": {_spent_on(stage): sum(len(rollout.completion_ids) for rollout in drawn)},
        "rollouts": len(drawn),
        "cut_at_limit": sum(rollout.finish_reason == "length" for rollout in drawn),
        "unread": sum(rollout.is_unread for rollout in drawn),
    }


def name_of(context: Context, policy: Path) -> str:
    """The round that made a checkpoint, the batch that a policy of on-policy training samples, or "init".

    Of a checkpoint of another run it is the folder.
    """
    own = (context.run.folder / "checkpoints", context.run.folder / "training" / "sync")
    if policy.parent in own or is_in_memory(policy.parent):
        return policy.name
    return INIT if policy in (context.start.init, context.start.base) else str(policy)


def derived_seed(*parts: object) -> int:
    """A seed from 0 to 2^32 - 1 (the range of numpy's) that depends on every part and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


def _spent_on(stage: Stage) -> str:
    """The kind of cost that sampling for a stage is."""
    return "evaluate" if stage.kind == Kind.EVALUATION else "sample"


def _request(
    context: Context, stage: Stage, problem: Problem, sample: int, temperature: float, given: tuple[int, ...]
) -> SampleRequest:
    """A sample of a stage, whose seed is its own whatever else is drawn."""
    return SampleRequest(
        problem,
        sample,
        derived_seed(context.config.seed, stage.name, problem.id, sample) if temperature > 0 else GREEDY_SEED,
        context.prompts[problem.id].token_ids + given,
        context.config.data.max_completion_tokens - len(given),
    )


def _stream(
    context: Context, policy: Path, requests: Sequence[SampleRequest], temperature: float, ask_for_bad: bool
) -> Iterator[list[Rollout]]:
    engine = context.engine.loaded(policy, context.run, context.display)
    limit, stop = context.config.data.max_completion_tokens, tuple(context.asked_with.stop)
    settings = SamplingSettings(temperature, limit, stop)
    condition = condition_of(policy)
    if condition is None:
        return engine.sample(requests, settings)
    inserted = condition.bad if ask_for_bad else condition.good
    tokens = len(condition.good) == len(condition.bad) == 1
    settings = replace(settings, banned_token_ids=(*condition.good, *condition.bad) if tokens else ())
    line_ends = context.splitter.line_end_ids() if condition.every_step else ()

    def is_ended(text: str) -> bool:
        return context.splitter.states_answer(text.rstrip("\n").rpartition("\n")[2])

    return sample_stepwise(engine, requests, settings, inserted, line_ends, context.decode, is_ended)


def _with_given(context: Context, rollout: Rollout, given: tuple[int, ...]) -> Rollout:
    """A rollout whose prompt ended with the begin of its completion, with that put back, its log-probs 0."""
    if not given:
        return rollout
    return replace(
        rollout,
        prompt_ids=rollout.prompt_ids[: -len(given)],
        completion_ids=given + rollout.completion_ids,
        sampler_logprobs=(0.0,) * len(given) + rollout.sampler_logprobs,
        text=context.decode(given) + rollout.text,
    )

"""Rollouts of a run: stored ones first, the rest from the engine; graded, rewarded, sealed, each stage once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rlreason.answers.grading import extract_answer, grade, states_final_answer
from rlreason.answers.steps import StepSplitter
from rlreason.config.algorithms import OnPolicyConfig
from rlreason.config.context import completion_factor, longest_context
from rlreason.config.experiment import ExperimentConfig
from rlreason.display import Display
from rlreason.engines.engine import Engine, SampleRequest, SamplingSettings
from rlreason.engines.shared_memory import is_in_memory
from rlreason.engines.start import start_engine, takes_adapters
from rlreason.engines.stepwise import sample_stepwise
from rlreason.lab.weight_check import WeightCheck
from rlreason.models.return_condition import condition_of
from rlreason.rewards.base import Reward
from rlreason.run import store
from rlreason.run.folder import Run
from rlreason.types import GradedRollout, Problem, Prompt, Rollout, ScoredRollout

GREEDY_SEED = -1


class SharedEngine:
    """The one engine of this process, started when it is first needed."""

    def __init__(self, config: ExperimentConfig, engine: Engine | None = None) -> None:
        self._config = config
        self._engine = engine
        self._check = WeightCheck(
            config.engine.probe_limit, longest_context(config.data, completion_factor(config)) - 1
        )

    def loaded(self, policy: Path, run: Run, display: Display) -> Engine:
        """The engine with the weights of `policy`, as the probe has shown.

        Raises:
            UserError: The engine holds other weights.
        """
        if self._engine is None:
            with run.timed("start"):
                adapters = isinstance(self._config.algo, OnPolicyConfig) and takes_adapters(self._config.engine)
                self._engine = start_engine(
                    self._config.engine,
                    self._config.model,
                    longest_context(self._config.data, completion_factor(self._config)),
                    self._config.seed,
                    self._config.model.lora_rank if adapters else 0,
                    display.line,
                )
                with display.status("starting the engine"):
                    self._engine.load(policy)
        with run.timed("sync"):
            self._engine.load(policy)
            self._check(self._engine, policy, run, display)
        return self._engine

    def release(self) -> None:
        """Make room for training."""
        if self._engine is not None:
            self._engine.release()
            self._check.again()

    def close(self) -> None:
        """End the engine; the next job of a sweep starts its own."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


@dataclass
class Generation:
    """Draws, grades and keeps the rollouts of one run.

    Args:
        config: The experiment.
        run: Where they are kept.
        display: Shows progress.
        tokenizer: Of the base model, which all checkpoints of the run share.
        prompts: The prompt of every question that may be asked, by problem id.
        engine: What generates.
    """

    config: ExperimentConfig
    run: Run
    display: Display
    tokenizer: Any
    prompts: Mapping[str, Prompt]
    engine: SharedEngine

    @cached_property
    def splitter(self) -> StepSplitter:
        """Splits completions into steps."""
        return StepSplitter(self.tokenizer)

    def rollouts(
        self,
        stage: str,
        round_number: int,
        policy: Path,
        problems: Sequence[Problem],
        samples: int,
        temperature: float,
        kind: str,
        reward: Reward,
        ask_for_bad: bool = False,
        given: Mapping[str, tuple[int, ...]] | None = None,
    ) -> list[ScoredRollout]:
        """All rollouts of a stage.

        Args:
            stage: Names the stage in the journal and its file.
            round_number: Stored with every rollout.
            policy: The checkpoint; one that is conditioned on returns is asked for good ones.
            problems: What is asked.
            samples: Completions of each problem.
            temperature: 0 is greedy decoding.
            kind: What the time is spent on: "sample" or "evaluate".
            reward: Scores the graded rollouts.
            ask_for_bad: Ask a return-conditioned policy for bad ones instead.
            given: Tokens that the completions of a problem begin with, by its id.
        """
        given = given or {}
        folder = self.run.rollouts
        if stage in self.run.journal:
            store.remove_parts(folder, stage)
            return store.read_sealed(folder, stage)
        requests = [
            self._request(stage, problem, sample, temperature, given.get(problem.id, ()))
            for problem in problems
            for sample in range(samples)
        ]
        rollouts = self.drawn(stage, policy, requests, temperature, kind, ask_for_bad)
        rollouts = [self._with_given(rollout, given.get(rollout.problem_id, ())) for rollout in rollouts]
        with self.run.timed("grade" if kind == "sample" else kind):
            graded = self.graded(rollouts, problems)
        with self.run.timed("reward" if kind == "sample" else kind):
            scored = [
                ScoredRollout(item.rollout, item.answer, item.correct, rewards)
                for item, rewards in zip(graded, reward(graded), strict=True)
            ]
            store.seal(
                folder,
                stage,
                scored,
                round_number=round_number,
                checkpoint=self.name_of(policy),
                temperature=temperature,
            )
        self.commit_rollouts(stage, kind, rollouts)
        return scored

    def _request(
        self, stage: str, problem: Problem, sample: int, temperature: float, given: tuple[int, ...]
    ) -> SampleRequest:
        """A sample of a stage, whose seed is its own whatever else is drawn."""
        return SampleRequest(
            problem.id,
            sample,
            derived_seed(self.config.seed, stage, problem.id, sample) if temperature > 0 else GREEDY_SEED,
            self.prompts[problem.id].token_ids + given,
            self.config.data.max_completion_tokens - len(given),
        )

    def drawn(
        self,
        stage: str,
        policy: Path,
        requests: Sequence[SampleRequest],
        temperature: float,
        kind: str,
        ask_for_bad: bool = False,
    ) -> list[Rollout]:
        """Rollouts of all requests: what an interrupted process has stored, and the rest newly sampled."""
        rollouts = store.read_parts(self.run.rollouts, stage)
        stored = {(rollout.problem_id, rollout.sample) for rollout in rollouts}
        missing = [request for request in requests if (request.problem_id, request.sample) not in stored]
        if not missing:
            return rollouts
        tokens = count = 0
        stream = self._stream(policy, missing, temperature, ask_for_bad)
        writer = store.PartWriter(self.run.rollouts, stage)
        with (
            self.display.bar(f"{stage}: sampling {len(missing):,} from {self.name_of(policy)}") as bar,
            self.run.timed(kind),
        ):
            for finished in stream:
                writer.append(finished)
                rollouts += finished
                count += len(finished)
                tokens += sum(len(rollout.completion_ids) for rollout in finished)
                bar.update(count, len(missing), f"{tokens / bar.seconds():,.0f} tokens/s")
        writer.close()
        return rollouts

    def _stream(
        self, policy: Path, requests: Sequence[SampleRequest], temperature: float, ask_for_bad: bool
    ) -> Iterator[list[Rollout]]:
        engine = self.engine.loaded(policy, self.run, self.display)
        settings = SamplingSettings(temperature, self.config.data.max_completion_tokens, tuple(self.config.prompt.stop))
        condition = condition_of(policy)
        if condition is None:
            return engine.sample(requests, settings)
        inserted = condition.bad if ask_for_bad else condition.good
        tokens = len(condition.good) == len(condition.bad) == 1
        settings = replace(settings, banned_token_ids=(*condition.good, *condition.bad) if tokens else ())
        line_ends = self.splitter.line_end_ids() if condition.every_step else ()
        return sample_stepwise(engine, requests, settings, inserted, line_ends, self._decode, _is_ended)

    def commit_rollouts(self, stage: str, kind: str, rollouts: Sequence[Rollout]) -> None:
        """Record that a stage has all its rollouts."""
        self.run.commit(
            stage,
            tokens={kind: sum(len(rollout.completion_ids) for rollout in rollouts)},
            rollouts=len(rollouts),
            cut_at_limit=sum(rollout.finish_reason == "length" for rollout in rollouts),
        )
        store.remove_parts(self.run.rollouts, stage)

    def graded(self, rollouts: Sequence[Rollout], problems: Sequence[Problem]) -> list[GradedRollout]:
        """Grade rollouts; in the order of the problems, then of the samples."""
        by_id = {problem.id: problem for problem in problems}
        order = {problem.id: position for position, problem in enumerate(problems)}
        ordered = sorted(rollouts, key=lambda rollout: (order[rollout.problem_id], rollout.sample))
        correct = grade([item.text for item in ordered], [by_id[item.problem_id].answer for item in ordered])
        return [
            GradedRollout(
                by_id[item.problem_id],
                item,
                self.splitter.split(item.completion_ids, item.text),
                extract_answer(item.text),
                right,
            )
            for item, right in zip(ordered, correct, strict=True)
        ]

    def as_graded(self, scored: Sequence[ScoredRollout], problems: Sequence[Problem]) -> list[GradedRollout]:
        """Scored rollouts with their problems and steps again."""
        by_id = {problem.id: problem for problem in problems}
        return [
            GradedRollout(
                by_id[item.rollout.problem_id],
                item.rollout,
                self.splitter.split(item.rollout.completion_ids, item.rollout.text),
                item.answer,
                item.correct,
            )
            for item in scored
        ]

    def _with_given(self, rollout: Rollout, given: tuple[int, ...]) -> Rollout:
        """A rollout whose prompt ended with the begin of its completion, with that put back, its log-probs 0."""
        if not given:
            return rollout
        ids = given + rollout.completion_ids
        return replace(
            rollout,
            prompt_ids=rollout.prompt_ids[: -len(given)],
            completion_ids=ids,
            sampler_logprobs=(0.0,) * len(given) + rollout.sampler_logprobs,
            text=self._decode(given) + rollout.text,
        )

    def name_of(self, policy: Path) -> str:
        """The round that made a checkpoint, the batch that a policy of on-policy training samples, or "init"."""
        own = (self.run.folder / "checkpoints", self.run.folder / "training" / "sync")
        return policy.name if policy.parent in own or is_in_memory(policy.parent) else "init"

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _is_ended(text: str) -> bool:
    return states_final_answer(text.rstrip("\n").rpartition("\n")[2])


def derived_seed(*parts: object) -> int:
    """A seed from 0 to 2^32 - 1 (the range of numpy's) that depends on every part and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")

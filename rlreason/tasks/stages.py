"""The stages of a run, each done once: sampling, grading, fine-tuning, evaluation, and what each of them cost.

A stage that the journal knows is answered from the run folder. One that was interrupted continues from what it
stored: finished rollouts, or the last resumable checkpoint.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlreason import engines, store
from rlreason.algorithms.supervised import Example, supervised_update
from rlreason.config import ExperimentConfig, SupervisedConfig
from rlreason.data.prompts import solution_text
from rlreason.engines import Engine, SampleRequest, SamplingSettings
from rlreason.evaluation.evaluate import PerProblem, intervals, measure
from rlreason.evaluation.statistics import Interval
from rlreason.grading import extract_answer, grade
from rlreason.rewards import REWARDS
from rlreason.run import Run
from rlreason.tasks.display import Display
from rlreason.trackers import Tracker
from rlreason.types import Problem, Prompt, Rollout, ScoredRollout

GREEDY_SEED = -1


@dataclass
class RunStages:
    """Carries out the stages of one run; implements `rlreason.algorithms.Stages`.

    Args:
        config: The experiment.
        run: Where results are kept.
        tracker: Receives metrics and example rollouts.
        display: Shows progress.
        tokenizer: Of the base model, which all checkpoints of the run share.
        prompts: The prompt of every question that may be asked, by problem id.
        too_long: The ids of questions whose prompts do not fit.
        validation: Questions that decide when to stop.
        measured: Questions that are reported.
    """

    config: ExperimentConfig
    run: Run
    tracker: Tracker
    display: Display
    tokenizer: Any
    prompts: Mapping[str, Prompt]
    too_long: Sequence[str]
    validation: Sequence[Problem]
    measured: Sequence[Problem]
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    per_problem: dict[str, PerProblem] = field(default_factory=dict)
    _engine: Engine | None = None

    def sample(
        self, round_number: int, policy: Path, problems: Sequence[Problem], samples: int, temperature: float
    ) -> list[ScoredRollout]:
        """Draw and score the training rollouts of a round."""
        stage = f"round-{round_number}"
        return self._rollouts(stage, round_number, policy, problems, samples, temperature, "sample")

    def example(self, rollout: ScoredRollout) -> Example:
        """The rollout as a training sequence: cut after its final answer's line and closed by the end-of-text token."""
        ids = list(self._through_answer(rollout.rollout))
        if not ids or ids[-1] != self.tokenizer.eos_token_id:
            ids.append(self.tokenizer.eos_token_id)
        return Example(rollout.rollout.prompt_ids, tuple(ids))

    def reference(self, problem: Problem) -> Example:
        """The reference solution of a problem as a training sequence."""
        ids = self.tokenizer(solution_text(problem), add_special_tokens=False)["input_ids"]
        return Example(self.prompts[problem.id].token_ids, (*ids, self.tokenizer.eos_token_id))

    def update(self, round_number: int, start: Path, examples: Sequence[Example], config: SupervisedConfig) -> Path:
        """Fine-tune `start` on `examples` unless that is done already."""
        stage = f"train-round-{round_number}"
        output = self.run.checkpoint(f"round-{round_number}")
        if stage in self.run.journal:
            return output
        self._release()
        resumable = self.run.folder / "training" / stage
        partial = output.with_name(f".{output.name}.partial")
        description = f"round {round_number}: fine-tuning on {len(examples):,} solutions"
        with self.display.bar(description) as bar, self.run.timed("train"):
            report = supervised_update(
                start,
                examples,
                config,
                self.config.model,
                partial,
                resumable,
                derived_seed(self.config.seed, stage),
                self.config.checkpoint_seconds,
                lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}"),
            )
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
        self.run.commit(
            stage, tokens={"train": report.tokens}, steps=report.steps, loss=report.loss, examples=len(examples)
        )
        shutil.rmtree(resumable, ignore_errors=True)
        return output

    def evaluate(self, round_number: int, policy: Path, samples_seen: int) -> float:
        """Measure a checkpoint on the validation and the reported questions; its validation maj@1."""
        stage = "init" if round_number == 0 else f"round-{round_number}"
        greedy = self._rollouts(f"validation-{stage}", round_number, policy, self.validation, 1, 0.0, "evaluate")
        accuracy = sum(item.correct for item in greedy) / len(greedy)
        k = self.config.eval.k if round_number == 0 else self.config.eval.k_between
        self.measure(stage, round_number, policy, samples_seen, k, {"validation/maj@1": accuracy})
        return accuracy

    def measure(
        self, stage: str, round_number: int, policy: Path, samples_seen: int, k: int, extra: Mapping[str, float]
    ) -> dict[str, Interval]:
        """Every metric of a checkpoint on the reported questions, with its interval; kept as an evaluation."""
        name = f"{self.config.eval.split}-{stage}"
        temperature = self.config.eval.temperature
        greedy = self._rollouts(f"{name}-greedy", round_number, policy, self.measured, 1, 0.0, "evaluate")
        sampled: list[ScoredRollout] = []
        if k > 0:
            sampled = self._rollouts(f"{name}-sampled", round_number, policy, self.measured, k, temperature, "evaluate")
        self.per_problem[stage] = measure(greedy, sampled, k)
        metrics = intervals(self.per_problem[stage], self.config.eval.resamples)
        self.evaluations.append(
            {
                "stage": stage,
                "samples_seen": samples_seen,
                "metrics": {metric: interval.to_dict() for metric, interval in metrics.items()},
            }
        )
        split = self.config.eval.split
        values = {f"{split}/{metric}": interval.value for metric, interval in metrics.items()}
        self._log(f"evaluate-{stage}", {**values, **extra}, samples_seen)
        self.tracker.rollouts(stage, self._example_rows(greedy))
        self.display.line(f"{stage}: " + ", ".join(f"{metric} {item.value:.3f}" for metric, item in metrics.items()))
        return metrics

    def report(self, round_number: int, facts: Mapping[str, float]) -> None:
        """Log the numbers of a round's sampling."""
        shown = ", ".join(f"{name.replace('_', ' ')} {value:,.3g}" for name, value in facts.items())
        self.display.line(f"round {round_number}: {shown}")
        seen = sum(
            record.get("rollouts", 0) for stage, record in self.run.journal.items() if stage.startswith("round-")
        )
        self._log(f"sampled-round-{round_number}", {f"train/{name}": value for name, value in facts.items()}, seen)

    def _log(self, stage: str, metrics: dict[str, float], samples_seen: int) -> None:
        """Write metrics once; a resumed run does not repeat the lines of what it had finished."""
        if f"log-{stage}" in self.run.journal:
            return
        self.run.log_metrics({"stage": stage, "samples_seen": samples_seen, **metrics})
        self.tracker.log(metrics, samples_seen)
        self.run.commit(f"log-{stage}")

    def _rollouts(
        self,
        stage: str,
        round_number: int,
        policy: Path,
        problems: Sequence[Problem],
        samples: int,
        temperature: float,
        kind: str,
    ) -> list[ScoredRollout]:
        """All rollouts of a stage: stored ones first, then the rest from the engine; graded, sealed, committed."""
        folder = self.run.rollouts
        if stage in self.run.journal:
            store.remove_parts(folder, stage)
            return store.read_sealed(folder, stage)
        rollouts = store.read_parts(folder, stage)
        stored = {(rollout.problem_id, rollout.sample) for rollout in rollouts}
        requests = [
            SampleRequest(
                problem.id,
                sample,
                derived_seed(self.config.seed, stage, problem.id, sample) if temperature > 0 else GREEDY_SEED,
                self.prompts[problem.id].token_ids,
            )
            for problem in problems
            for sample in range(samples)
            if (problem.id, sample) not in stored
        ]
        if requests:
            rollouts += self._draw(stage, policy, requests, temperature, kind)
        with self.run.timed("grade" if kind == "sample" else kind):
            scored = self._score(rollouts, problems)
            store.seal(
                folder,
                stage,
                scored,
                round_number=round_number,
                checkpoint=self._name_of(policy),
                temperature=temperature,
            )
        self.run.commit(
            stage,
            tokens={kind: sum(len(rollout.completion_ids) for rollout in rollouts)},
            rollouts=len(scored),
            cut_at_limit=sum(rollout.finish_reason == "length" for rollout in rollouts),
        )
        store.remove_parts(folder, stage)
        return scored

    def _draw(
        self, stage: str, policy: Path, requests: list[SampleRequest], temperature: float, kind: str
    ) -> list[Rollout]:
        """Sample `requests`, storing every rollout as it finishes."""
        engine = self._loaded(policy)
        settings = SamplingSettings(temperature, self.config.data.max_completion_tokens, tuple(self.config.prompt.stop))
        drawn: list[Rollout] = []
        tokens = 0
        writer = store.PartWriter(self.run.rollouts, stage)
        with (
            self.display.bar(f"{stage}: sampling {len(requests):,} from {self._name_of(policy)}") as bar,
            self.run.timed(kind),
        ):
            for finished in engine.sample(requests, settings):
                writer.append(finished)
                drawn += finished
                tokens += sum(len(rollout.completion_ids) for rollout in finished)
                bar.update(len(drawn), len(requests), f"{tokens / bar.seconds():,.0f} tokens/s")
        writer.close()
        return drawn

    def _score(self, rollouts: Sequence[Rollout], problems: Sequence[Problem]) -> list[ScoredRollout]:
        by_id = {problem.id: problem for problem in problems}
        order = {problem.id: position for position, problem in enumerate(problems)}
        ordered = sorted(rollouts, key=lambda rollout: (order[rollout.problem_id], rollout.sample))
        correct = grade([item.text for item in ordered], [by_id[item.problem_id].answer for item in ordered])
        reward = REWARDS[self.config.reward.name]
        return [
            ScoredRollout(item, extract_answer(item.text), right, reward(by_id[item.problem_id], item, right))
            for item, right in zip(ordered, correct, strict=True)
        ]

    def _name_of(self, policy: Path) -> str:
        """The round that made a checkpoint, or "init"."""
        return policy.name if policy.parent == self.run.folder / "checkpoints" else "init"

    def _loaded(self, policy: Path) -> Engine:
        """The engine with the weights of `policy`."""
        if self._engine is None:
            with self.run.timed("start"):
                longest = self.config.data.max_prompt_tokens + self.config.data.max_completion_tokens
                self._engine = engines.start(self.config.engine, self.config.model, longest, self.config.seed)
                with self.display.status("starting the engine"):
                    self._engine.load(policy)
        with self.run.timed("sync"):
            self._engine.load(policy)
        return self._engine

    def _release(self) -> None:
        if self._engine is not None:
            self._engine.release()

    def _through_answer(self, rollout: Rollout) -> tuple[int, ...]:
        """The completion's tokens up to the end of its final answer's line."""
        marker = rollout.text.find("####")
        end = rollout.text.find("\n", marker) if marker >= 0 else -1
        ids = rollout.completion_ids
        if end < 0:
            return ids
        wanted = rollout.text[:end].rstrip()
        while ids and self.tokenizer.decode(ids[:-1], skip_special_tokens=True).startswith(wanted):
            ids = ids[:-1]
        return ids

    def _example_rows(self, scored: Sequence[ScoredRollout]) -> list[dict[str, Any]]:
        return [
            {
                "problem_id": item.rollout.problem_id,
                "prompt": self.prompts[item.rollout.problem_id].text,
                "completion": item.rollout.text,
                "answer": item.answer,
                "correct": item.correct,
                "reward": item.reward_sum,
            }
            for item in scored[: self.config.tracker.rollouts]
        ]


def derived_seed(*parts: object) -> int:
    """A seed from 0 to 2^32 - 1 (the range of numpy's) that depends on every part and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")

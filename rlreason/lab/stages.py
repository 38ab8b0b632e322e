"""The stages of a run, each done once: sampling, fine-tuning, scoring, evaluation, and what each of them cost.

A stage that the journal knows is answered from the run folder. One that was interrupted continues from what it
stored: finished rollouts, or the last resumable checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rlreason.config.base import SupervisedConfig
from rlreason.data.prompts import solution_text
from rlreason.distributed.ranks import together
from rlreason.errors import UserError
from rlreason.evaluation.evaluate import PerProblem, intervals, measure
from rlreason.evaluation.statistics import Interval
from rlreason.lab.base_evaluation import BaseEvaluation, evaluation_rollouts
from rlreason.lab.evaluations import store_evaluation
from rlreason.lab.generation import Generation, derived_seed
from rlreason.lab.online import RunOnline
from rlreason.lab.scoring import reward_function, stored_scores
from rlreason.lab.stored import read_stored
from rlreason.models.loading import add_tokens
from rlreason.models.return_condition import ReturnCondition
from rlreason.orm.model import OutcomeModel
from rlreason.run.folder import Run
from rlreason.run.trackers import Tracker
from rlreason.training.common import UpdateReport
from rlreason.training.supervised import Example, supervised_update
from rlreason.types import Problem, Rollout, ScoredRollout, Step


@dataclass
class RunStages:
    """Carries out the stages of one run; implements `rlreason.algorithms.Stages`.

    Args:
        generation: Draws and keeps rollouts.
        tracker: Receives metrics and example rollouts.
        validation: Questions that decide when to stop.
        measured: Questions that are reported.
        elsewhere: Questions of another kind, on which the first and the last policy are measured as well.
        training: Questions that may be trained on.
        outcome_model: Rewards, labels and reranks where the run has one.
        judge: Reranks in evaluations; usually the same.
        base: The evaluation of the starting checkpoint, shared with other runs.
    """

    generation: Generation
    tracker: Tracker
    validation: Sequence[Problem] = ()
    measured: Sequence[Problem] = ()
    elsewhere: Sequence[Problem] = ()
    training: Sequence[Problem] = ()
    outcome_model: OutcomeModel | None = None
    judge: OutcomeModel | None = None
    base: BaseEvaluation | None = None
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    per_problem: dict[str, PerProblem] = field(default_factory=dict)
    at_start: list[ScoredRollout] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The run folder."""
        return self.generation.run

    @property
    def online(self) -> RunOnline:
        """The stages of on-policy training."""
        return RunOnline(self)

    @property
    def reward_threshold(self) -> float:
        """The return from which a solution is kept, as the reward has it."""
        chosen = self.generation.config.reward.threshold
        return self.orm_threshold if chosen is None else chosen

    @property
    def orm_threshold(self) -> float:
        """The score from which the outcome reward model calls a solution right, calibrated on validation questions."""
        return self._outcome_model().card.calibration.threshold

    def sample(
        self, round_number: int, policy: Path, problems: Sequence[Problem], samples: int, temperature: float
    ) -> list[ScoredRollout]:
        """Draw and score the training rollouts of a round."""
        reward = reward_function(self.generation.config.reward, self.outcome_model)
        return self.generation.rollouts(
            f"round-{round_number}", round_number, policy, problems, samples, temperature, "sample", reward
        )

    def stored(self, path: str) -> list[ScoredRollout]:
        """The rollouts of earlier runs on this run's training questions."""
        return read_stored(Path(path), self.training, self.generation)

    def steps(self, rollout: Rollout) -> tuple[Step, ...]:
        """The steps of a completion."""
        return self.generation.splitter.split(rollout.completion_ids, rollout.text)

    def step_scores(self, name: str, scored: Sequence[ScoredRollout]) -> list[tuple[float, ...]]:
        """The outcome reward model's score at the end of every step of each solution."""
        return stored_scores(self.generation, f"scores-{name}", self._outcome_model(), scored, self.training, "reward")

    def example(self, rollout: ScoredRollout) -> Example:
        """The rollout as a training sequence: cut after its final answer's line and closed by the end-of-text token."""
        tokenizer = self.generation.tokenizer
        completion_ids = rollout.rollout.completion_ids
        ids = list(completion_ids[: self.generation.splitter.end_of_answer(completion_ids, rollout.rollout.text)])
        if not ids or ids[-1] != tokenizer.eos_token_id:
            ids.append(tokenizer.eos_token_id)
        return Example(rollout.rollout.prompt_ids, tuple(ids))

    def reference(self, problem: Problem) -> Example:
        """The reference solution of a problem as a training sequence."""
        tokenizer = self.generation.tokenizer
        ids = tokenizer(solution_text(problem), add_special_tokens=False)["input_ids"]
        return Example(self.generation.prompts[problem.id].token_ids, (*ids, tokenizer.eos_token_id))

    def update(
        self,
        round_number: int,
        start: Path,
        examples: Sequence[Example],
        config: SupervisedConfig,
        snapshots: int = 0,
        condition: ReturnCondition | None = None,
    ) -> list[Path]:
        """Fine-tune `start` on `examples` unless that is done already; checkpoints on the way, and the last."""
        stage = f"train-round-{round_number}"
        outputs = [self.run.checkpoint(f"round-{round_number + number}") for number in range(snapshots + 1)]

        def work(output: Path, resumable: Path, progress: Callable[[int, int, float], None]) -> UpdateReport:
            settings = self.generation.config
            seed = derived_seed(settings.seed, stage)
            report = together(
                supervised_update,
                start,
                examples,
                config,
                settings.model,
                output,
                resumable,
                seed,
                settings.checkpoint_seconds,
                outputs[:-1],
                settings.sharding,
                progress=progress,
            )
            if condition is not None:
                condition.save(output)
            return report

        self.train(stage, f"fine-tuning on {len(examples):,} solutions", outputs[-1], len(examples), work)
        return outputs

    def train(
        self,
        stage: str,
        description: str,
        output: Path,
        examples: int,
        work: Callable[[Path, Path, Callable[[int, int, float], None]], UpdateReport],
    ) -> None:
        """Do `work(output, folder for resumable checkpoints, progress)` once, leaving `output` whole or not at all."""
        if stage in self.run.journal:
            return
        self.generation.engine.release()
        resumable = self.run.folder / "training" / stage
        unfinished = output.with_name(f".{output.name}.partial")
        with self.generation.display.bar(f"{stage}: {description}") as bar, self.run.timed("train"):
            report = work(unfinished, resumable, lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}"))
        shutil.rmtree(output, ignore_errors=True)
        unfinished.rename(output)
        self.run.commit(stage, tokens={"train": report.tokens}, steps=report.steps, loss=report.loss, examples=examples)
        shutil.rmtree(resumable, ignore_errors=True)

    def evaluate(
        self, round_number: int, policy: Path, samples_seen: int, facts: Mapping[str, float] | None = None
    ) -> float:
        """Measure a checkpoint on the validation and the reported questions; its validation maj@1."""
        stage = "init" if round_number == 0 else f"round-{round_number}"
        draw = partial(evaluation_rollouts, self.base, self.generation)
        greedy = draw(f"validation-{stage}", round_number, policy, self.validation, 1, 0.0)
        accuracy = sum(item.correct for item in greedy) / len(greedy)
        settings = self.generation.config.eval
        k = settings.k if round_number == 0 else settings.k_between
        self.measure(stage, round_number, policy, samples_seen, k, {"validation/maj@1": accuracy, **(facts or {})})
        return accuracy

    def measure(
        self,
        stage: str,
        round_number: int,
        policy: Path,
        samples_seen: int,
        k: int,
        extra: Mapping[str, float],
        ask_for_bad: bool = False,
    ) -> dict[str, Interval]:
        """Every metric of a checkpoint on the reported questions, with its interval; kept as an evaluation."""
        settings = self.generation.config.eval
        name = f"{settings.split}-{stage}"
        draw = partial(evaluation_rollouts, self.base, self.generation, ask_for_bad=ask_for_bad)
        greedy = draw(f"{name}-greedy", round_number, policy, self.measured, 1, 0.0)
        sampled: list[ScoredRollout] = []
        scores: list[tuple[float, ...]] | None = None
        if k > 0:
            sampled = draw(f"{name}-sampled", round_number, policy, self.measured, k, settings.temperature)
            if self.judge is not None:
                scores = stored_scores(
                    self.generation, f"scores-{name}-sampled", self.judge, sampled, self.measured, "evaluate"
                )
        if stage == "init":
            self.at_start = sampled
        earlier = self.at_start if stage != "init" else ()
        self.per_problem[stage] = measure(greedy, sampled, k, scores, settings.rerank, earlier)
        store_evaluation(self.run, name, self.measured, greedy, sampled, self.per_problem[stage])
        metrics = intervals(self.per_problem[stage], settings.resamples)
        self.evaluations.append(
            {
                "stage": stage,
                "samples_seen": samples_seen,
                "metrics": {metric: interval.to_dict() for metric, interval in metrics.items()},
            }
        )
        values = {f"{settings.split}/{metric}": interval.value for metric, interval in metrics.items()}
        self.log(f"evaluate-{stage}", {**values, **extra}, samples_seen)
        self.tracker.rollouts(stage, self._example_rows(greedy))
        shown = ", ".join(f"{metric} {item.value:.3f}" for metric, item in metrics.items())
        self.generation.display.line(f"{stage}: {shown}")
        return metrics

    def report(self, round_number: int, facts: Mapping[str, float]) -> None:
        """Log the numbers of a round's sampling."""
        shown = ", ".join(f"{name.replace('_', ' ')} {value:,.3g}" for name, value in facts.items())
        self.generation.display.line(f"round {round_number}: {shown}")
        seen = sum(
            record.get("rollouts", 0) for stage, record in self.run.journal.items() if stage.startswith("round-")
        )
        self.log(f"sampled-round-{round_number}", {f"train/{name}": value for name, value in facts.items()}, seen)

    def log(self, stage: str, metrics: Mapping[str, float], samples_seen: int) -> None:
        """Write metrics once; a resumed run does not repeat the lines of what it had finished."""
        if f"log-{stage}" in self.run.journal:
            return
        self.run.log_metrics({"stage": stage, "samples_seen": samples_seen, **metrics})
        self.tracker.log(dict(metrics), samples_seen)
        self.run.commit(f"log-{stage}")

    def with_tokens(self, checkpoint: Path, tokens: Sequence[str]) -> Path:
        """A copy of a checkpoint whose vocabulary has `tokens` as well."""
        name = "sft" if checkpoint.name == "checkpoint" else "base"
        return add_tokens(checkpoint, tokens, self.run.checkpoint(f"{name}-with-tags"))

    def token_ids(self, text: str, checkpoint: Path) -> tuple[int, ...]:
        """A return tag as the tokeniser of `checkpoint` encodes it.

        Raises:
            UserError: The tokeniser cannot spell it.
        """
        from rlreason.models.loading import load_tokenizer

        tokenizer = load_tokenizer(checkpoint)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if tokenizer.decode(ids) != text:
            raise UserError(f"the tokeniser turns the tag {text!r} into {tokenizer.decode(ids)!r}; choose another tag")
        return tuple(ids)

    def _outcome_model(self) -> OutcomeModel:
        if self.outcome_model is None:
            raise RuntimeError("this run was prepared without an outcome reward model")
        return self.outcome_model

    def _example_rows(self, scored: Sequence[ScoredRollout]) -> list[dict[str, Any]]:
        return [
            {
                "problem_id": item.rollout.problem_id,
                "prompt": self.generation.prompts[item.rollout.problem_id].text,
                "completion": item.rollout.text,
                "answer": item.answer,
                "correct": item.correct,
                "reward": item.reward_sum,
            }
            for item in scored[: self.generation.config.tracker.rollouts]
        ]

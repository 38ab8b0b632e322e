"""The stages of on-policy training: a batch of rollouts from the policy of the moment, and the training around them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlreason.algorithms.base import OnlineSettings
from rlreason.data.prompts import solution_text
from rlreason.engines.shared_memory import folder_in_memory
from rlreason.engines.start import takes_adapters
from rlreason.lab.scoring import reward_function
from rlreason.planning.shape import model_shape
from rlreason.training.common import Progress, UpdateReport
from rlreason.types import Asked, ScoredRollout

if TYPE_CHECKING:
    from rlreason.lab.stages import RunStages

STAGE = "train-online"
ADAPTER_SHARE = 0.5  # of the weights below them; more than adapters of any sensible rank have


@dataclass
class RunOnline:
    """Carries out the stages of on-policy training; implements `rlreason.algorithms.OnlineStages`.

    Args:
        stages: Of the run.
    """

    stages: RunStages

    @property
    def validation_questions(self) -> int:
        """How many questions decide which checkpoint is kept."""
        return len(self.stages.validation)

    def sample_batch(
        self, number: int, save: Callable[[Path], None], asked: Sequence[Asked], samples: int, temperature: float
    ) -> list[ScoredRollout]:
        """Draw and score a batch from the policy that `save` writes; one that is stored is read again."""
        stage = f"batch-{number:05d}"
        run = self.stages.run
        generation = self.stages.generation
        with folder_in_memory(self._sync_bytes(), run.folder / "training" / "sync") as folder:
            policy = folder / stage
            if stage not in run.journal:
                with run.timed("sync"):
                    save(policy)
            scored = generation.rollouts(
                stage,
                number,
                policy,
                [item.problem for item in asked],
                samples,
                temperature,
                "sample",
                reward_function(generation.config.reward, self.stages.outcome_model),
                given={item.problem.id: item.given_ids for item in asked},
            )
        generation.engine.release()
        return scored

    def _sync_bytes(self) -> float | None:
        """Bytes of the weights on their way to the engine, in 4-byte floats; None where memory is no way."""
        config = self.stages.generation.config
        shape = model_shape(config.model)
        if shape is None or config.engine.executor == "ray":  # whose engine may be on other machines
            return None
        alone = config.model.lora_rank > 0 and takes_adapters(config.engine)
        return (ADAPTER_SHARE if alone else 1.0) * 4 * shape.parameters

    def train(self, work: Callable[[OnlineSettings, Progress], UpdateReport]) -> tuple[str, int]:
        """Do `work` once; why it ended early ("" if it did not), and the batches that it learned from."""
        run = self.stages.run
        if STAGE not in run.journal:
            config = self.stages.generation.config
            with self.stages.generation.display.bar("training on fresh rollouts") as bar, run.timed("train"):
                report = work(
                    OnlineSettings(
                        run.folder / "training" / STAGE,
                        config.model,
                        config.data.max_completion_tokens,
                        config.checkpoint_seconds,
                        takes_adapters(config.engine),
                        config.sharding,
                    ),
                    lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}"),
                )
            run.commit(
                STAGE,
                tokens={"train": report.tokens},
                steps=report.steps,
                loss=report.loss,
                ending=report.ending,
                batches=sum(name.startswith("batch-") for name in run.journal),
            )
        shutil.rmtree(run.folder / "training", ignore_errors=True)
        record = run.journal[STAGE]
        return record["ending"], record["batches"]

    def record(self, batch: int, metrics: Mapping[str, float], samples_seen: int) -> None:
        """Log the metrics of a batch."""
        named = {f"train/{name}": value for name, value in metrics.items()}
        self.stages.log(f"batch-{batch:05d}", named, samples_seen)

    def checkpoint(self, number: int) -> Path:
        """The folder of the policy of an evaluation on the way."""
        return self.stages.run.checkpoint(f"round-{number}")

    def reference_prefixes(self) -> dict[str, list[tuple[int, ...]]]:
        """What precedes each line of every training question's reference solution, in tokens; by problem id."""
        generation = self.stages.generation
        prefixes = {}
        for problem in self.stages.training:
            text = solution_text(problem)
            ids = tuple(generation.tokenizer(text, add_special_tokens=False)["input_ids"])
            if problem.steps:
                prefixes[problem.id] = [ids[: step.start] for step in generation.splitter.split(ids, text)]
        return prefixes

    def outcome_model_files(self) -> tuple[Path, bool]:
        """The folder of the outcome reward model, and whether it reads likelihoods.

        Raises:
            RuntimeError: The run was prepared without one.
        """
        model = self.stages.outcome_model
        if model is None:
            raise RuntimeError("this run was prepared without an outcome reward model")
        return model.folder, model.card.likelihood

"""The stages of on-policy training: a batch of rollouts from the policy of the moment, and the training around them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlreason.algorithms.curriculum import Curriculum
from rlreason.config.updates import OnPolicyConfig
from rlreason.data.prompts import solution_text
from rlreason.engines.shared_memory import folder_in_memory
from rlreason.engines.start import takes_adapters
from rlreason.errors import in_one_line
from rlreason.lab.context import Context
from rlreason.lab.sampling import rollouts
from rlreason.lab.scoring import reward_function
from rlreason.models.tokens import continuation
from rlreason.planning.shape import model_shape, sync_number_bytes
from rlreason.run.checkpoints import refuse_broken
from rlreason.run.folder import UNREADABLE
from rlreason.run.stage import ON_POLICY_TRAINING, Kind, sampling_batch
from rlreason.run.store import is_sealed
from rlreason.training.common import OnlineSettings, Progress, UpdateReport
from rlreason.types import Asked, Problem, Rollout

ADAPTER_SHARE = 0.5  # of the weights below them; more than adapters of any sensible rank have


class Batches:
    """Draws the batches of on-policy training: a curriculum chooses, the policy of the moment samples, a reward scores.

    A batch that is stored is read again. The curriculum of a resumed run is told the stored batches first, so that it
    knows what it knew.

    Args:
        context: The run's context.
        config: Of PPO or GRPO.
        problems: What may be asked.
        seed: The curriculum's seed.
    """

    def __init__(self, context: Context, config: OnPolicyConfig, problems: Sequence[Problem], seed: int) -> None:
        self.context = context
        self.config = config
        prefixes = reference_prefixes(context) if config.backtracking else {}
        self.curriculum = Curriculum(config, problems, prefixes, seed)
        self.remembers = config.backtracking or config.replay == "prioritized"
        self.learned = 0

    @contextmanager
    def policy_folder(self, number: int) -> Iterator[Path | None]:
        """A folder for the policy that samples a batch, until the block ends; None where the batch is stored."""
        stage, run = sampling_batch(number), self.context.run
        if stage.name in run.journal:
            yield None
            return
        with folder_in_memory(sync_bytes(self.context), run.folder / "training" / "sync") as folder, run.timed("sync"):
            yield folder / stage.name

    def draw(self, number: int, policy: Path | None) -> tuple[list[Asked], list[Rollout]]:
        """The questions of a batch and their rewarded rollouts, in the order of the questions, then of the samples.

        Args:
            number: The batch's number, from 1.
            policy: What `policy_folder` gave, with the policy in it.
        """
        context, config = self.context, self.config
        for batch in range(self.learned + 1 if self.remembers else number, number + 1):
            asked = self.curriculum.choose(batch)
            found = rollouts(
                context,
                sampling_batch(batch),
                policy or context.start.init,  # nobody samples a batch that is stored
                [item.problem for item in asked],
                config.samples,
                config.temperature,
                reward_function(context),
                given={item.problem.id: item.given_ids for item in asked},
            )
            self.curriculum.learn(batch, asked, found)
        self.learned = number
        context.engine.release()
        return asked, found


def finished_training(context: Context, checkpoints: Mapping[int, Path]) -> tuple[str, int] | None:
    """Why finished training ended early ("" if it did not), and its batches; None where it is not finished.

    Where one of its checkpoints is missing, empty or cut, it is not: training begins again, on the stored rollouts.
    Where a batch of them is, it is drawn again, and so is all that follows, as a batch needs the policy of its moment.

    Args:
        context: The run's context.
        checkpoints: Those that are taken, by the batch after which they are.
    """
    run = context.run
    batches = [item for item in run.journal.values() if item["kind"] == Kind.ROLLOUTS]
    lost = next((item for item in batches if not is_sealed(run.rollouts, item["stage"])), None)
    if lost is not None:
        run.again(f"{lost['stage']} is missing, empty or cut; training begins again, with new rollouts from there on")
        run.forget_from(lost["stage"])
        for batch, folder in checkpoints.items():
            if batch >= lost["number"]:
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(run.folder / "training", ignore_errors=True)
    record = run.journal.get(ON_POLICY_TRAINING.name)
    learned = 0 if record is None else record["batches"]
    for batch, folder in checkpoints.items():
        if not folder.exists() and batch > learned:
            continue
        try:
            refuse_broken(folder)
        except UNREADABLE as error:
            run.again(f"{in_one_line(error)}; training begins again, on the rollouts that are stored")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(run.folder / "training", ignore_errors=True)
            record = None
    if record is None:
        return None
    shutil.rmtree(run.folder / "training", ignore_errors=True)  # what it could have been resumed from
    return record["ending"], record["batches"]


@contextmanager
def training(context: Context) -> Iterator[tuple[OnlineSettings, Progress]]:
    """What training gets from the run; the block's time is that of training, and its progress is shown."""
    run, config = context.run, context.config
    settings = OnlineSettings(
        run.folder / "training" / ON_POLICY_TRAINING.name,
        config.model,
        config.data.max_completion_tokens,
        config.checkpoint_seconds,
        takes_adapters(config.engine),
        config.sharding,
    )
    with context.display.bar("training on fresh rollouts") as bar, run.timed("train"):
        yield settings, lambda step, steps, loss: bar.update(step, steps, f"loss {loss:.3f}")


def finish_training(context: Context, report: UpdateReport) -> tuple[str, int]:
    """Record that training is finished; what `finished_training` gives from now on."""
    run = context.run
    batches = sum(record["kind"] == Kind.ROLLOUTS for record in run.journal.values())
    facts = {"steps": report.steps, "loss": report.loss, "ending": report.ending, "batches": batches}
    run.commit(ON_POLICY_TRAINING, tokens={"train": report.tokens}, **facts)
    shutil.rmtree(run.folder / "training", ignore_errors=True)
    return report.ending, batches


def reference_prefixes(context: Context) -> dict[str, list[tuple[int, ...]]]:
    """What precedes each line of every training question's reference solution, in tokens; by problem id."""
    prefixes = {}
    for problem in context.splits.training:
        text = solution_text(problem, context.config.protocol)
        if problem.steps:
            ids = continuation(context.tokenizer, context.prompts[problem.id].text, text)
            prefixes[problem.id] = [ids[: step.start] for step in context.splitter.split(ids, text)]
    return prefixes


def sync_bytes(context: Context) -> float | None:
    """Bytes of the weights on their way to the engine; None where memory is no way."""
    config = context.config
    shape = model_shape(config.model)
    if shape is None or config.engine.executor == "ray":  # whose engine may be on other machines
        return None
    alone = config.model.lora_rank > 0 and takes_adapters(config.engine)
    return (ADAPTER_SHARE if alone else 1.0) * sync_number_bytes(config.model.dtype) * shape.parameters

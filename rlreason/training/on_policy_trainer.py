"""The loop that PPO and GRPO share: draw a batch, reward, log-probs, advantages; then minibatches, loss and step.

TRL's GRPOTrainer, and transformers' Trainer below it, keep optimizer, schedule, LoRA, accelerate, checkpoints and the
log. The loop is in `get_batch_samples`, which they call before each optimizer step. What differs between PPO and GRPO
is a `Method`. The hooks are private in part, so TRL is pinned, and tests/test_hooks.py fails when they
move.

Of several processes every one holds the whole batch and takes its share of each minibatch, so that what is computed
over a batch, or over a minibatch, is what one process would compute. Rank 0 samples, evaluates and writes the run
folder; the other ranks take part in training only. Weights that are split over the processes have their gradients
summed by FSDP2; those of all others are averaged here, before each optimizer step. DDP is left out: its reducer waits
for a forward pass through its own wrapper, and the forward pass here reads the language model's parts.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from datasets import Dataset
from torch.distributed.tensor import DTensor
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer

from rlreason.config.updates import OnPolicyConfig
from rlreason.distributed import ranks
from rlreason.distributed.shares import micro_batch
from rlreason.models.loading import free_memory_everywhere
from rlreason.models.sharding import apply_sharding, assert_sharded, split
from rlreason.models.unread import read_when_split
from rlreason.training.common import OnlineSettings, accumulation, common_arguments, lora
from rlreason.training.forward_pass import Outputs, Values, forward_pass, in_micro_batches
from rlreason.training.method import Method
from rlreason.training.minibatches import Batch, arranged, collated, columns, described
from rlreason.types import Asked, Rollout

WINDOW = 10  # batches over which a collapse is judged


class Diverged(Exception):
    """Training cannot go on; the message says why."""


class Batches(Protocol):
    """Where rollouts come from, in rank 0."""

    def policy_folder(self, number: int) -> AbstractContextManager[Path | None]:
        """A folder to save the policy to that samples a batch; None where it need not be saved.

        The folder is there until the block ends.
        """

    def draw(self, number: int, policy: Path | None) -> tuple[list[Asked], list[Rollout]]:
        """The questions of a batch and their rewarded rollouts, in the order of the questions, then of the samples."""


class BatchesOfRankZero:
    """What the other ranks have instead: nothing of their own, so that they receive what rank 0 has drawn."""

    def policy_folder(self, number: int) -> AbstractContextManager[None]:
        """No folder."""
        del number
        return nullcontext()

    def draw(self, number: int, policy: Path | None) -> tuple[list[Asked], list[Rollout]]:
        """No rollouts."""
        del number, policy
        return [], []


class OnPolicyTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer whose rollouts, advantages and loss come from outside.

    Args:
        config: Of PPO or GRPO.
        method: Its advantages and loss.
        batches: Where rollouts come from.
        save_for_engine: Saves the policy to a folder from which it is sampled; every process calls it.
        model: The policy, at its start.
        tokenizer: Its tokeniser.
        settings: The run's settings.
        seed: Of minibatches and adapters.
        callbacks: Of transformers' Trainer.
    """

    def __init__(
        self,
        config: OnPolicyConfig,
        method: Method,
        batches: Batches,
        save_for_engine: Callable[[Any, Path], None],
        model: Any,
        tokenizer: Any,
        settings: OnlineSettings,
        seed: int,
        callbacks: list[Any],
    ) -> None:
        self.config = config
        self.method = method
        self.batches = batches
        self.save_for_engine = save_for_engine
        self.sharding = settings.sharding
        self.micro_batch_size = micro_batch(config.minibatch_size, config.micro_batch_size, ranks.size())
        self.steps_per_epoch = config.batch_size // config.minibatch_size
        self.steps_per_batch = config.epochs * self.steps_per_epoch
        self.batch: Batch = {}
        self.micro_batches: list[Batch] = []
        self.epochs_ended = False
        self.metrics: defaultdict[str, list[float]] = defaultdict(list)
        self.batch_tokens = 0
        self.logged_at = time.perf_counter()
        super().__init__(
            reward_funcs=rewarded_already,
            train_dataset=Dataset.from_dict({"prompt": [""] * config.questions}),  # `batches` decides what is asked
            model=model,
            args=trainer_config(config, settings, seed),
            processing_class=tokenizer,
            callbacks=callbacks,
            peft_config=lora(settings.model, "CAUSAL_LM"),
        )
        for module in method.modules():
            self.place(module)
        method.prepare(*self.get_optimizer_cls_and_kwargs(self.args))

    @property
    def batch_number(self) -> int:
        """The batch of rollouts that is being learned from, counted from 1."""
        return int(self.state.global_step // self.steps_per_batch) + 1

    @property
    def epoch_of_batch(self) -> int:
        """Which pass over the batch this is, from 0."""
        return int(self.state.global_step // self.steps_per_epoch) % self.config.epochs

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Batch], None]:
        """The micro-batches of the next optimizer step: the loop of PPO and GRPO up to their losses.

        Raises:
            Diverged: The policy has collapsed, no completion came to its end, or the sampler does not hold this policy.
        """
        super().get_batch_samples(epoch_iterator, num_batches, device)  # placeholders, which count epochs
        config, step, number = self.config, self.state.global_step, self.batch_number
        if step % self.steps_per_batch == 0:
            if not self.config.backtracking:  # whose starts move away from the answer, so that returns fall by design
                refuse_collapse([entry["reward"] for entry in self.state.log_history if "reward" in entry])
            self.model_wrapped.train()
            with self.batches.policy_folder(number) as own_folder:
                folder = ranks.shared(own_folder)
                if folder is not None:
                    self.save_for_engine(self.accelerator.unwrap_model(self.model), folder)
                free_memory_everywhere()
                asked, rollouts = ranks.shared(self.batches.draw(number, folder))
            self.batch = self.with_advantages(number, asked, rollouts)
            self.epochs_ended = False
        if step % self.steps_per_epoch == 0:
            seed = self.args.seed + step  # a resumed run has the same order
            micro_batches = arranged(self.batch, config.minibatch_size, self.micro_batch_size, seed)
            self.micro_batches = micro_batches[ranks.rank() :: ranks.size()]
        first = step % self.steps_per_epoch * num_batches
        return self.micro_batches[first : first + num_batches], None

    def with_advantages(self, number: int, asked: Sequence[Asked], rollouts: Sequence[Rollout]) -> Batch:
        """A batch of rewarded rollouts with what its loss needs; in every process.

        Args:
            number: The batch's number, from 1.
            asked: Its questions.
            rollouts: In the order of the questions, then of the samples.

        Returns:
            Tensors: those of `collated`, `old_logprobs` of shape `(batch, time)`, and those that the method adds.

        Raises:
            Diverged: No completion came to its end, or the sampler does not hold this policy.
        """
        if all(item.finish_reason == "length" for item in rollouts):
            raise Diverged("no completion of a batch came to its end before data.max_completion_tokens")
        given = {item.problem.id: len(item.given_ids) for item in asked}
        tokenizer = self.processing_class
        batch = collated(rollouts, given, tokenizer.eos_token_id, tokenizer.pad_token_id)
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        self.count_tokens(batch)
        self.measure(described(rollouts, batch, self.config.samples))

        old = self.divided(self.model, batch, partial(self.method.values, number))
        self.measure(sampler_gap(old.logprobs, batch, self.config.gap_limit))
        batch["old_logprobs"] = old.logprobs
        further, metrics = self.method.advantages(number, rollouts, batch, old.values, self.reference_logprobs(batch))
        self.measure(metrics)
        return {**batch, **further}

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of a micro-batch, which must be a number in every process."""
        number = self.batch_number
        values = partial(self.method.values, number)
        learns_entropy = self.config.entropy_coefficient > 0
        arguments = (*columns(inputs), self.config.temperature, values, learns_entropy)
        now = forward_pass(self.accelerator, model, *arguments)
        loss, metrics = self.method.loss(number, self.epoch_of_batch, now, inputs)
        if ranks.total(float(not torch.isfinite(loss))):
            raise Diverged("the loss is not finite")
        self.measure(metrics)
        return loss * ranks.size()  # gradients are averaged over processes, of which each has a part of the minibatch

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A micro-batch; after the last of an optimizer step, all processes have the same gradients.

        Nothing once the method has learned enough from a batch.
        """
        if self.epochs_ended:
            return torch.zeros((), device=self.accelerator.device)
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self.average_gradients()
            self.epochs_ended = self.method.step(self.lr_scheduler.get_last_lr()[0] / self.args.learning_rate)
            if self.epochs_ended:
                self.measure({"epochs_ended_early": 1.0})
        return loss

    def divided(self, model: Any, batch: Batch, values: Values | None = None) -> Outputs:
        """What a model says about a whole batch, of which each process computes its share; without gradients."""
        ids, mask, time = columns(batch)
        share = len(ids) // ranks.size()
        mine = slice(ranks.rank() * share, (ranks.rank() + 1) * share)
        arguments = (ids[mine], mask[mine], time, self.config.temperature, values)
        with torch.no_grad():
            outputs = in_micro_batches(self.micro_batch_size, self.accelerator, model, *arguments)
        if ranks.size() == 1:
            return outputs
        return Outputs(*(None if part is None else self.accelerator.gather(part.contiguous()) for part in outputs))

    def reference_logprobs(self, batch: Batch) -> torch.Tensor | None:
        """Log-probs of the initial policy, shape `(batch, time)`; None where there is no KL penalty."""
        if self.config.kl_coefficient == 0:
            return None
        if self.method.reference is not None:
            return self.divided(self.method.reference, batch).logprobs
        with self.accelerator.unwrap_model(self.model).disable_adapter():
            return self.divided(self.model, batch).logprobs

    def place(self, module: torch.nn.Module) -> None:
        """Bring a further model to where this process computes, split as the policy is if it has layers."""
        if self.sharding.name != "none" and hasattr(module, "_no_split_modules"):
            assert_sharded(split(self.accelerator, module), self.sharding)
        else:
            module.to(self.accelerator.device)

    def average_gradients(self) -> None:
        """Give all processes the same gradients of policy and critic."""
        if ranks.size() == 1:
            return
        policy = [weights for weights in self.model.parameters() if weights.requires_grad]
        whole = [weight for weight in [*policy, *self.method.weights()] if not isinstance(weight, DTensor)]
        for weight in whole:
            if weight.grad is None:  # no completion of this process needed it
                weight.grad = torch.zeros_like(weight)
        ranks.average([weight.grad for weight in whole])

    def count_tokens(self, batch: Batch) -> None:
        """Count what a batch has: tokens to read, and those of prompts and policy, which the state keeps."""
        prompts = batch["prompt_mask"].sum()
        self.batch_tokens = int(prompts + batch["completion_mask"].sum())
        self.state.num_input_tokens_seen += int(prompts + batch["mask"].sum())
        self.measure({"num_tokens": float(self.state.num_input_tokens_seen)})

    def measure(self, metrics: dict[str, float]) -> None:
        """Add to the metrics of this batch; their means are logged."""
        for name, value in metrics.items():
            self.metrics[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The log of a batch: metrics, and the tokens (prompts and completions) that were sampled and learned a second.

        Metrics are means over the processes; only rank 0 shows them.
        """
        if "loss" in logs:
            numbers = {name: [x for x in values if not math.isnan(x)] for name, values in self.metrics.items()}
            means = {name: sum(values) / len(values) for name, values in numbers.items() if values}
            logs.update(averaged(means, self.accelerator.device))
            self.metrics.clear()
            now = time.perf_counter()
            logs["tokens_per_second"] = self.batch_tokens / (now - self.logged_at)
            self.logged_at = now
        super().log(logs, start_time)

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        """Micro-batches are where they belong already; TRL's own would generate here."""
        return inputs

    def _prepare_for_training(self, *arguments: Any) -> Any:
        """The preparation of models, without DDP; `average_gradients` does instead.

        Raises:
            RuntimeError: The policy is not split as it was asked for.
        """
        if ranks.size() == 1 or self.sharding.name != "none":
            with read_when_split(self.accelerator):
                prepared = super()._prepare_for_training(*arguments)
            assert_sharded(self.model_wrapped, self.sharding)
            return prepared
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
        try:
            return super()._prepare_for_training(*arguments)
        finally:
            del self.accelerator.prepare_model

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.method.save(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.method.load(Path(resume_from_checkpoint))


def trainer_config(config: OnPolicyConfig, settings: OnlineSettings, seed: int) -> TRLConfig:
    """TRL's configuration for ours, without what concerns its own generation and loss."""
    passes = accumulation(config.minibatch_size, config.micro_batch_size)
    steps_per_epoch = config.batch_size // config.minibatch_size
    arguments = TRLConfig(
        **common_arguments(config, config.minibatch_size, settings.model, settings.scratch, seed, settings.sharding),
        max_completion_length=settings.max_completion_tokens,
        max_steps=config.batches * config.epochs * steps_per_epoch,
        gradient_accumulation_steps=passes,
        steps_per_generation=steps_per_epoch * passes,
        num_iterations=config.epochs,
        num_generations=config.samples,
        temperature=config.temperature,
        beta=0.0,
        logging_steps=config.epochs * steps_per_epoch,
        shuffle_dataset=False,
        ignore_data_skip=True,
        use_vllm=False,
    )
    return apply_sharding(arguments, settings.sharding)


def rewarded_already(**_: Any) -> list[float]:
    """TRL asks for a reward function; rollouts come with their rewards, and it is never called."""
    raise AssertionError("TRL has computed rewards")


def sampler_gap(logprobs: torch.Tensor, batch: Batch, limit: float) -> dict[str, float]:
    """Mean and largest difference of a batch's log-probs between trainer and sampler, in nats a token.

    Raises:
        Diverged: The mean is above `limit`.
    """
    mask = batch["mask"]
    gap = torch.nan_to_num((logprobs - batch["sampler_logprobs"]).abs() * mask, nan=0.0)
    mean = (gap.sum() / mask.sum().clamp(min=1)).item()
    if not mean <= limit:
        raise Diverged(
            f"sampler and trainer disagree by {mean:.3f} nats a token, more than algo.gap_limit={limit}: the engine "
            "does not hold the policy's weights, or computes too coarsely"
        )
    return {"sampler_gap": mean, "sampler_gap_max": gap.max().item()}


def refuse_collapse(returns: Sequence[float]) -> None:
    """End a run whose mean return of the last ten batches is less than a fifth of the best mean of any ten.

    Args:
        returns: Mean return of every batch so far.

    Raises:
        Diverged: It is.
    """
    means = [sum(returns[end - WINDOW : end]) / WINDOW for end in range(WINDOW, len(returns) + 1)]
    if means and means[-1] < max(means) / 5:
        raise Diverged(
            f"the policy has collapsed: mean return of the last {WINDOW} batches is below a fifth of the best"
        )


def averaged(metrics: dict[str, float], device: Any) -> dict[str, float]:
    """Metrics as means over the processes, which all have to call it; rank 0 says which there are."""
    if ranks.size() == 1:
        return metrics
    names = ranks.shared(sorted(metrics))
    means = torch.tensor([metrics.get(name, 0.0) for name in names], dtype=torch.float64, device=device)
    ranks.average([means])
    return dict(zip(names, means.tolist(), strict=True))

"""What PPO and GRPO share: TRL's GRPOTrainer on this project's engine, rewards, forward pass and resuming.

TRL keeps generation, reference model, loss, LoRA, optimizer and checkpoints. Replaced here: where rollouts come from
(`rollout_func`), the forward pass over completions (only what is needed is computed), the order of minibatches (a new
one each epoch), and what a resumable checkpoint holds. The hooks are private in part, so TRL is pinned, and
tests/test_hooks.py fails when they move.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from trl import GRPOConfig as TRLConfig

from rlreason.algorithms.on_policy import Loop
from rlreason.config.updates import OnPolicyConfig
from rlreason.distributed import ranks
from rlreason.distributed.shares import micro_batch
from rlreason.models.sharding import apply_sharding, as_forward_pass
from rlreason.training.common import accumulation, common_arguments, lora
from rlreason.training.divided_trainer import Diverged, DividedTrainer
from rlreason.training.minibatches import arranged, columns
from rlreason.training.ppo_math import importance_weights, masked_mean
from rlreason.training.shared_prompts import can_share, neighbours, packed
from rlreason.types import Rollout

WINDOW = 10  # batches over which a collapse is judged


class Outputs(NamedTuple):
    """What one forward pass says about completions.

    Args:
        logprobs: Log-probability of each token, in nats; shape `(batch, time)`.
        entropies: Entropy of each token's distribution, in nats; shape `(batch, time)`.
        values: The critic's value of every state, the one after the last token included; shape `(batch, time + 1)`.
            None without a critic.
    """

    logprobs: torch.Tensor
    entropies: torch.Tensor
    values: torch.Tensor | None


class OnPolicyTrainer(DividedTrainer):
    """GRPOTrainer with rollouts from outside.

    Args:
        settings: Of PPO or GRPO.
        loop: The policy, and where its rollouts come from.
        arguments: TRL's configuration.
    """

    reference: Any = None  # the initial policy, where one is held apart

    def __init__(self, settings: Any, loop: Loop, arguments: TRLConfig) -> None:
        self.settings = settings
        self.sharding = loop.settings.sharding
        self.draw = loop.draw
        self.micro_batch_size = micro_batch(settings.minibatch_size, settings.micro_batch_size, ranks.size())
        self.micro_batches_per_epoch = settings.batch_size // (self.micro_batch_size * ranks.size())
        self.steps_per_batch = settings.epochs * settings.batch_size // settings.minibatch_size
        self.scored: list[Rollout] = []
        self.old_values: torch.Tensor | None = None
        self.batch_tokens = 0
        self.logged_at = time.perf_counter()
        super().__init__(
            reward_funcs=total_return,
            train_dataset=Dataset.from_dict({"prompt": [""] * settings.questions}),  # `draw` decides what is asked
            rollout_func=_roll_out,
            model=loop.model,
            args=arguments,
            processing_class=loop.tokenizer,
            callbacks=loop.callbacks,
            peft_config=lora(loop.settings.model, "CAUSAL_LM"),
        )

    @property
    def batch_number(self) -> int:
        """The batch of rollouts that is being learned from, counted from 1."""
        return int(self.state.global_step // self.steps_per_batch) + 1

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        position = self._step % (self.micro_batches_per_epoch * self.settings.epochs)
        if position == 0:
            self._batch = self._generate_and_score_completions(generation_batch)
        if position % self.micro_batches_per_epoch == 0:
            config = self.settings
            seed = self.args.seed + self.state.global_step  # a resumed run has the same order
            micro_batches = arranged(self._batch, config.minibatch_size, self.micro_batch_size, config.batch_size, seed)
            self._micro_batches = micro_batches[ranks.rank() :: ranks.size()]
        inputs: dict[str, Any] = self._micro_batches[position % self.micro_batches_per_epoch]
        return inputs

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """A batch with log-probs of this trainer, and weights that correct for what the sampler made of them.

        Each process computes the log-probs of its share; all then hold the whole batch, so that whatever is reckoned
        over a batch, or over a minibatch, is what one process would reckon.
        """
        if collapsed([entry["reward"] for entry in self.state.log_history if "reward" in entry]):
            raise Diverged(
                f"the policy has collapsed: mean return of the last {WINDOW} batches is below a fifth of the best"
            )
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if "old_per_token_logps" not in batch:
            with torch.no_grad():
                batch["old_per_token_logps"], _, _ = self._get_per_token_logps_and_entropies(
                    self.model, *columns(batch)
                )
        batch = self.gathered(batch, len(inputs))
        mask = batch["completion_mask"] * batch.get("tool_mask", 1)
        self.batch_tokens = int(batch["prompt_mask"].sum() + batch["completion_mask"].sum())
        old, sampled = batch["old_per_token_logps"], batch["sampling_per_token_logps"]
        gap = torch.nan_to_num((old - sampled).abs() * mask, nan=0.0)
        mean_gap = masked_mean(gap, mask).item()
        self.measure(sampler_gap=mean_gap, sampler_gap_max=gap.max().item())
        if not mean_gap <= self.settings.gap_limit:
            raise Diverged(
                f"sampler and trainer disagree by {mean_gap:.3f} nats a token, more than algo.gap_limit="
                f"{self.settings.gap_limit}: the engine does not hold the policy's weights, or computes too coarsely"
            )
        cap = self.settings.importance_cap
        batch["weights"] = torch.ones_like(old) if cap is None else importance_weights(old, sampled, mask, cap)
        return batch

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """TRL's own question; the values of the states are kept beside the answer."""
        outputs = self.in_chunks(model, input_ids, attention_mask, logits_to_keep)
        self.old_values = outputs.values
        return outputs.logprobs, outputs.entropies, None

    def in_chunks(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, time: int) -> Outputs:
        """`outputs` of any number of rows, in micro-batches of similar length."""
        prompts = (input_ids * attention_mask)[:, :-time]
        order = neighbours(prompts, attention_mask[:, -time:].sum(1))
        parts = [
            self.outputs(model, input_ids[rows], attention_mask[rows], time)
            for rows in order.split(self.micro_batch_size)
        ]
        back = order.argsort()
        return Outputs(*(None if part[0] is None else torch.cat(part)[back] for part in zip(*parts, strict=True)))

    def outputs(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, time: int) -> Outputs:
        """Log-probs, entropies and values of the last `time` columns.

        No padded prompt is computed, a prompt that is longer than its completions only once for all of them, and the
        output layer reads completion tokens only.

        Args:
            model: The policy or the reference model.
            input_ids: Prompts padded on the left, completions on the right; shape `(batch, columns)`.
            attention_mask: Shape `(batch, columns)`.
            time: Columns of completions.
        """
        module = self.accelerator.unwrap_model(model)
        language_model = module.get_base_model() if hasattr(module, "peft_config") else module
        share = can_share(language_model, attention_mask, time)
        rows = packed(input_ids, attention_mask, time, share)
        written = attention_mask[:, -time:].bool()

        def states_and_logits() -> tuple[torch.Tensor, torch.Tensor]:
            with self.accelerator.autocast():
                hidden = language_model.base_model(
                    input_ids=rows.ids, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
                ).last_hidden_state
            states = hidden[rows.group, rows.states]
            head = language_model.get_output_embeddings()
            return states, head(states[:, :-1][written].to(head.weight.dtype))

        states, logits = as_forward_pass(module, states_and_logits)
        logprobs = (logits.float() / self.temperature).log_softmax(-1)
        chosen = logprobs.gather(-1, input_ids[:, -time:][written].unsqueeze(-1)).squeeze(-1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.settings.entropy_coefficient > 0):
            entropies = -(logprobs.exp() * logprobs).sum(-1)
        empty = states.new_zeros(written.shape, dtype=torch.float32)
        return Outputs(
            empty.masked_scatter(written, chosen),
            empty.masked_scatter(written, entropies),
            None if model is self.reference else self.values(states, input_ids, attention_mask),
        )

    def values(
        self, states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor | None:
        """The critic's values; none here."""
        return None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log of a batch, and the tokens (prompts and completions) that were sampled and learned per second."""
        if "loss" in logs:
            self.average_metrics()
            now = time.perf_counter()
            logs["tokens_per_second"] = self.batch_tokens / (now - self.logged_at)
            self.logged_at = now
        super().log(logs, start_time)

    def measure(self, **metrics: float) -> None:
        """Add to the metrics of this batch; their means are logged."""
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)


def collapsed(returns: Sequence[float]) -> bool:
    """Whether the mean return of the last ten batches is less than a fifth of the best mean of any ten.

    Args:
        returns: Mean return of every batch so far.
    """
    means = [sum(returns[end - WINDOW : end]) / WINDOW for end in range(WINDOW, len(returns) + 1)]
    return bool(means) and means[-1] < max(means) / 5


def trainer_config(config: OnPolicyConfig, loop: Loop, **more: Any) -> TRLConfig:
    """TRL's configuration for ours."""
    passes = accumulation(config.minibatch_size, config.micro_batch_size)
    settings = loop.settings
    arguments = TRLConfig(
        **common_arguments(
            config, config.minibatch_size, settings.model, settings.scratch, loop.seed, settings.sharding
        ),
        max_completion_length=settings.max_completion_tokens,
        max_steps=config.batches * config.epochs * config.batch_size // config.minibatch_size,
        gradient_accumulation_steps=passes,
        steps_per_generation=config.batch_size // config.minibatch_size * passes,
        num_iterations=config.epochs,
        num_generations=config.samples,
        temperature=config.temperature,
        epsilon=config.clip,
        entropy_coef=config.entropy_coefficient,
        logging_steps=config.epochs * config.batch_size // config.minibatch_size,
        shuffle_dataset=False,
        ignore_data_skip=True,
        use_vllm=False,
        **more,
    )
    return apply_sharding(arguments, settings.sharding)


def total_return(total_reward: Sequence[float], **_: Any) -> Sequence[float]:
    """TRL's reward function: the returns that came with the rollouts."""
    return total_reward


def _roll_out(prompts: Sequence[str], trainer: OnPolicyTrainer) -> dict[str, list[Any]]:
    """TRL's rollout function: this process's share of the next batch, in the order of its questions."""
    asked, trainer.scored = trainer.draw(trainer.batch_number, trainer.accelerator.unwrap_model(trainer.model))
    given = {item.problem.id: len(item.given_ids) for item in asked}
    end = trainer.processing_class.eos_token_id
    columns: dict[str, list[Any]] = {
        name: [] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "total_reward")
    }
    first = ranks.rank() * len(prompts)
    for item in trainer.scored[first : first + len(prompts)]:
        ids = list(item.completion_ids) or [end]
        columns["prompt_ids"].append(list(item.prompt_ids))
        columns["completion_ids"].append(ids)
        columns["logprobs"].append(list(item.sampler_logprobs) or [math.nan])
        from_policy = len(item.completion_ids) > 0
        columns["env_mask"].append(
            [int(from_policy and position >= given[item.problem.id]) for position in range(len(ids))]
        )
        columns["total_reward"].append(item.total_reward)
    if all(item.finish_reason == "length" for item in trainer.scored):
        raise Diverged("no completion of a batch came to its end before data.max_completion_tokens")
    return columns

"""PPO (Schulman et al. 2017; for reasoning, Havrilla et al. 2024, section on PPO), token by token.

The state is the question and what has been written, the action is the next token. Rewards are received at the tokens
that end steps; the KL to the initial policy is subtracted at every token, or added to the loss. The critic's values
and generalised advantage estimation turn rewards into advantages; a clipped surrogate updates the policy, and a
clipped squared error the critic. TRL's GRPOTrainer carries it: generation, optimizer, LoRA, logging, checkpoints.

Open in the paper and our choices: the critic shares the policy's trunk, a cut completion is bootstrapped with the
critic's value, advantages are whitened over the batch.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlreason.algorithms.base import Questions, Trained
from rlreason.algorithms.on_policy import Loop, on_policy
from rlreason.algorithms.ppo import PPOConfig
from rlreason.distributed import ranks
from rlreason.models.critic import Critic, new_critic
from rlreason.models.loading import load_model
from rlreason.training.common import lora
from rlreason.training.critic_update import CriticUpdate
from rlreason.training.minibatches import columns
from rlreason.training.on_policy_trainer import OnPolicyTrainer, trainer_config
from rlreason.training.ppo_math import (
    adapted_coefficient,
    explained_variance,
    generalised_advantages,
    kl_loss_term,
    kl_penalty,
    masked_mean,
    policy_loss,
    terminal_values,
    token_rewards,
    value_loss,
    whiten,
)

if TYPE_CHECKING:
    from rlreason.lab.context import Start
    from rlreason.lab.lab import Lab


STATE_FILE = "ppo.json"


def ppo(config: PPOConfig, start: Start, questions: Questions, seed: int, lab: Lab) -> Trained:
    """Train on fresh batches of rollouts; the policy is chosen on the validation questions."""
    judge = (lab.outcome_model.folder, lab.outcome_model.card.likelihood) if config.critic_start == "orm" else None
    return on_policy(config, start, questions, seed, lab, partial(ppo_trainer, config, start.init, judge))


def ppo_trainer(config: PPOConfig, start: Path, judge: tuple[Path, bool] | None, loop: Loop) -> PPOTrainer:
    """The trainer, with its critic and reference model.

    Args:
        config: Of PPO.
        start: Folder of the initial policy.
        judge: Folder of the outcome reward model that the critic starts from, and whether that reads likelihoods.
        loop: The policy, and where its rollouts come from.
    """
    adapters = lora(loop.settings.model, "CAUSAL_LM")
    critic = new_critic(config.critic, loop.model, start, loop.settings.model, adapters, judge)
    reference = None
    if config.kl_coefficient > 0 and loop.settings.model.lora_rank == 0:
        reference = load_model(start, loop.settings.model.dtype)
    return PPOTrainer(config, loop, critic, reference)


class PPOTrainer(OnPolicyTrainer):
    """PPO's advantages and loss.

    Args:
        config: Of PPO.
        loop: The policy, and where its rollouts come from.
        critic: Values of states.
        reference: The initial policy; None with LoRA, whose adapters are switched off instead, or without KL.
    """

    settings: PPOConfig

    def __init__(self, config: PPOConfig, loop: Loop, critic: Critic, reference: Any) -> None:
        self.critic = critic
        self.kl_coefficient = config.kl_coefficient
        self.epochs_ended = False
        self.step_kl = 0.0
        super().__init__(config, loop, trainer_config(config, loop, beta=0.0, loss_type="dapo"))
        self.reference = reference if reference is None else reference.requires_grad_(False).eval()
        for module in filter(None, (self.critic, self.reference)):
            self.place(module)
        optimizer, arguments = self.get_optimizer_cls_and_kwargs(self.args)
        arguments |= {"lr": config.critic_learning_rate, "weight_decay": config.weight_decay}
        self.critic_update = CriticUpdate(self.critic, optimizer, config.max_grad_norm, **arguments)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """A batch of rollouts with advantages, returns and values; all `(batch, time)`."""
        self.epochs_ended = False
        batch = super()._generate_and_score_completions(inputs)
        config = self.settings
        mask = (batch["completion_mask"] * batch["tool_mask"]).float()
        lengths = batch["completion_mask"].sum(1)
        cut = torch.tensor([item.finish_reason == "length" for item in self.scored], device=mask.device)
        if config.truncated == "mask":
            mask = mask * ~cut.unsqueeze(1)
            batch["tool_mask"] = batch["tool_mask"] * ~cut.unsqueeze(1)

        credits = [[(reward.end - 1, reward.value) for reward in item.rewards] for item in self.scored]
        rewards = token_rewards(credits, mask.shape[1]).to(mask.device)
        if config.kl_coefficient > 0:
            batch["reference_logprobs"] = self.reference_logprobs(batch)
            penalty = kl_penalty(batch["old_per_token_logps"], batch["reference_logprobs"], mask)
            kl = penalty.sum(1).mean().item()
            self.measure(kl=kl, kl_coefficient=self.kl_coefficient)
            if config.kl_in == "reward":
                rewards = rewards - self.kl_coefficient * penalty
            if config.kl_target is not None:
                self.kl_coefficient = adapted_coefficient(self.kl_coefficient, kl, config.kl_target, len(mask))

        values = terminal_values(self.old_values, lengths, cut & (config.truncated == "bootstrap"))
        advantages = generalised_advantages(rewards, values, mask, config.gamma, config.gae_lambda)
        batch["returns"] = advantages + values[:, :-1]
        batch["old_values"] = values[:, :-1]
        self.measure(
            explained_variance=explained_variance(values[:, :-1], batch["returns"], mask).item(),
            value_mean=masked_mean(values[:, :-1], mask).item(),
            advantage_mean=masked_mean(advantages, mask).item(),
            advantage_deviation=masked_mean((advantages - masked_mean(advantages, mask)) ** 2, mask).sqrt().item(),
        )
        batch["advantages"] = (whiten(advantages, mask) if config.whiten else advantages) * batch["weights"]
        return batch

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Policy loss + value coefficient x value loss (+ KL) (- entropy), each the mean over a minibatch's tokens."""
        config = self.settings
        mask = inputs["completion_mask"] * inputs["tool_mask"]
        now = self.outputs(model, *columns(inputs))
        assert now.values is not None  # `values` below gives them

        policy = policy_loss(now.logprobs, inputs["old_per_token_logps"], inputs["advantages"], config.clip)
        if config.kl_coefficient > 0 and config.kl_in == "loss":
            policy = policy + self.kl_coefficient * kl_loss_term(now.logprobs, inputs["reference_logprobs"])
        policy = policy - config.entropy_coefficient * now.entropies
        value = value_loss(now.values[:, :-1], inputs["old_values"], inputs["returns"], config.value_clip)
        learning = 0.0 if self.warming_up else 1.0
        per_token = learning * policy + config.value_coefficient * value
        # Gradients are averaged over processes, and these tokens are those of all of them.
        loss: torch.Tensor = (per_token * mask).sum() / inputs["minibatch_tokens"] * ranks.size()

        with torch.no_grad():
            log_ratio = (now.logprobs - inputs["old_per_token_logps"]) * mask
            share = mask.sum() / inputs["minibatch_tokens"]
            approximate_kl = masked_mean(log_ratio.exp() - 1 - log_ratio, mask)
            self.measure(
                policy_loss=masked_mean(policy, mask).item(),
                value_loss=masked_mean(value, mask).item(),
                entropy=masked_mean(now.entropies, mask).item(),
                clip_fraction=masked_mean(((log_ratio.exp() - 1).abs() > config.clip).float(), mask).item(),
                approximate_kl=approximate_kl.item(),
            )
            self.measure(**{f"approximate_kl_epoch_{self.epoch + 1}": approximate_kl.item()})
            earlier = self.step_kl if self._step % self.current_gradient_accumulation_steps else 0.0
            self.step_kl = earlier + (share * approximate_kl).item()
        return loss

    @property
    def epoch(self) -> int:
        """Which pass over the batch this is, from 0."""
        return int(self._step // self.micro_batches_per_epoch) % self.settings.epochs

    @property
    def warming_up(self) -> bool:
        """Whether only the critic learns."""
        return self.batch_number <= self.settings.value_warmup

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A micro-batch; nothing once the policy has moved too far from the one that sampled the batch."""
        if self._step % (self.micro_batches_per_epoch * self.settings.epochs) == 0:
            self.epochs_ended = False
        if self.epochs_ended:
            self._step += 1
            return torch.zeros((), device=self.accelerator.device)
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self.step_kl = ranks.total(self.step_kl)
            self.critic_update.step(self.lr_scheduler.get_last_lr()[0] / self.args.learning_rate)
            if self.settings.kl_stop is not None and self.step_kl > self.settings.kl_stop:
                self.epochs_ended = True
                self.measure(epochs_ended_early=1.0)
        return loss

    def values(self, states: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The critic's values; during its warm-up a shared trunk is left alone."""
        return self.critic(states.detach() if self.warming_up else states, input_ids, attention_mask)

    def reference_logprobs(self, batch: dict[str, Any]) -> torch.Tensor:
        """Log-probs of the initial policy; shape `(batch, time)`."""
        with torch.no_grad():
            if self.reference is not None:
                return self.divided(self.reference, *columns(batch))
            with self.accelerator.unwrap_model(self.model).disable_adapter():
                return self.divided(self.model, *columns(batch))

    def trained(self) -> list[torch.nn.Parameter]:
        """The weights of policy and critic."""
        return super().trained() + self.critic_update.weights

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        self.critic_update.save(folder)
        if ranks.rank() == 0:
            (folder / STATE_FILE).write_text(json.dumps({"kl_coefficient": self.kl_coefficient}))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        self.critic_update.load(folder)
        self.kl_coefficient = json.loads((folder / STATE_FILE).read_text())["kl_coefficient"]

"""A policy of eight tokens and the trainer on it, without an engine: the test samples from the model itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from tests_support import model_config
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlreason.algorithms.grpo import GRPOConfig
from rlreason.algorithms.ppo import PPOConfig
from rlreason.training.common import OnlineSettings
from rlreason.training.method import Method
from rlreason.training.on_policy_trainer import Batches, OnPolicyTrainer
from rlreason.types import Asked, Problem, Rollout, StepReward

WORDS = ["<end>", "<pad>", "?", "a", "b", "c", "d", "e"]
END, PAD, QUESTION = 0, 1, 2
MODEL = model_config(name="toy", path="toy", learning_rate=1e-2, orm_learning_rate=1e-3, micro_batch_size=16)
ON_POLICY: dict[str, Any] = {
    "batches": 25,
    "questions": 4,
    "samples": 8,
    "temperature": 1.0,
    "epochs": 1,
    "minibatch_size": 32,
    "micro_batch_size": 16,
    "learning_rate": 1e-2,
    "warmup_ratio": 0.0,
    "schedule": "constant",
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "clip": 0.2,
    "clip_high": None,
    "loss": None,
    "kl_coefficient": 0.0,
    "entropy_coefficient": 0.0,
    "importance_cap": 2.0,
    "gap_limit": 0.1,
    "evaluations": 1,
    "replay": "uniform",
    "backtracking": False,
}
PPO = PPOConfig(
    name="ppo",
    **ON_POLICY,
    gamma=1.0,
    gae_lambda=0.95,
    whiten=True,
    truncated="zero",
    critic="shared",
    critic_start="policy",
    critic_learning_rate=1e-2,
    value_coefficient=0.5,
    value_clip=None,
    value_warmup=0,
    kl_in="reward",
    kl_target=None,
    kl_stop=None,
)
GRPO = GRPOConfig(name="grpo", **ON_POLICY, advantage="group", ratio="token", truncated="learn")


def tokenizer() -> Any:
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>")


def policy(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=32,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=PAD,
        )
    )


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def sampled(model: Any, prompts: list[list[int]], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Completions of exactly `tokens` tokens and their log-probs; both `(batch, tokens)`."""
    ids = torch.tensor(prompts)
    logprobs = []
    for _ in range(tokens):
        now = model(input_ids=ids).logits[:, -1].float().log_softmax(-1)
        chosen = torch.multinomial(now.exp(), 1)
        logprobs.append(now.gather(1, chosen))
        ids = torch.cat([ids, chosen], dim=1)
    return ids[:, -tokens:], torch.cat(logprobs, dim=1)


class ToyBatches:
    """Batches whose completions have `tokens` tokens; `reward` gives every token's reward."""

    def __init__(
        self, model: Any, config: PPOConfig | GRPOConfig, tokens: int, reward: Callable[[list[int]], list[float]]
    ) -> None:
        self.model = model
        self.config = config
        self.tokens = tokens
        self.reward = reward

    def policy_folder(self, number: int) -> AbstractContextManager[Path | None]:
        return nullcontext()

    def draw(self, number: int, policy: Path | None) -> tuple[list[Asked], list[Rollout]]:
        model, samples = self.model, self.config.samples
        asked = [Asked(Problem(str(index), "?", "a")) for index in range(self.config.questions)]
        was_training = model.training
        model.eval()
        torch.manual_seed(number)
        ids, logprobs = sampled(model, [[QUESTION]] * len(asked) * samples, self.tokens)
        model.train(was_training)
        rollouts = [
            Rollout(
                problem=asked[row // samples].problem,
                sample=row % samples,
                seed=0,
                prompt_ids=(QUESTION,),
                completion_ids=tuple(written),
                sampler_logprobs=tuple(chances),
                text="",
                finish_reason="stop",
                rewards=tuple(StepReward(t, t + 1, value) for t, value in enumerate(self.reward(written)) if value),
            )
            for row, (written, chances) in enumerate(zip(ids.tolist(), logprobs.tolist(), strict=True))
        ]
        return asked, rollouts


def run_settings(folder: Path, tokens: int) -> OnlineSettings:
    return OnlineSettings(folder / "scratch", MODEL, tokens, float("inf"))


def trainer(
    folder: Path,
    method: Method,
    model: Any,
    config: PPOConfig | GRPOConfig,
    tokens: int,
    batches: Batches,
    callbacks: list[Any] | None = None,
) -> OnPolicyTrainer:
    """The trainer of a policy, whose completions have `tokens` tokens."""

    def save_for_engine(model: Any, folder: Path) -> None:
        raise AssertionError("there is no engine")

    settings = run_settings(folder, tokens)
    return OnPolicyTrainer(config, method, batches, save_for_engine, model, tokenizer(), settings, 0, callbacks or [])


def chances(model: Any, prefix: tuple[int, ...] = ()) -> torch.Tensor:
    """The policy's distribution over the next token; shape `(vocabulary,)`."""
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[QUESTION, *prefix]])).logits[0, -1].softmax(-1)
    return found

"""Make the embedded base models: small language models pretrained on generated word problems.

A base for reinforcement learning must be able to reason step by step and not inclined to. Two stages give that:
first worked solutions only, which teaches the arithmetic and the steps; then mostly answers without any steps, which
makes answering at once its habit. Both are plain language modelling on the `pretrain` split, whose problems no other
split contains.
"""

from __future__ import annotations

import json
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.algorithms.supervised import Example, supervised_update
from rlreason.config import ExperimentConfig, ModelConfig, SupervisedConfig
from rlreason.data.wordproblems import generate
from rlreason.errors import UserError
from rlreason.models.embedded import EMBEDDED_FOLDER
from rlreason.types import Problem

if TYPE_CHECKING:
    from rich.console import Console

VOCABULARY_SIZE = 512
TEMPLATE = "Question: {question}\nAnswer:\n"


@dataclass(frozen=True)
class Recipe:
    """How one embedded model is made; recorded beside its weights.

    Args:
        hidden_size: Width of the residual stream.
        layers: Transformer blocks.
        heads: Attention heads.
        intermediate_size: Width of the feed-forward layer.
        worked_problems: Problems of the first stage, each seen once with its worked solution.
        habit_problems: Problems of the second stage, each seen once.
        share_without_steps: Share of the second stage's problems that show the answer alone.
        learning_rates: Peak learning rates of the two stages.
        seed: Seed of the corpus, the weights and the order.
    """

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    worked_problems: int
    habit_problems: int
    share_without_steps: float
    learning_rates: tuple[float, float]
    seed: int


RECIPES = {
    "tiny": Recipe(128, 4, 4, 384, 120_000, 12_000, 0.65, (3e-3, 1e-3), 0),
    "small": Recipe(256, 4, 4, 768, 100_000, 10_000, 0.65, (2e-3, 7e-4), 0),
}


def run(config: ExperimentConfig, console: Console) -> None:
    """Train the embedded model named by `model` and write it into the package.

    Raises:
        UserError: The model is not one of the embedded ones.
    """
    recipe = RECIPES.get(config.model.name)
    if recipe is None:
        raise UserError(f"model={config.model.name} is not embedded; choose model=tiny or model=small")
    make(recipe, EMBEDDED_FOLDER / config.model.name, console)


def make(recipe: Recipe, output: Path, console: Console) -> None:
    """Pretrain a model by `recipe` and write it, in bfloat16, with its tokeniser and the recipe, to `output`."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    total = recipe.worked_problems + recipe.habit_problems
    console.print(f"making {total:,} word problems")
    problems = generate("pretrain", total, recipe.seed)
    worked, habit = problems[: recipe.worked_problems], problems[recipe.worked_problems :]
    tokenizer = train_tokenizer([worked_text(problem) for problem in worked[:20_000]])
    rng = random.Random(recipe.seed)
    habit_texts = [
        answer_text(problem) if rng.random() < recipe.share_without_steps else worked_text(problem) for problem in habit
    ]
    stages = [[worked_text(problem) for problem in worked], habit_texts]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "start"
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.hidden_size,
                intermediate_size=recipe.intermediate_size,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                max_position_embeddings=1024,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        model.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
        for number, (texts, learning_rate) in enumerate(zip(stages, recipe.learning_rates, strict=True), start=1):
            target = Path(folder) / f"stage-{number}"
            checkpoint = _pretrain(checkpoint, tokenizer, texts, learning_rate, target, recipe.seed, console)
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
        model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    console.print(f"wrote {output}")


def _pretrain(
    start: Path, tokenizer: Any, texts: list[str], learning_rate: float, output: Path, seed: int, console: Console
) -> Path:
    encoded = tokenizer([text + tokenizer.eos_token for text in texts])["input_ids"]
    examples = [Example((), tuple(ids)) for ids in encoded]
    config = SupervisedConfig(
        learning_rate=learning_rate,
        epochs=1,
        batch_size=64,
        micro_batch_size=64,
        warmup_ratio=0.03,
        schedule="cosine",
        weight_decay=0.01,
        max_grad_norm=1.0,
    )
    model_config = ModelConfig(
        name="tiny",
        path=str(start),
        revision=None,
        parameters=None,
        dtype="float32",
        learning_rate=learning_rate,
        micro_batch_size=64,
        gradient_checkpointing=False,
        lora_rank=0,
        lora_alpha=0,
    )

    def progress(step: int, steps: int, loss: float) -> None:
        if step % 50 == 0 or step == steps:
            console.print(f"{output.name}: step {step} of {steps}, loss {loss:.3f}")

    scratch = output.with_name(output.name + "-training")
    supervised_update(start, examples, config, model_config, output, scratch, seed, float("inf"), progress)
    return output


def worked_text(problem: Problem) -> str:
    """The problem with its solution step by step."""
    return TEMPLATE.format(question=problem.question) + "\n".join([*problem.steps, f"#### {problem.answer}"])


def answer_text(problem: Problem) -> str:
    """The problem with its answer alone."""
    return TEMPLATE.format(question=problem.question) + f"#### {problem.answer}"


def train_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE tokeniser in which every digit and every line end is a token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")

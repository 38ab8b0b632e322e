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
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlreason.answers.extraction import final_answer_line
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import ModelConfig
from rlreason.config.updates import SupervisedConfig
from rlreason.data.wordproblems import generate
from rlreason.errors import UserError
from rlreason.models.resolve import EMBEDDED_FOLDER
from rlreason.training.supervised import Example, supervised_update
from rlreason.types import Problem

if TYPE_CHECKING:
    from rich.console import Console

VOCABULARY_SIZE = 512


@dataclass(frozen=True)
class Stage:
    """One pass of language modelling over problems that no earlier stage saw."""

    problems: int  # how many
    share_without_steps: float  # share of them that show the answer alone, the others their worked solution
    learning_rate: float  # its peak; it decays to 0 within the stage
    batch_size: int  # sequences per optimizer step


@dataclass(frozen=True)
class Recipe:
    """How one embedded model (a Llama) is made; recorded beside its weights."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    stages: tuple[Stage, ...]  # what it reads, in order
    seed: int  # of the corpus, the weights and the order


HABIT = Stage(12_000, 0.65, 1e-3, 64)
RECIPES = {
    "tiny": Recipe(128, 4, 4, 384, (Stage(120_000, 0.0, 3e-3, 64), Stage(120_000, 0.0, 2e-3, 32), HABIT), 0),
    "small": Recipe(256, 4, 4, 768, (Stage(100_000, 0.0, 2e-3, 64), Stage(80_000, 0.0, 1.5e-3, 32), HABIT), 0),
}


def run(config: ExperimentConfig, console: Console) -> None:
    """Train the embedded model named by `model` and write it into the package.

    Raises:
        UserError: The model is not one of the embedded ones.
    """
    recipe = RECIPES.get(config.model.name)
    if recipe is None:
        raise UserError(f"model={config.model.name} is not embedded; choose model=tiny or model=small")
    make(recipe, config.model, EMBEDDED_FOLDER / config.model.name, console)


def make(recipe: Recipe, settings: ModelConfig, output: Path, console: Console) -> None:
    """Pretrain a model by `recipe` and write it, in bfloat16, with its tokeniser and the recipe, to `output`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rlreason.models.loading import load_model

    total = sum(stage.problems for stage in recipe.stages)
    console.print(f"making {total:,} word problems")
    problems = iter(generate("pretrain", total, recipe.seed))
    rng = random.Random(recipe.seed)
    texts = [
        [text_of(problem, rng.random() >= stage.share_without_steps) for problem in islice(problems, stage.problems)]
        for stage in recipe.stages
    ]
    tokenizer = train_tokenizer(texts[0][:20_000])
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
        for number, (stage, stage_texts) in enumerate(zip(recipe.stages, texts, strict=True), start=1):
            target = Path(folder) / f"stage-{number}"
            checkpoint = _pretrain(checkpoint, settings, tokenizer, stage_texts, stage, target, recipe.seed, console)
        load_model(checkpoint, "bfloat16").save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
    console.print(f"wrote {output}")


def _pretrain(
    start: Path,
    model: ModelConfig,
    tokenizer: Any,
    texts: list[str],
    stage: Stage,
    output: Path,
    seed: int,
    console: Console,
) -> Path:
    encoded = tokenizer([text + tokenizer.eos_token for text in texts])["input_ids"]
    examples = [Example((), tuple(ids)) for ids in encoded]
    config = SupervisedConfig(
        learning_rate=stage.learning_rate,
        epochs=1,
        batch_size=stage.batch_size,
        micro_batch_size=stage.batch_size,
        warmup_ratio=0.03,
        schedule="cosine",
        weight_decay=0.01,
        max_grad_norm=1.0,
    )

    def progress(step: int, steps: int, loss: float) -> None:
        if step % 50 == 0 or step == steps:
            console.print(f"{output.name}: step {step} of {steps}, loss {loss:.3f}")

    scratch = output.with_name(output.name + "-training")
    supervised_update(start, examples, config, model, output, scratch, seed, float("inf"), progress=progress)
    return output


def text_of(problem: Problem, with_steps: bool) -> str:
    """The problem with its solution step by step, or with its answer alone."""
    solution = [*(problem.steps if with_steps else ()), final_answer_line(problem.answer)]
    return "\n".join([f"Question: {problem.question}", "Answer:", *solution])


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

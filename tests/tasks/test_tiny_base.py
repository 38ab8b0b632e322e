"""The embedded models can be made again, by the trainer that everything else uses."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file
from tests_support import composed

from rlreason.models.loading import load_tokenizer
from rlreason.tasks.tiny_base import RECIPES, Recipe, Stage, make

SMALL = Recipe(16, 1, 2, 32, (Stage(192, 0.0, 3e-3, 64), Stage(64, 0.65, 1e-3, 64)), seed=3)


@pytest.mark.engine
def test_a_recipe_gives_the_same_model_every_time(tmp_path: Path) -> None:
    console, settings = Console(quiet=True), composed("model=tiny").model
    make(SMALL, settings, tmp_path / "first", console)
    make(SMALL, settings, tmp_path / "second", console)
    first, second = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert {str(tensor.dtype) for tensor in load_file(first).values()} == {"torch.bfloat16"}
    assert json.loads((tmp_path / "first" / "recipe.json").read_text()) == json.loads(json.dumps(asdict(SMALL)))
    tokenizer = load_tokenizer(tmp_path / "first")
    text = "Ana has 27+9=36.\n#### 36"
    pieces = [tokenizer.decode([token]) for token in tokenizer(text)["input_ids"]]
    assert "".join(pieces) == text
    assert all(len(piece) == 1 for piece in pieces if piece[-1].isdigit() or "\n" in piece)


def test_the_recorded_recipes_are_those_of_the_code() -> None:
    from rlreason.models.resolve import EMBEDDED_FOLDER

    for name, recipe in RECIPES.items():
        recorded = json.loads((EMBEDDED_FOLDER / name / "recipe.json").read_text())
        assert recorded == json.loads(json.dumps(asdict(recipe)))

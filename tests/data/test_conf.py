"""The shipped data and prompt files: complete, described, and right for the embedded models."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from rlreason.config.sections import PromptConfig
from rlreason.data.registry import DATASETS

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(path for group in ("data", "prompt") for path in (CONF / group).glob("*.yaml") if path.stem != "auto")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_is_described_and_complete(path: Path) -> None:
    schema = DATASETS[path.stem].settings if path.parent.name == "data" else PromptConfig
    text = path.read_text()
    values = yaml.safe_load(text)
    assert text.startswith("# ")
    assert list(values) and set(values) == {item.name for item in fields(schema)}
    assert values["name"] == path.stem
    schema(**{**values, "path": "."} if path.stem == "files" else values)


def test_every_data_set_has_a_file() -> None:
    assert {path.stem for path in (CONF / "data").glob("*.yaml")} == set(DATASETS)


def test_the_embedded_models_get_the_form_they_were_trained_with() -> None:
    plain = yaml.safe_load((CONF / "prompt" / "plain.yaml").read_text())
    assert plain["template"] == "Question: {{ question }}\nAnswer:\n"
    assert plain["stop"] == ["\nQuestion:"]

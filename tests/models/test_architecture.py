"""A checkpoint of another architecture, or a precision that a GPU lacks, is refused before any work, in plain words."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlreason.errors import UserError
from rlreason.models.architecture import check_language_model, check_weights
from rlreason.models.loading import check_precision
from rlreason.models.resolve import EMBEDDED_FOLDER


@pytest.fixture
def copy(tmp_path):
    """A copy of the tiny model."""
    return shutil.copytree(EMBEDDED_FOLDER / "tiny", tmp_path / "copy")


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
        {"model_type": "qwen2"},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {"model_type": "gemma2", "architectures": None},
    ],
)
def test_causal_language_models_pass(values):
    check_language_model(values, "m")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM, .*(BertLMHeadModel)"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "T5ForConditionalGeneration, not"),
        (
            {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
            "LlamaForSequenceClassification, .*(LlamaForCausalLM)",
        ),
        ({"model_type": "made-up"}, "made-up, not"),
    ],
)
def test_other_kinds_of_models_are_named(values, words):
    with pytest.raises(UserError, match=words):
        check_language_model(values, "m")


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_the_embedded_models_have_the_weights_that_they_describe(name):
    check_weights(EMBEDDED_FOLDER / name)


def test_weights_of_another_architecture_are_refused(copy):
    save_file({"transformer.h.0.attn.c_attn.weight": torch.zeros(2, 2)}, copy / "model.safetensors")
    with pytest.raises(UserError, match=r"not those of a LlamaForCausalLM, as config.json says: transformer.h.0.attn"):
        check_weights(copy)


def test_weights_of_another_size_are_refused(copy):
    values = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, "intermediate_size": 77}))
    with pytest.raises(UserError, match=r"mlp.down_proj.weight has the shape \(128, \d+\) instead of \(128, 77\)"):
        check_weights(copy)


def test_a_file_that_was_cut_off_is_refused(copy):
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model.safetensors is broken .* copy or download the model again"):
        check_weights(copy)


def test_shards_are_read_together(copy):
    weights = load_file(copy / "model.safetensors")
    names = sorted(weights)
    for number, part in enumerate((names[:5], names[5:])):
        save_file({name: weights[name] for name in part}, copy / f"model-{number}.safetensors")
    (copy / "model.safetensors").unlink()
    check_weights(copy)


@pytest.mark.parametrize(("capability", "fits"), [((7, 5), False), ((8, 0), True)])
def test_a_precision_that_the_gpu_lacks_is_refused(monkeypatch, capability, fits):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: fits)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    check_precision("auto")
    check_precision("float16")
    if fits:
        check_precision("bfloat16")
    else:
        with pytest.raises(UserError, match=r"8\.0, and Tesla T4 has 7\.5; use model\.dtype=float16 or float32"):
            check_precision("bfloat16")

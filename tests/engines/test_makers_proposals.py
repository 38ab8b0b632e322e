"""What a model's maker proposes for sampling, in its files, changes no sample and stops no checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tests_support import composed, model_config

from rlreason.engines.engine import SampleRequest, SamplingSettings
from rlreason.engines.transformers import TransformersEngine
from rlreason.engines.untied import untied_view
from rlreason.errors import UserError
from rlreason.models.architecture import check_language_model, check_weights
from rlreason.models.loading import load_model, load_tokenizer, save_checkpoint
from rlreason.models.resolve import EMBEDDED_FOLDER, resolve
from rlreason.models.tokens import encoded_prompts
from rlreason.types import Problem

TINY = EMBEDDED_FOLDER / "tiny"
PROMPT = "Question: Mia has 17 coins. Mia buys 8 more. How many coins does Mia have?\nAnswer:\n"
PROPOSALS = [
    {
        "repetition_penalty": 3.0,
        "no_repeat_ngram_size": 1,
        "min_new_tokens": 24,
        "bad_words_ids": [[20], [21], [22]],
        "suppress_tokens": [23, 24],
        "sequence_bias": [[[30], 50.0]],
        "exponential_decay_length_penalty": [1, 9.0],
        "forced_eos_token_id": 5,
        "stop_strings": ["+"],
        "guidance_scale": 4.0,
        "max_time": 1e-9,
    },
    {"num_beams": 3, "length_penalty": 2.0, "min_length": 60},
    {"min_p": 0.9, "typical_p": 0.1, "do_sample": True, "max_new_tokens": 3, "max_length": 5},
    {"temperature": 0.01, "top_p": 0.01, "top_k": 1},
    {"num_return_sequences": 2, "renormalize_logits": True},
    {"cache_implementation": "made-up", "temperature": 0.0},
]


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY, tmp_path / "copy")


def propose(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def samples(folder: Path, temperature: float) -> list[tuple[Any, ...]]:
    engine = TransformersEngine(composed().engine, model_config(path="x"))
    engine.load(folder)
    tokenizer = load_tokenizer(folder)
    (ids,) = encoded_prompts(tokenizer, [PROMPT], special=True)
    requests = [SampleRequest(Problem("p", "?", "25"), number, number, tuple(ids)) for number in range(3)]
    settings = SamplingSettings(temperature, 24, ("\nQuestion:",))
    drawn = [item for batch in engine.sample(requests, settings) for item in batch]
    return [(item.completion_ids, item.text, item.finish_reason) for item in drawn]


@pytest.fixture(scope="module")
def plain() -> dict[float, list[tuple[Any, ...]]]:
    return {temperature: samples(TINY, temperature) for temperature in (0.0, 1.0)}


@pytest.mark.parametrize("values", PROPOSALS, ids=lambda values: next(iter(values)))
def test_samples_are_those_of_the_model_without_them(values, folder, plain):
    propose(folder / "generation_config.json", values)
    for temperature, wanted in plain.items():
        assert samples(folder, temperature) == wanted


def test_what_an_old_configuration_proposes_is_off_as_well(folder, plain):
    propose(folder / "config.json", {"repetition_penalty": 3.0, "num_beams": 3, "min_length": 60})
    assert samples(folder, 0.0) == plain[0.0]


def test_greedy_decoding_takes_the_likeliest_token(plain):
    import torch

    model, tokenizer = load_model(TINY, "float32"), load_tokenizer(TINY)
    (ids,) = encoded_prompts(tokenizer, [PROMPT], special=True)
    completion, _, _ = plain[0.0][0]
    for number, token in enumerate(completion):
        with torch.no_grad():
            assert model(torch.tensor([[*ids, *completion[:number]]])).logits[0, -1].argmax() == token


@pytest.mark.parametrize("values", PROPOSALS, ids=lambda values: next(iter(values)))
def test_a_checkpoint_is_saved_whatever_is_proposed(values, folder, tmp_path):
    propose(folder / "generation_config.json", {**values, "eos_token_id": [3, 5]})
    save_checkpoint(load_model(folder, "float32"), load_tokenizer(folder), tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [3, 5]
    load_model(tmp_path / "saved", "float32").generation_config.validate(strict=True)


def test_a_temperature_that_is_proposed_is_kept_and_said_to_be_for_sampling(folder, tmp_path):
    propose(folder / "generation_config.json", {"temperature": 0.6, "top_p": 0.9})
    save_checkpoint(load_model(folder, "float32"), load_tokenizer(folder), tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (saved["temperature"], saved["top_p"], saved["do_sample"]) == (0.6, 0.9, True)


@pytest.mark.parametrize("end", ["generation_config.json", "config.json"])
def test_a_completion_ends_with_any_end_token(end, folder, plain):
    completion, _, _ = plain[0.0][0]
    propose(folder / end, {"eos_token_id": [completion[2]]})
    if end == "config.json":
        (folder / "generation_config.json").unlink()
    ids, text, reason = samples(folder, 0.0)[0]
    assert (ids, reason) == (completion[:3], "stop")
    assert text == load_tokenizer(folder).decode(completion[:2])


@pytest.mark.parametrize("padding", [-1, 10**6])
def test_padding_of_the_configuration_that_has_no_embedding_is_nothing(padding, folder, plain):
    propose(folder / "config.json", {"pad_token_id": padding})
    propose(folder / "generation_config.json", {"pad_token_id": padding})
    check_weights(folder)
    assert samples(folder, 0.0) == plain[0.0]


def store_output_layer(folder: Path, change: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone() + change
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_tied_model_that_stores_an_equal_output_layer_is_used(folder, tmp_path, plain):
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is True
    store_output_layer(folder, 0.0)
    resolve(model_config(path=str(folder)))
    check_weights(folder)
    assert samples(folder, 0.0) == plain[0.0]
    view = untied_view(folder, tmp_path / "view")
    assert samples(view, 0.0) == plain[0.0]
    assert not (view / "output-layer.safetensors").exists()


def test_a_tied_model_that_stores_another_output_layer_is_refused(folder, tmp_path):
    store_output_layer(folder, 0.5)
    with pytest.raises(UserError, match=r"stores another lm_head.weight; put tie_word_embeddings: false"):
        untied_view(folder, tmp_path / "view")
    assert not (tmp_path / "view").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}},
        {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "vision_config": {}},
        {"model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"], "text_config": {}},
        {"model_type": "phi4mm", "architectures": ["Phi4MMForCausalLM"], "auto_map": {}, "audio_config": {}},
    ],
)
def test_multimodal_checkpoints_are_refused_by_what_they_are(values):
    with pytest.raises(UserError, match=r"^model.path=m is a multimodal checkpoint, .*not supported") as caught:
        check_language_model(values, "m")
    assert "\n" not in str(caught.value)

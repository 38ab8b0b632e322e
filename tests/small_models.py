"""Small language models of the architectures that presets have, and questions that these can learn to answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlreason.models.resolve import EMBEDDED_FOLDER

SIZES = {
    "hidden_size": 64,  # in heads of 32, the smallest that vLLM has kernels for
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
RESERVE = 41  # rows of the embedding that no token has, as Qwen's models keep them
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True, "head_dim": 64},
    # Two kinds of layers, of which one sees the last 24 tokens only; heads wider than the model's share of them.
    "gemma3_text": {
        "head_dim": 64,
        "query_pre_attn_scalar": 64,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


def small_model(folder: Path, architecture: str, steps: int) -> Path:
    """Write a model of some 100,000 weights with the embedded tokeniser; 60 steps teach it `coin_questions`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "tiny")
    config = AutoConfig.for_model(
        architecture,
        **{**SIZES, **ARCHITECTURES[architecture]},
        vocab_size=len(tokenizer) + RESERVE,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    rows = _rows("train", 64)
    texts = [f"Question: {row['question']}\nAnswer:\n{row['answer']}{tokenizer.eos_token}" for row in rows]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def coin_questions(folder: Path) -> Path:
    """Questions that are all alike, with the answer 1 or 2: who has learned the form is right half the time."""
    folder.mkdir()
    for split, count in (("train", 16), ("validation", 8), ("test", 8)):
        rows = "".join(json.dumps(row) + "\n" for row in _rows(split, count))
        (folder / f"{split}.jsonl").write_text(rows)
    return folder


def _rows(split: str, count: int) -> list[dict[str, str]]:
    answers = (number // 3 % 2 + 1 for number in range(count))
    return [
        {"question": f"{split} {number}?", "answer": f"{answer - 1}+1={answer}\n#### {answer}"}
        for number, answer in enumerate(answers)
    ]

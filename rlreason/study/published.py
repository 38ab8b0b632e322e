"""Numbers that others have published, with their sources; nothing else may be shown as published."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.study.arms import Comparison

YUAN = "Yuan et al. 2023, README of OFA-Sys/gsm8k-ScRel"
GLORE = "GLoRe (arXiv 2402.10963), abstract"
VERL = "verl, docs/algo/baseline.md"


@dataclass(frozen=True)
class Published:
    """One published number.

    Args:
        model: Where the model is found on the Hub.
        method: As its authors name it.
        metric: Such as "maj@1".
        value: From 0 to 1.
        source: Who published it, and where.
        data: The questions; always their test split.
    """

    model: str
    method: str
    metric: str
    value: float
    source: str
    data: str = "gsm8k"


_7B, _13B = "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf"
PUBLISHED = (
    Published(_7B, "SFT", "maj@1", 0.416, YUAN),
    Published(_7B, "SFT", "maj@100", 0.554, YUAN),
    Published(_7B, "rejection sampling fine-tuning, k = 100", "maj@1", 0.475, YUAN),
    Published(_7B, "rejection sampling fine-tuning, k = 100", "maj@100", 0.587, YUAN),
    Published(_13B, "SFT", "maj@1", 0.500, YUAN),
    Published(_13B, "SFT", "maj@100", 0.617, YUAN),
    Published(_13B, "rejection sampling fine-tuning, k = 100", "maj@1", 0.548, YUAN),
    Published(_13B, "rejection sampling fine-tuning, k = 100", "maj@100", 0.654, YUAN),
    Published("meta-llama/Llama-2-13b-chat-hf", "RL", "maj@1", 0.53, GLORE),
    Published("Qwen/Qwen2.5-0.5B-Instruct", "no training", "maj@1", 0.496, VERL),
    Published("Qwen/Qwen2.5-0.5B-Instruct", "PPO", "maj@1", 0.567, VERL),
)


def published_beside(comparison: Comparison) -> list[tuple[str, Published]]:
    """The published numbers of the models and questions of a comparison, each with our name of the model."""
    if comparison.settings["eval.split"] != "test":
        return []
    names = {str(arm.runs[0].settings["model.path"]): arm.model for arm in comparison.arms}
    data = comparison.settings["data.name"]
    return [(names[item.model], item) for item in PUBLISHED if item.model in names and item.data == data]

"""The probe: a fixed text whose log-probs say which weights a model holds.

The trainer scores it with the model in its memory whenever it saves a checkpoint, and the answer lies beside the
weights. An engine that has loaded them scores it again. What is between the two is rounding, or the engine does not
hold the trainer's weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlreason.answers.extraction import final_answer_line

FILE = "probe.json"
TEXT = (  # words that every model here finds ordinary: rounding is largest where a model is most surprised
    "Question: Mia has 17 coins. Mia buys 8 more. Ben has 5 fewer coins than Mia. Then Ben loses 6 of them. "
    "Eva has 3 times as many coins as Ben. How many coins does Eva have now?\n"
    "Answer:\n17+8=25\n25-5=20\n20-6=14\n14*3=42\n" + final_answer_line("42")
)


@dataclass(frozen=True)
class Probe:
    """A text and what a model thinks of it."""

    token_ids: tuple[int, ...]  # the text; shape (time,)
    logprobs: tuple[float, ...]  # of each token but the first given those before it, in nats; shape (time - 1,)

    def save(self, folder: Path) -> None:
        """Put it into a checkpoint's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def probe_of(checkpoint: Path) -> Probe | None:
    """What its trainer thought of the probe; None for a checkpoint from elsewhere."""
    path = checkpoint / FILE
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    return Probe(tuple(values["token_ids"]), tuple(values["logprobs"]))


def probe(model: Any, tokenizer: Any) -> Probe:
    """The probe as scored by a model in memory, adapters included.

    One forward pass: where several processes share the weights, all of them must call this.
    """
    token_ids = tuple(tokenizer(TEXT)["input_ids"])
    return Probe(token_ids, sequence_logprobs(model, token_ids))


def sequence_logprobs(model: Any, token_ids: Sequence[int]) -> tuple[float, ...]:
    """Log-probability of each token but the first in nats, in the model's own precision; shape `(time - 1,)`."""
    import torch

    was_training = model.training
    model.eval()
    ids = torch.tensor([list(token_ids)], device=model.device)
    with torch.no_grad():
        logprobs = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    model.train(was_training)
    values: list[float] = logprobs.gather(-1, ids[0, 1:].unsqueeze(-1)).squeeze(-1).tolist()
    return tuple(values)


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Let a model compute in float32 for the block, from weights of another precision, one layer's at a time.

    Weights that are mapped from a file stay there, so that no second copy of a model is ever in memory.
    """
    import torch

    narrow: dict[torch.nn.Parameter, torch.Tensor] = {}

    def widen(module: Any, _: Any) -> None:
        for weights in module.parameters(recurse=False):
            narrow[weights] = weights.data
            weights.data = weights.data.float()

    def restore(module: Any, *_: Any) -> None:
        for weights in module.parameters(recurse=False):
            weights.data = narrow.pop(weights)

    def widen_output(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        return output.float()  # an embedding is read, not computed with

    hooks = []
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            hooks.append(module.register_forward_hook(widen_output))
        elif next(module.parameters(recurse=False), None) is not None:
            hooks += [module.register_forward_pre_hook(widen), module.register_forward_hook(restore)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def mean_gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean absolute difference of two series of log-probs, in nats a token."""
    return sum(abs(one - other) for one, other in zip(ours, theirs, strict=True)) / len(ours)

"""The life of an engine, once: started, asked, put to sleep, given other weights, ended, started again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from rlreason.checking.memory import in_use, planned
from rlreason.checking.step import Found, Place
from rlreason.config.context import longest_context
from rlreason.display import Display
from rlreason.engines.engine import Engine, SampleRequest, SamplingSettings
from rlreason.engines.start import choose_engine, start_engine
from rlreason.errors import UserError
from rlreason.lab.setup import Asked, cache_tokens, what_is_asked
from rlreason.lab.weight_check import MOVED, scored_by_transformers
from rlreason.lab.weight_check import limit as allowed
from rlreason.models.probe import Probe, mean_gap, probe, probe_of
from rlreason.planning.hardware import GIB

PARTS = ("start", "sample", "sleep and wake", "other weights", "grown vocabulary", "end and start", "adapters alone")
SAMPLES = {"vllm": 32, "transformers": 4}  # of each question; transformers is slower by as much and more
NOISE, SHAKES = 0.02, 50  # standard deviation of noise that is added to weights at once, and how often at most
TOKEN = "[CHECK] "
RANK = 8  # of the adapters, where the model is trained without


def engine(place: Place) -> Iterator[Found]:
    """Everything that a run asks of its engine, each time with the probe; see `PARTS`.

    Raises:
        UserError: The engine holds other weights than it was given.
    """
    from rlreason.models.loading import add_tokens

    asked = what_is_asked(place.config, Display(Console(quiet=True)))
    config, base = asked.config, asked.model.folder
    place.folder.mkdir(parents=True, exist_ok=True)
    limit = allowed(config.engine, config.model)
    own = shortened(probe_of(base) or scored_by_transformers(base), longest_context(config))
    before = in_use()
    start = partial(
        start_engine,
        config.engine,
        config.model,
        longest_context(config),
        config.seed,
        cache_tokens=cache_tokens(config, asked),
    )
    engine = start()
    with closing(engine):
        engine.load(base)
        gap = checked(engine, own, limit)
        held = in_use() - before
        yield Found({"engine": type(engine).__name__}, planned(config, "sampling"), held, gap)

        halves = asked.splits.training[::2], asked.splits.training[1::2]
        drawn(engine, asked, halves[0])  # a first time, for whatever is compiled or captured
        completions, tokens, seconds = drawn(engine, asked, halves[1])
        figures = {"completions": completions, "tokens": tokens, "tokens_per_second": tokens / seconds}
        yield Found(figures, planned(config, "sampling"), in_use() - before)

        awake = in_use()
        engine.release()
        asleep = in_use()
        engine.load(base)
        freed = {"gib_given_back": (awake - asleep) / GIB}
        yield Found(freed, held=in_use() - before, gap=checked(engine, own, limit))

        engine.release()
        write_moved(base, place.folder / "other", asked, own)
        others = shortened(trained(place.folder / "other"), longest_context(config))
        engine.load(place.folder / "other")
        yield Found({"nats_away": distance(own, others)}, held=in_use() - before, gap=checked(engine, others, limit))

        engine.release()
        add_tokens(base, [TOKEN], place.folder / "grown")
        grown = shortened(trained(place.folder / "grown"), longest_context(config))
        engine.load(place.folder / "grown")
        yield Found(held=in_use() - before, gap=checked(engine, grown, limit))

    after = in_use()
    engine = start(adapter_rank=config.model.lora_rank or RANK)
    with closing(engine):
        engine.load(base)
        left = {"gib_left_at_its_end": (after - before) / GIB}
        yield Found(left, held=in_use() - before, gap=checked(engine, own, limit))

        engine.release()
        write_adapters(base, place.folder / "adapters", asked, own)
        adapted = shortened(trained(place.folder / "adapters"), longest_context(config))
        engine.load(place.folder / "adapters")
        gap = checked(engine, adapted, limit)
        engine.load(base)  # without them again
        checked(engine, own, limit)
        yield Found({"nats_away": distance(own, adapted)}, held=in_use() - before, gap=gap)


def checked(engine: Engine, expected: Probe, limit: float) -> float:
    """How far the engine's log-probs of the probe are from the trainer's, in nats a token.

    Raises:
        UserError: Farther than `limit`.
    """
    gap = mean_gap(expected.logprobs, engine.score(expected.token_ids))
    if not gap <= limit:
        raise UserError(
            f"the engine's log-probs of the probe differ from the trainer's by {gap:.3f} nats a token, more than "
            f"engine.probe_limit={limit}: it holds other weights than it was given, or computes otherwise"
        )
    return gap


def shortened(probe: Probe, context: int) -> Probe:
    """The probe as far as it fits into a context beside one token more."""
    ids = probe.token_ids[: context - 1]
    return Probe(ids, probe.logprobs[: len(ids) - 1])


def drawn(engine: Engine, asked: Asked, problems: Sequence[Any]) -> tuple[int, int, float]:
    """How many completions were drawn of some problems, their tokens, and the seconds that they took."""
    config = asked.config
    requests = [
        SampleRequest(problem, sample, sample, asked.prompts[problem.id].token_ids)
        for problem in problems
        for sample in range(SAMPLES[choose_engine(config.engine.name)])
    ]
    settings = SamplingSettings(1.0, config.data.max_completion_tokens, tuple(config.protocol.stop))
    began = time.perf_counter()
    found = [item for batch in engine.sample(requests, settings) for item in batch]
    seconds = time.perf_counter() - began
    if len(found) != len(requests) or not all(item.completion_ids for item in found):
        raise RuntimeError(f"{len(requests)} completions were asked for, and {len(found)} came, or some are empty")
    return len(found), sum(len(item.completion_ids) for item in found), seconds


def write_moved(base: Path, folder: Path, asked: Asked, own: Probe) -> None:
    """A checkpoint whose weights are a little off those of `base`."""
    from rlreason.models.loading import load_for_training, save_checkpoint

    model = where_it_trains(load_for_training(base, replace(asked.config.model, lora_rank=0), asked.config.sharding))
    shake(model, list(model.parameters()), asked.tokenizer, own, relative=True)
    save_checkpoint(model, asked.tokenizer, folder)


def write_adapters(base: Path, folder: Path, asked: Asked, own: Probe) -> None:
    """LoRA adapters for `base` that change it a little, as on-policy training hands them to the engine."""
    from peft import get_peft_model

    from rlreason.models.loading import load_for_training, save_for_engine
    from rlreason.training.common import lora

    settings = replace(asked.config.model, lora_rank=asked.config.model.lora_rank or RANK)
    model = where_it_trains(
        get_peft_model(load_for_training(base, settings, asked.config.sharding), lora(settings, "CAUSAL_LM"))
    )
    second = [weights for name, weights in model.named_parameters() if "lora_B" in name]  # which begin at 0
    shake(model, second, asked.tokenizer, own, relative=False)
    save_for_engine(model, asked.tokenizer, folder, base, settings.dtype)


def where_it_trains(model: Any) -> Any:
    """The model on the device of a trainer."""
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def shake(model: Any, parameters: Sequence[Any], tokenizer: Any, own: Probe, relative: bool) -> None:
    """Add noise to some weights of a model, little by little, until it thinks otherwise of the probe.

    Args:
        model: The model.
        parameters: What the noise is added to.
        tokenizer: The model's.
        own: What the model thought of the probe before.
        relative: Whether the noise is relative to each weight.
    """
    import torch

    draws = torch.Generator(device=model.device).manual_seed(0)
    for _ in range(SHAKES):
        for weights in parameters:
            noise = NOISE * torch.randn(weights.shape, generator=draws, device=weights.device)
            weights.data += (noise * weights.data if relative else noise).to(weights.dtype)
        if distance(own, probe(model, tokenizer)) > 2 * MOVED:
            return
    raise RuntimeError("other weights make no difference to what the model thinks of the probe")


def distance(one: Probe, other: Probe) -> float:
    """How differently two models think of the probe, in nats a token, as far as both have it."""
    return mean_gap(*zip(*zip(one.logprobs, other.logprobs, strict=False), strict=True))


def trained(checkpoint: Path) -> Probe:
    """What the trainer of a checkpoint thought of the probe; its model is given back to the GPU first."""
    from rlreason.models.loading import free_memory

    free_memory()
    found = probe_of(checkpoint)
    if found is None:
        raise RuntimeError(f"{checkpoint} has no probe")
    return found

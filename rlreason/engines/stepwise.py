"""Generation with tokens inserted before each step, on top of any engine.

Every step is a request of its own that ends with its line; the next one carries everything so far, so an engine with
prefix caching computes nothing twice. All completions advance together, one step per pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rlreason.engines.engine import Engine, SampleRequest, SamplingSettings
from rlreason.types import Rollout


@dataclass
class _Growing:
    """A completion between two of its steps."""

    request: SampleRequest
    context: list[int]
    written: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    steps: int = 0


def sample_stepwise(
    engine: Engine,
    requests: Sequence[SampleRequest],
    settings: SamplingSettings,
    inserted: Sequence[int],
    line_end_ids: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    ended: Callable[[str], bool],
) -> Iterator[list[Rollout]]:
    """Draw completions whose every step follows the tokens `inserted`.

    Args:
        engine: What generates.
        requests: One completion each.
        settings: As for `Engine.sample`; `max_tokens` limits the written tokens, and the inserted ones as well.
        inserted: Token ids put before every step; they are in no rollout.
        line_end_ids: Tokens that end a step.
        decode: From token ids to text.
        ended: Whether a text needs no further step.

    Yields:
        Finished rollouts, with what the policy wrote.
    """
    growing = {(item.problem.id, item.sample): _Growing(item, list(item.prompt_ids)) for item in requests}
    line_ends = frozenset(line_end_ids)
    step_settings = replace(settings, stop_token_ids=tuple(line_end_ids))
    while growing:
        for item in growing.values():
            item.context += inserted
        asked = [_next_step(item, settings) for item in growing.values()]
        for rollouts in engine.sample(asked, step_settings):
            finished = []
            for part in rollouts:
                item = growing[part.problem.id, part.sample]
                item.context += part.completion_ids
                item.written += part.completion_ids
                item.logprobs += part.sampler_logprobs
                item.steps += 1
                text = decode(item.written)
                line_ended = bool(part.completion_ids) and part.completion_ids[-1] in line_ends
                full = min(
                    settings.max_tokens - len(item.written), settings.max_tokens - (item.steps + 1) * len(inserted)
                )
                if line_ended and full > 0 and not ended(text) and not any(stop in text for stop in settings.stop):
                    continue
                cut = part.finish_reason == "length" or (line_ended and full <= 0 and not ended(text))
                finished.append(_rollout(item, text, "length" if cut else "stop", settings))
                del growing[part.problem.id, part.sample]
            if finished:
                yield finished


def _next_step(item: _Growing, settings: SamplingSettings) -> SampleRequest:
    return replace(
        item.request,
        prompt_ids=tuple(item.context),
        seed=(item.request.seed + 0x9E3779B9 * item.steps) % 2**32 if item.request.seed >= 0 else item.request.seed,
        max_tokens=settings.max_tokens - len(item.written),
    )


def _rollout(item: _Growing, text: str, finish_reason: str, settings: SamplingSettings) -> Rollout:
    for stop in settings.stop:
        text = text.partition(stop)[0]
    return item.request.drawn(item.written, item.logprobs, text, finish_reason)

"""What an engine is: it samples rollouts from one checkpoint at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlreason.types import Problem, Rollout, token_tuple


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to draw."""

    problem: Problem
    sample: int  # the number of this completion among those of its problem
    seed: int  # of its random numbers; ignored by greedy decoding
    prompt_ids: tuple[int, ...]
    max_tokens: int | None = None  # after which this completion is cut; None: as the settings say

    def drawn(self, completion_ids: Sequence[int], logprobs: Sequence[float], text: str, finish_reason: str) -> Rollout:
        """The rollout that answers this request; see :class:`rlreason.types.Rollout`."""
        return Rollout(
            self.problem,
            self.sample,
            self.seed,
            self.prompt_ids,
            token_tuple(completion_ids),
            tuple(logprobs),
            text,
            finish_reason,
        )


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How completions are drawn."""

    temperature: float  # divides the logits; 0 is greedy decoding
    max_tokens: int  # after which a completion is cut
    stop: tuple[str, ...] = ()  # texts at which a completion ends; they are not part of it
    stop_token_ids: tuple[int, ...] = ()  # tokens after which a completion ends as well; they are part of it
    banned_token_ids: tuple[int, ...] = ()  # tokens that are never drawn


def without_stop_text(ids: Sequence[int], text: str, tokenizer: Any) -> Sequence[int]:
    """The shortest prefix of `ids` that still spells `text`, from which a stop text has been cut.

    An engine that writes on from the prompt has the space before a first word, which some tokenisers drop from what
    they decode alone.
    """
    if text.startswith(" ") and not tokenizer.decode(ids, skip_special_tokens=True).startswith(text):
        text = text[1:]
    while ids and tokenizer.decode(ids[:-1], skip_special_tokens=True).startswith(text):
        ids = ids[:-1]
    return ids


# Called before each step of an engine with the number of requests under way; gives those to begin beside them, waiting
# for some where none is under way, or None to end at once.
Feed = Callable[[int], Sequence[SampleRequest] | None]


class Engine(Protocol):
    """Samples from one checkpoint at a time."""

    def load(self, checkpoint: Path) -> None:
        """Make `checkpoint` the policy to sample from."""

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw all requests, yielding rollouts as they finish, in any order."""

    def score(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probability of each token but the first given those before it, in nats, at temperature 1."""

    def release(self) -> None:
        """Give memory that training can use back until the next `load`."""

    def close(self) -> None:
        """Give everything back: a sweep runs its jobs in one process."""


@runtime_checkable
class FedEngine(Protocol):
    """An engine whose running batch takes new requests at any step."""

    def sample_fed(self, feed: Feed, settings: SamplingSettings) -> Iterator[list[Rollout]]:
        """Draw what `feed` gives until it gives None, yielding rollouts as they finish, in any order."""

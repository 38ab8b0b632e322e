"""The nouns of an experiment: a problem, its prompt, and a rollout.

They are frozen, hold plain Python values, and import nothing, so that every layer can share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKENS: dict[int, int] = {}


def token_tuple(ids: Iterable[int]) -> tuple[int, ...]:
    """Token ids as a tuple in which equal numbers are one object: they are most of what rollouts hold in memory."""
    return tuple([_TOKENS.setdefault(token, token) for token in ids])


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its gold answer and, where the data set has one, a worked solution.

    Args:
        id: Unique within its data set; two splits never share one.
        question: The question as the data set words it.
        answer: The gold final answer, without marker or unit.
        steps: The lines of the reference solution, without the line of the final answer; empty when unknown.
        columns: The whole row of the data set, by column, for rewards of the user's own; empty for generated questions.
        cluster: What the question shares with others, such as the template of which all are variants; intervals then
            draw clusters. None where every question stands alone.
    """

    id: str
    question: str
    answer: str
    steps: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt and its token ids.

    Args:
        problem_id: The problem that it asks.
        text: What the model reads.
        token_ids: `text` as the model's tokeniser encodes it, special tokens included.
    """

    problem_id: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the state that its solutions start from.

    Args:
        problem: The question.
        given_ids: Tokens of the reference solution that the completion begins with; empty for a fresh start.
    """

    problem: Problem
    given_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a completion.

    Args:
        start: Index of its first token in the completion.
        end: Index after its last token.
        text: Its line, without surrounding white space.
        kind: "reasoning"; "answer" for the line that states the final answer behind the marker; "after" for what
            follows that line and counts for nothing.
    """

    start: int
    end: int
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class StepReward:
    """Credit for one step of a completion.

    Args:
        start: Index of the step's first token in the completion.
        end: Index after the step's last token; the reward is received at token `end - 1`.
        value: The reward.
    """

    start: int
    end: int
    value: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion that a policy sampled for one problem: the only record of it, from the engine to the trainer.

    An engine fills in what was sampled; grading adds the steps and the outcome, a reward adds the rewards.

    Args:
        problem: What was asked.
        sample: The number of this completion among those of its problem in its stage, from 0.
        seed: The seed of this completion's random numbers; -1 for greedy decoding.
        prompt_ids: Token ids of the prompt.
        completion_ids: Token ids of the completion, the end-of-text token included when the policy wrote it.
        sampler_logprobs: Log-probability of every completion token under the distribution that it was drawn
            from (temperature applied), in nats; same length as `completion_ids`.
        text: The completion as text, without special tokens.
        finish_reason: "stop" when the policy ended its text, "length" when the token limit cut it.
        steps: The steps of the completion; empty before grading.
        answer: The extracted final answer; None when the text holds none, and before grading.
        correct: Whether that answer is right; False before grading.
        rewards: One entry for every step that received credit, in order; empty before a reward was asked.
        is_unread: Whether the answer could not be valued, see `rlreason.answers.equality.Verdict`; it is then wrong.
    """

    problem: Problem
    sample: int
    seed: int
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    text: str
    finish_reason: str
    steps: tuple[Step, ...] = ()
    answer: str | None = None
    correct: bool = False
    rewards: tuple[StepReward, ...] = ()
    is_unread: bool = False

    @property
    def total_reward(self) -> float:
        """The undiscounted return: the sum of all step rewards."""
        return sum(step.value for step in self.rewards)

"""The vocabulary in which an algorithm tells the planner what it does: sizes, work, and updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rlreason.training.shared_beginnings import worth_while


def total(amounts: Iterable[float | None]) -> float | None:
    """The sum; None where there is nothing to add or an amount is not known."""
    listed = list(amounts)
    known = [amount for amount in listed if amount is not None]
    return sum(known) if known and len(known) == len(listed) else None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Questions and tokens of an experiment.

    Args:
        training: Training questions.
        validation: Validation questions.
        measured: Questions that a policy is measured on.
        prompt: Mean tokens of a prompt.
        examples: Of these, those of the few-shot examples that all prompts begin with.
        longest_prompt: Tokens of the longest that is asked.
        completion: Mean tokens of a completion.
        longest_completion: Where a sampled one is cut.
        reference: Tokens of the longest reference solution.
        steps: Mean lines of a solution.
    """

    training: int
    validation: int
    measured: int
    prompt: float
    examples: float
    longest_prompt: int
    completion: float
    longest_completion: int
    reference: int
    steps: float

    def asked(self, questions: int) -> int:
        """Training questions that are asked where the settings say `questions`, and 0 means all of them."""
        return min(questions or self.training, self.training)


@dataclass(frozen=True, slots=True)
class Work:
    """One phase's work.

    Args:
        phase: Its name.
        kind: sample, train or evaluate, as in `result.json`.
        samples: Completions drawn, or sequences learned from in all passes; None where that is not known.
        tokens: Completion tokens drawn; of prompts and completions where they are learned from; None: not known.
        prompts: Different prompts that are read, each counted as often as its policy changes.
        together: Completions of the largest stage, which the engine is given at once; None where that is not known.
        steps: Optimizer steps.
        at_most: Whether it can turn out to be less (rounds that stop early, solutions that are dropped).
        shared: Share of `tokens` that are not computed, as sequences of one forward pass begin with them.
    """

    phase: str
    kind: str
    samples: int | None = None
    tokens: float | None = None
    prompts: int = 0
    together: int | None = None
    steps: int = 0
    at_most: bool = False
    shared: float = 0.0


def drawn(
    phase: str, samples: int, sizes: Sizes, prompts: int, together: int | None = None, at_most: bool = False
) -> Work:
    """The work of sampling so many completions, in one stage unless fewer are drawn `together`."""
    tokens, together = samples * sizes.completion, samples if together is None else together
    return Work(phase, "sample", samples, tokens, prompts, together, at_most=at_most)


def learned(update: Update, sequences: int, sizes: Sizes, more: float = 0.0, at_most: bool = False) -> Work:
    """The work of a supervised update.

    Args:
        update: Which.
        sequences: In one pass.
        sizes: Of the questions.
        more: Mean tokens of a sequence beside its prompt and its completion.
        at_most: Whether it can turn out to be less.
    """
    passes = update.settings.epochs * sequences
    steps = -(-round(passes) // update.batch)
    tokens = sizes.prompt + sizes.completion + more
    together = update.settings.micro_batch_size
    share = update.loss == "chunked" and worth_while(sizes.examples, [tokens] * together)
    again = sizes.examples * (together - 1) / (together * tokens) if share else 0.0
    return Work(update.phase, "train", round(passes), passes * tokens, steps=steps, at_most=at_most, shared=again)


@dataclass(frozen=True, slots=True)
class Update:
    """A kind of training: what decides the memory of one of its steps.

    Args:
        phase: Its name.
        section: The section of the configuration that has its settings: algo, init or orm.
        settings: That section: `epochs`, `micro_batch_size` and the setting that `batch_key` names.
        completion: Tokens of the longest completion that it learns from.
        batch_key: The setting that is the sequences of an optimizer step, over all processes.
        loss: As in `memory.TrainingStep`.
        rollouts: Of one batch of on-policy training; 0 for supervised updates. On-policy training keeps weights and
            optimizer on its device while the engine samples.
        critic: A critic with a model of its own: "policy" (trained as the policy is), "whole" (all of its weights), or
            "" for none.
        reference: Whether there is a reference model.
    """

    phase: str
    section: str
    settings: Any
    completion: Callable[[Sizes], int]
    batch_key: str = "batch_size"
    loss: str = "chunked"
    rollouts: int = 0
    critic: str = ""
    reference: bool = False

    @property
    def batch(self) -> int:
        """Sequences of an optimizer step, over all processes."""
        return int(getattr(self.settings, self.batch_key))


@dataclass(frozen=True, slots=True)
class AlgorithmFacts:
    """What the planner knows of an algorithm with its settings.

    Args:
        update: Its training; None where it trains nothing but the outcome reward model.
        work: What it draws and learns from, in order, evaluations not included.
        checkpoints: Checkpoints of the policy that are kept and measured on the way, the last included.
        ends: Measurements with all samples of `eval.k` at the most: the first policy, the selected one, the last one
            where that is another, and a control; 0 where there is no policy and the outcome reward model is judged
            instead.
        stops_early: Whether there may be fewer measurements.
        samples: Completions of a question that are drawn together and share the keys and values of its prompt.
        copies: Copies of the base model in bfloat16 that it leaves on disk.
    """

    update: Update | None
    work: Callable[[Sizes], list[Work]]
    checkpoints: int
    ends: int = 3
    stops_early: bool = False
    samples: int = 1
    copies: int = 0

"""What each algorithm does, as the planner needs it: one function for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlreason.config.algorithms import (
    ExpertIterationConfig,
    GRPOConfig,
    OnPolicyConfig,
    OutcomeModelAlgorithmConfig,
    PPOConfig,
    ReturnConditionedConfig,
    SFTConfig,
)
from rlreason.config.experiment import ExperimentConfig
from rlreason.planning.facts import AlgorithmFacts, Sizes, Update, Work, drawn, learned


def sft(settings: SFTConfig) -> AlgorithmFacts:
    """Supervised fine-tuning: all reference solutions."""
    update = Update("SFT training", "algo", settings, lambda sizes: sizes.reference)
    return AlgorithmFacts(
        update,
        lambda sizes: [learned(update, sizes.training, sizes.prompt + sizes.completion)],
        settings.evaluations,
    )


def expert_iteration(settings: ExpertIterationConfig) -> AlgorithmFacts:
    """Expert iteration: every round draws, and learns from what was kept, at most everything."""
    update = Update("EI training", "algo", settings, lambda sizes: max(sizes.longest_completion, sizes.reference))

    def work(sizes: Sizes) -> list[Work]:
        asked = sizes.asked(settings.questions)
        kept = [
            asked * settings.samples * (number if settings.aggregate else 1) + sizes.training * settings.join_references
            for number in range(1, settings.rounds + 1)
        ]
        return [
            drawn("sampling", settings.rounds * asked * settings.samples, sizes, settings.rounds * asked, True),
            learned(update, sum(kept), sizes.prompt + sizes.completion, at_most=True),
        ]

    return AlgorithmFacts(update, work, settings.rounds, stops_early=True, samples=settings.samples)


def return_conditioned(settings: ReturnConditionedConfig) -> AlgorithmFacts:
    """Return-conditioned RL: draws once, unless rollouts are given, and learns from right and wrong with their tags."""
    update = Update("RCRL training", "algo", settings, lambda sizes: sizes.longest_completion + round(2 * sizes.steps))

    def work(sizes: Sizes) -> list[Work]:
        asked = sizes.asked(settings.questions)
        tokens = sizes.prompt + sizes.completion + sizes.steps
        training = learned(update, asked * settings.samples, tokens, at_most=True)
        return [*([drawn("sampling", asked * settings.samples, sizes, asked)] * (settings.rollouts is None)), training]

    return AlgorithmFacts(
        update, work, checkpoints=1, ends=3, samples=settings.samples, copies=settings.tags_as == "tokens"
    )


def ppo(settings: PPOConfig) -> AlgorithmFacts:
    """PPO: on-policy, with a critic."""
    critic = {"policy": "policy", "orm": "whole"}[settings.critic_start] if settings.critic == "separate" else ""
    return on_policy(settings, critic, "split")


def grpo(settings: GRPOConfig) -> AlgorithmFacts:
    """GRPO: on-policy, without a critic."""
    return on_policy(settings, "", "whole")


def on_policy(settings: OnPolicyConfig, critic: str, reference: str) -> AlgorithmFacts:
    """Batches of fresh rollouts, each learned from `epochs` times.

    Args:
        settings: What PPO and GRPO share.
        critic: As in `Update`.
        reference: As in `Update`, where the KL to the initial policy counts.
    """
    update = Update(
        "on-policy training",
        "algo",
        settings,
        lambda sizes: sizes.longest_completion,
        batch_key="minibatch_size",
        loss="on-policy",
        rollouts=settings.batch_size,
        critic=critic,
        reference=reference if settings.kl_coefficient > 0 else "",
    )

    def work(sizes: Sizes) -> list[Work]:
        rollouts = settings.batches * settings.batch_size
        tokens = rollouts * (sizes.prompt + sizes.completion) * settings.epochs
        steps = settings.batches * settings.epochs * settings.batch_size // settings.minibatch_size
        return [
            drawn("sampling", rollouts, sizes, settings.batches * settings.questions),
            Work(update.phase, "train", rollouts * settings.epochs, tokens, steps=steps),
        ]

    return AlgorithmFacts(update, work, settings.evaluations, samples=settings.samples)


def outcome_model(settings: OutcomeModelAlgorithmConfig) -> AlgorithmFacts:
    """The outcome reward model alone: the section `orm` says what is drawn and learned."""
    return AlgorithmFacts(None, lambda sizes: [], checkpoints=0, ends=0)


FACTS: dict[str, Callable[[Any], AlgorithmFacts]] = {
    "sft": sft,
    "ei": expert_iteration,
    "rcrl": return_conditioned,
    "ppo": ppo,
    "grpo": grpo,
    "orm": outcome_model,
}


def algorithm_facts(config: ExperimentConfig) -> AlgorithmFacts | None:
    """What the planner knows of the experiment's algorithm; None where that is nothing."""
    facts = FACTS.get(config.algo.name)
    return None if facts is None else facts(config.algo)

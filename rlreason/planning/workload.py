"""Samples and tokens that an experiment draws and learns from, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass

from rlreason.config.algorithms import (
    ExpertIterationConfig,
    OnPolicyConfig,
    OutcomeModelAlgorithmConfig,
    ReturnConditionedConfig,
    SFTConfig,
)
from rlreason.config.base import SupervisedConfig
from rlreason.config.experiment import ExperimentConfig
from rlreason.config.sections import SFTInitConfig
from rlreason.orm.calibration import VALIDATION_SAMPLES
from rlreason.planning.batches import trains_outcome_model
from rlreason.planning.lengths import Lengths, lengths, question_counts


@dataclass(frozen=True, slots=True)
class Work:
    """One phase's work.

    Args:
        phase: Its name.
        kind: sample, train or evaluate, as in `result.json`.
        samples: Completions drawn, or sequences learned from in all passes.
        tokens: Completion tokens drawn; of prompts and completions where they are learned from.
        prompts: Different prompts that are read, each counted as often as its policy changes.
        steps: Optimizer steps.
        at_most: Whether it can turn out to be less (rounds that stop early, solutions that are dropped).
    """

    phase: str
    kind: str
    samples: int
    tokens: float
    prompts: int = 0
    steps: int = 0
    at_most: bool = False


def workload(config: ExperimentConfig) -> list[Work]:
    """What the experiment does, in the order in which it does it."""
    size = lengths(config)
    if config.task.name == "evaluate":
        return [_evaluations(config, size)]
    training, validation, _ = question_counts(config)
    found = []
    if isinstance(config.init, SFTInitConfig):
        found.append(_learning("SFT (init)", config.init, training, size.prompt + size.completion))
    if trains_outcome_model(config):
        found += _outcome_model(config, size, training, validation)
    algo = config.algo
    if isinstance(algo, OnPolicyConfig):
        rollouts = algo.batches * algo.batch_size
        found.append(_drawn("sampling", rollouts, size, algo.batches * algo.questions))
        tokens = rollouts * (size.prompt + size.completion) * algo.epochs
        steps = algo.batches * algo.epochs * algo.batch_size // algo.minibatch_size
        found.append(Work("on-policy training", "train", rollouts * algo.epochs, tokens, steps=steps))
    elif isinstance(algo, ExpertIterationConfig):
        asked = min(algo.questions or training, training)
        found.append(_drawn("sampling", algo.rounds * asked * algo.samples, size, algo.rounds * asked, True))
        learned = [asked * algo.samples * (number if algo.aggregate else 1) for number in range(1, algo.rounds + 1)]
        found.append(_learning("EI training", algo, sum(learned), size.prompt + size.completion, at_most=True))
    elif isinstance(algo, ReturnConditionedConfig):
        asked = min(algo.questions or training, training)
        if algo.rollouts is None:
            found.append(_drawn("sampling", asked * algo.samples, size, asked))
        tokens = size.prompt + size.completion + size.steps
        found.append(_learning("RCRL training", algo, asked * algo.samples, tokens, at_most=True))
    elif isinstance(algo, SFTConfig):
        found.append(_learning("SFT training", algo, training, size.prompt + size.completion))
    return [*found, _evaluations(config, size)]


def _outcome_model(config: ExperimentConfig, size: Lengths, training: int, validation: int) -> list[Work]:
    orm = config.orm
    drawn = training * orm.samples + validation * VALIDATION_SAMPLES
    found = [_drawn("ORM sampling", drawn, size, training + validation)]
    if orm.label == "rollout":
        prefixes = round(training * orm.samples * size.steps)
        found.append(_drawn("ORM continuations", prefixes * orm.continuations, size, prefixes, True))
    found.append(_learning("ORM training", orm, training * orm.samples, size.prompt + size.completion))
    return found


def _drawn(phase: str, samples: int, size: Lengths, prompts: int, at_most: bool = False) -> Work:
    return Work(phase, "sample", samples, samples * size.completion, prompts, at_most=at_most)


def _learning(phase: str, config: SupervisedConfig, sequences: int, tokens: float, at_most: bool = False) -> Work:
    passes = config.epochs * sequences
    return Work(
        phase, "train", round(passes), passes * tokens, steps=-(-round(passes) // config.batch_size), at_most=at_most
    )


def _evaluations(config: ExperimentConfig, size: Lengths) -> Work:
    """Greedy and sampled completions of the first, the last and every checkpoint between."""
    _, validation, measured = question_counts(config)
    settings, algo = config.eval, config.algo
    whole = measured * (1 + settings.k)
    if config.task.name == "evaluate" or isinstance(algo, OutcomeModelAlgorithmConfig):
        samples, policies = (whole if config.task.name == "evaluate" else measured * (1 + max(1, settings.k))), 1
    else:
        between = checkpoints(config)
        each = validation + measured * (1 + settings.k_between)
        ends = 3 if isinstance(algo, ReturnConditionedConfig) else 2
        elsewhere = 2 * measured * settings.ood
        samples, policies = validation + ends * whole + between * each + elsewhere, between + ends
    early = isinstance(algo, ExpertIterationConfig) and config.task.name != "evaluate"
    return Work("evaluation", "evaluate", samples, samples * size.completion, policies * measured, at_most=early)


def checkpoints(config: ExperimentConfig) -> int:
    """Checkpoints of the policy that are kept and measured on the way, the last included."""
    algo = config.algo
    if isinstance(algo, ExpertIterationConfig):
        return algo.rounds
    return algo.evaluations if isinstance(algo, SFTConfig | OnPolicyConfig) else 1

"""Samples and tokens that an experiment draws and learns from, phase by phase."""

from __future__ import annotations

from rlreason.config.experiment import ExperimentConfig
from rlreason.orm.calibration import VALIDATION_SAMPLES
from rlreason.planning.facts import AlgorithmFacts, Sizes, Update, Work, drawn, learned
from rlreason.planning.lengths import known_sizes
from rlreason.planning.updates import algorithm_facts, initial_update, outcome_update

ANY_SIZES = Sizes(1, 1, 1, 1, 0, 1, 1, 1, 1, 1)


def workload(config: ExperimentConfig) -> list[Work]:
    """What the experiment does, in the order in which it does it; without amounts where they are not known."""
    sizes = known_sizes(config)
    if sizes is None:  # the phases are the same for all sizes
        return [Work(item.phase, item.kind) for item in _workload(config, ANY_SIZES)]
    return _workload(config, sizes)


def most_together(config: ExperimentConfig, sizes: Sizes) -> int | None:
    """Completions of the largest stage that samples, among questions of so many; None where that is not known."""
    together = [item.together for item in _workload(config, sizes) if item.kind != "train"]
    return None if None in together else max(together, default=None)  # type: ignore[type-var]


def _workload(config: ExperimentConfig, sizes: Sizes) -> list[Work]:
    if config.task.name == "evaluate":
        samples = sizes.measured * (1 + config.eval.k)
        together = sizes.measured * max(1, config.eval.k)
        return [Work("evaluation", "evaluate", samples, samples * sizes.completion, sizes.measured, together)]
    found = []
    update = initial_update(config)
    if update is not None:
        found.append(learned(update, sizes.training, sizes))
    update = outcome_update(config)
    if update is not None:
        found += outcome_work(config, update, sizes)
    facts = algorithm_facts(config)
    if facts is None:
        return [*found, Work(f"algo={config.algo.name}", "train"), Work("evaluation", "evaluate")]
    return [*found, *facts.work(sizes), evaluations(config, facts, sizes)]


def outcome_work(config: ExperimentConfig, update: Update, sizes: Sizes) -> list[Work]:
    """What the outcome reward model draws and learns from."""
    orm = config.orm
    sequences = sizes.training * orm.samples
    solutions = sequences + sizes.validation * VALIDATION_SAMPLES
    found = [drawn("ORM sampling", solutions, sizes, sizes.training + sizes.validation)]
    if orm.label == "rollout":
        prefixes = round(sequences * sizes.steps)
        found.append(drawn("ORM continuations", prefixes * orm.continuations, sizes, prefixes, at_most=True))
    return [*found, learned(update, sequences, sizes)]


def evaluations(config: ExperimentConfig, facts: AlgorithmFacts, sizes: Sizes) -> Work:
    """Greedy and sampled completions of the first, the last and every checkpoint between."""
    settings = config.eval
    if facts.ends == 0:
        samples, policies = sizes.measured * (1 + max(1, settings.k)), 1
    else:
        whole = sizes.measured * (1 + settings.k)
        each = sizes.validation + sizes.measured * (1 + settings.k_between)
        elsewhere = 2 * sizes.measured * (settings.ood + (settings.second_prompt is not None))
        # The selected policy and the last one were measured on the way, greedily and perhaps with as many samples.
        known = 2 * sizes.measured * (1 + settings.k * (settings.k_between == settings.k))
        samples = sizes.validation + facts.ends * whole - known + facts.checkpoints * each + elsewhere
        policies = facts.checkpoints + facts.ends
    tokens = samples * sizes.completion
    together = max(sizes.measured * max(1, settings.k), sizes.validation)
    return Work(
        "evaluation", "evaluate", samples, tokens, policies * sizes.measured, together, at_most=facts.stops_early
    )

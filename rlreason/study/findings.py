"""The paper's findings as hypotheses, each tested on a study's own runs and never worded stronger than its interval.

A verdict needs an interval that decides: "holds" and "does not hold" where it lies wholly on one side, otherwise "not
enough evidence". Where a finding is tested in several settings at once, all its intervals cover together with 95 %
(Bonferroni), so that many settings do not make a chance result. Where a finding says that something is absent or
alike, a margin says how small is small; the margins are ours, for the paper states none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from rlreason.evaluation.statistics import Estimate
from rlreason.study.arms import Arm, Comparison
from rlreason.study.controls import is_control
from rlreason.study.curves import SampleComplexity, sample_complexity
from rlreason.study.results import best_arm

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not enough evidence"
MARGIN = 0.05  # differences of maj@1 below this count as comparable
CLOSE = 0.10  # the paper's "under 10 points"
FACTOR = 2.0  # sample counts within this factor count as similar
SAME_SOLUTIONS = 0.75  # from this share on, a policy's solutions count as those of its start

Contrast = Callable[[float], Estimate | None]  # an estimate at a given confidence


@dataclass(frozen=True)
class Finding:
    """One finding of the paper and what this study says of it.

    Args:
        number: As in the documentation.
        statement: The paper's claim.
        certainty: How sure it is that the paper says so, "known" or "likely".
        verdict: "holds", "does not hold" or "not enough evidence".
        evidence: The statistic and its numbers.
    """

    number: int
    statement: str
    certainty: str
    verdict: str
    evidence: str


def findings(comparison: Comparison) -> list[Finding]:
    """Test every finding on the runs of one comparison, those of controls left out."""
    comparison = replace(comparison, arms=tuple(arm for arm in comparison.arms if not is_control(arm)))
    tests: list[tuple[str, str, Callable[[Comparison], tuple[str, str]]]] = [
        ("Expert iteration is best, and all algorithms come out comparable.", "known", _expert_iteration_is_best),
        ("Expert iteration raises maj@1 above SFT.", "likely", _above_sft),
        ("EI and PPO need similar numbers of samples, at most of the order of 10^6.", "known", _similar_samples),
        ("RL raises maj@1 and pass@K together; longer SFT raises maj@1 and lowers pass@K.", "known", _trade_off),
        ("Dense and ORM rewards do not improve final accuracy.", "likely", _rewards),
        ("RL brings the pretrained start to within 10 points of the SFT start.", "known", _gap_between_starts),
        ("Larger models find more diverse solutions during RL.", "known", _larger_is_more_diverse),
        ("Exploration is the limit: RL hardly leaves the solutions of SFT.", "known", _known_solutions),
    ]
    return [
        Finding(number, statement, certainty, *test(comparison))
        for number, (statement, certainty, test) in enumerate(tests, start=1)
    ]


def _expert_iteration_is_best(comparison: Comparison) -> tuple[str, str]:
    pairs = _together(
        (f"{_name(ours)} over {other.algorithm.title}", partial(ours.difference, other, "maj@1"))
        for ours in comparison.find(algo="ei")
        for other in _others(comparison, ours)
    )
    if not pairs:
        return UNKNOWN, "No EI run has another algorithm beside it with the same reward, start and model."
    shown = _shown(pairs)
    beaten = [item for _, item in pairs if item.high < 0]
    far = [item for _, item in pairs if item.low > MARGIN]
    if beaten:
        return FAILS, f"maj@1 of EI is below another algorithm's in {len(beaten)} of {len(pairs)} settings: {shown}."
    if far:
        return FAILS, f"EI is best, but by more than {MARGIN:.2f} in {len(far)} of {len(pairs)} settings: {shown}."
    if all(item.low >= -MARGIN and item.high <= MARGIN for _, item in pairs):
        return HOLDS, f"All differences of maj@1 lie within {MARGIN:.2f} and none is against EI: {shown}."
    return UNKNOWN, f"maj@1 of EI less the other's: {shown}."


def _above_sft(comparison: Comparison) -> tuple[str, str]:
    gains = _together(
        (_name(arm), partial(arm.gain, "maj@1", "init")) for arm in comparison.find(algo="ei", init="sft")
    )
    return _all_above_zero(gains, "maj@1 after EI less that of its SFT start")


def _similar_samples(comparison: Comparison) -> tuple[str, str]:
    needed: list[tuple[str, SampleComplexity, SampleComplexity]] = []
    for ours in comparison.find(algo="ei", init="scratch"):
        for other in _others(comparison, ours, "ppo"):
            first, second = sample_complexity(ours), sample_complexity(other)
            if first is not None and second is not None:
                needed.append((_name(ours, algorithm=False), first, second))
    if not needed:
        return UNKNOWN, "No pair of EI and PPO from the pretrained start was evaluated on the way."
    shown = "; ".join(
        f"{name}: EI {first.median:,.0f} ({first.low:,.0f} to {first.high:,.0f}), "
        f"PPO {second.median:,.0f} ({second.low:,.0f} to {second.high:,.0f})"
        for name, first, second in needed
    )
    text = f"Samples to 95 % of the final maj@1, median (range over seeds): {shown}."
    if any(max(first.low, second.low) > 3e6 for _, first, second in needed):
        return FAILS, text
    apart = [first.low > FACTOR * second.high or second.low > FACTOR * first.high for _, first, second in needed]
    alike = [first.high <= FACTOR * second.low and second.high <= FACTOR * first.low for _, first, second in needed]
    return (FAILS if any(apart) else HOLDS if all(alike) else UNKNOWN), text


def _trade_off(comparison: Comparison) -> tuple[str, str]:
    wide = f"pass@{comparison.k}"
    trained = [arm for arm in comparison.arms if arm.algorithm.learns_from_rewards]
    tuned = {
        arm: checkpoints[1]
        for arm in comparison.find(algo="sft")
        if len(checkpoints := [item.checkpoint for item in arm.runs[0].course]) > 2
    }
    contrasts = [
        (f"{_name(arm)} {metric}", partial(arm.gain, metric, since))
        for arm, since in (*((arm, "init") for arm in trained), *tuned.items())
        for metric in ("maj@1", wide)
    ]
    found = dict(_together(contrasts))
    rl = [(found.get(f"{_name(arm)} maj@1"), found.get(f"{_name(arm)} {wide}")) for arm in trained]
    sft = [(found.get(f"{_name(arm)} maj@1"), found.get(f"{_name(arm)} {wide}")) for arm in tuned]
    both = [(one, two) for one, two in rl if one is not None and two is not None]
    traded = [(one, two) for one, two in sft if one is not None and two is not None]
    if not both or not traded:
        return UNKNOWN, f"This needs RL runs and an SFT run whose {wide} was measured on the way."
    text = f"Last less first checkpoint (for SFT, less the first one on the way): {_shown(found.items())}."
    if any(two.high < 0 for _, two in both) or any(two.low > 0 for _, two in traded):
        return FAILS, text
    agree = [one.low > 0 and two.low > 0 for one, two in both] + [one.low > 0 and two.high < 0 for one, two in traded]
    return (HOLDS if all(agree) else UNKNOWN), text


def _rewards(comparison: Comparison) -> tuple[str, str]:
    pairs = _together(
        (_name(arm), partial(arm.difference, sparse, "maj@1"))
        for arm in comparison.arms
        if arm.reward != "sparse" and arm.algorithm.learns_from_rewards
        for sparse in comparison.find(**{**arm.names, "reward": "sparse"})
    )
    if not pairs:
        return UNKNOWN, "No algorithm was run with the sparse and with another reward."
    text = f"maj@1 less that of the sparse reward: {_shown(pairs)}."
    if any(item.low > 0 for _, item in pairs):
        return FAILS, text
    return (HOLDS if all(item.high <= MARGIN for _, item in pairs) else UNKNOWN), text


def _gap_between_starts(comparison: Comparison) -> tuple[str, str]:
    contrasts = []
    for model in comparison.models:
        trained = [arm for arm in comparison.find(model=model) if arm.algorithm.learns_from_rewards]
        scratch = best_arm([arm for arm in trained if arm.init == "scratch"], "maj@1")
        tuned = best_arm([arm for arm in trained if arm.init == "sft"], "maj@1")
        if scratch is not None and tuned is not None:
            contrasts.append((f"{_name(tuned)} over {_name(scratch)}", partial(tuned.difference, scratch, "maj@1")))
    gaps = _together(contrasts)
    if not gaps:
        return UNKNOWN, "No model was trained from both starts."
    text = f"Best maj@1 from SFT less best from the pretrained start: {_shown(gaps)}."
    if any(item.low > CLOSE for _, item in gaps):
        return FAILS, text
    return (HOLDS if all(item.high < CLOSE for _, item in gaps) else UNKNOWN), text


def _larger_is_more_diverse(comparison: Comparison) -> tuple[str, str]:
    if len(comparison.models) < 2:
        return UNKNOWN, "All runs have the same model."
    small, large = comparison.models[0], comparison.models[-1]
    pairs = _together(
        (_name(arm, model=False), partial(arm.difference, other, "distinct_solutions"))
        for arm in comparison.find(model=large)
        if arm.algorithm.learns_from_rewards
        for other in comparison.find(**{**arm.names, "model": small})
    )
    return _all_above_zero(pairs, f"Different solutions per question of {large} less those of {small}")


def _known_solutions(comparison: Comparison) -> tuple[str, str]:
    shares = _together(
        (_name(arm), partial(arm.estimate, "known_at_start", "final"))
        for arm in comparison.find(init="sft")
        if arm.algorithm.learns_from_rewards
    )
    if not shares:
        return UNKNOWN, "No RL run from SFT was sampled at its end."
    shown = "; ".join(f"{name} {item.value:.3f} [{item.low:.3f}, {item.high:.3f}]" for name, item in shares)
    text = f"Share of a policy's different solutions that SFT's own samples contain: {shown}."
    if all(item.low >= SAME_SOLUTIONS for _, item in shares):
        return HOLDS, text
    return (FAILS if any(item.high < SAME_SOLUTIONS for _, item in shares) else UNKNOWN), text


def _together(contrasts: Iterable[tuple[str, Contrast]]) -> list[tuple[str, Estimate]]:
    """The estimates that can be made, with intervals that cover together with 95 %."""
    possible = [(name, contrast) for name, contrast in contrasts if contrast(0.95) is not None]
    confidence = 1 - 0.05 / max(1, len(possible))
    made = [(name, contrast(confidence)) for name, contrast in possible]
    return [(name, estimate) for name, estimate in made if estimate is not None]


def _all_above_zero(pairs: Sequence[tuple[str, Estimate]], meaning: str) -> tuple[str, str]:
    if not pairs:
        return UNKNOWN, "The study has no such runs."
    text = f"{meaning}: {_shown(pairs)}."
    if any(item.high < 0 for _, item in pairs) or all(item.high <= 0 for _, item in pairs):
        return FAILS, text
    return (HOLDS if all(item.low > 0 for _, item in pairs) else UNKNOWN), text


def _others(comparison: Comparison, arm: Arm, algo: str | None = None) -> Iterable[Arm]:
    """Arms of other RL algorithms with the same reward, start and model."""
    alike = comparison.find(reward=arm.reward, init=arm.init, model=arm.model)
    return [
        other
        for other in alike
        if other.algorithm.learns_from_rewards and other.algo != arm.algo and algo in (None, other.algo)
    ]


def _name(arm: Arm, algorithm: bool = True, model: bool = True) -> str:
    reward = arm.reward if arm.algorithm.uses_reward else ""
    parts = (arm.algorithm.title * algorithm, reward, arm.init, arm.model * model, arm.variant)
    return " ".join(filter(None, parts))


def _shown(pairs: Iterable[tuple[str, Estimate]]) -> str:
    return "; ".join(f"{name} {item.value:+.3f} [{item.low:+.3f}, {item.high:+.3f}]" for name, item in pairs)

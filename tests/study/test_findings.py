"""The paper's findings on runs whose truth is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlreason.evaluation.metrics import KNOWN, KNOWN_NULL, known_and_null
from rlreason.run.stage import checkpoint_of_round
from rlreason.study.arms import Arm, Comparison
from rlreason.study.findings import FAILS, HOLDS, UNKNOWN, findings
from rlreason.study.folders import Evaluation, StudyRun

PROBLEMS, SEEDS, K = 400, 3, 16


def arm(
    algo: str, final: float, reward: str = "sparse", init: str = "scratch", model: str = "tiny", **more: Any
) -> Arm:
    """An arm whose runs have the accuracy `final` at their end and `start` before, on problems of one difficulty."""
    course = [more.get("start", 0.2), *more.get("course", ()), final]
    runs = []
    seeds = more.get("seeds", SEEDS)
    for seed in range(seeds):
        generator = np.random.default_rng([seed, len(algo), int(1000 * final), len(reward), len(init), len(model)])
        hard = np.random.default_rng(0).random(PROBLEMS)  # the same problems for all, so that differences are paired
        evaluations = []
        for number, accuracy in enumerate(course):
            greedy = (hard + 0.02 * generator.standard_normal(PROBLEMS) < accuracy).astype(float)
            passes = more.get("passes", [min(1.0, value + 0.1) for value in course])[number]
            table = {
                "reference_steps": 2,
                "samples": K,
                "right": 4,
                "maj@1": greedy,
                f"pass@{K}": (hard + 0.02 * generator.standard_normal(PROBLEMS) < passes).astype(float),
                "distinct_right": more.get("distinct", 2.0) + 0.1 * generator.standard_normal(PROBLEMS),
                KNOWN: more.get("known", 0.6) + 0.1 * generator.standard_normal(PROBLEMS),
                KNOWN_NULL: 0.6 + 0.1 * generator.standard_normal(PROBLEMS),
            }
            samples = more.get("places", range(0, 90_000, 10_000))[number] * more.get("slow", 1)
            index = pd.Index([f"q{problem}" for problem in range(PROBLEMS)])
            evaluations.append(Evaluation(checkpoint_of_round(number), True, samples, pd.DataFrame(table, index=index)))
        last = evaluations[-1]
        evaluations.append(Evaluation("final", False, last.samples_seen, last.table))
        config = {"seed": seed, "model": {"name": model, "parameters": 1e6 if model == "tiny" else 1e7}}
        result = {"config": config, "training_rollouts": last.samples_seen}
        runs.append(StudyRun(Path(f"{algo}-{seed}"), result, tuple(evaluations)))
    return Arm(algo, reward, init, model, "", tuple(runs))


def verdicts(*arms: Arm) -> dict[int, str]:
    return {item.number: item.verdict for item in findings(Comparison("made", K, {}, arms))}


def test_nothing_is_claimed_without_runs() -> None:
    assert set(verdicts(arm("sft", 0.5)).values()) == {UNKNOWN}


SETTINGS = [(reward, init) for init in ("scratch", "sft") for reward in ("sparse", "dense", "orm")]


def right_at_random(made: Arm, accuracy: float, generator: np.random.Generator, spread: float = 0.0) -> Arm:
    """The arm with other answers at its end, of questions of one difficulty; `spread` is that of its seeds."""
    for run in made.runs:
        right = generator.random(PROBLEMS) < accuracy + spread * generator.standard_normal()
        run.final.table["maj@1"] = right.astype(float)
    return made


def test_expert_iteration_is_best() -> None:
    assert verdicts(arm("ei", 0.90), arm("ppo", 0.80))[1] == HOLDS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.90))[1] == FAILS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.60), arm("grpo", 0.90))[1] == FAILS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.77))[1] == HOLDS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.8001))[1] == UNKNOWN


@pytest.mark.parametrize(("lost", "verdict"), [(0, HOLDS), (1, HOLDS), (2, HOLDS), (3, FAILS), (6, FAILS)])
def test_most_settings_are_more_than_half_of_them(lost: int, verdict: str) -> None:
    arms = [arm("ei", 0.8, reward=reward, init=init) for reward, init in SETTINGS]
    arms += [
        arm("ppo", 0.9 if number < lost else 0.7, reward=reward, init=init)
        for number, (reward, init) in enumerate(SETTINGS)
    ]
    found = findings(Comparison("made", K, {}, tuple(arms)))[0]
    assert found.verdict == verdict
    assert f"highest maj@1 in {6 - lost} of 6 settings" in found.evidence


def test_all_algorithms_are_comparable() -> None:
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.79), arm("grpo", 0.81))[9] == HOLDS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.60))[9] == FAILS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.79), arm("grpo", 0.95))[9] == FAILS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.755))[9] == UNKNOWN


def test_expert_iteration_below_all_others_is_never_called_best_nor_equal_arms_told_apart() -> None:
    """By 1.6 points below three others; and not "comparable" where it lies just beyond the margin."""
    generator = np.random.default_rng(4)
    best = comparable = 0
    for _ in range(20):
        others = [right_at_random(arm(algo, 0.8), 0.816, generator, 0.01) for algo in ("ppo", "grpo", "rcrl")]
        best += verdicts(right_at_random(arm("ei", 0.8), 0.8, generator, 0.01), *others)[1] == HOLDS
        beyond = right_at_random(arm("ppo", 0.8), 0.851, generator), right_at_random(arm("ei", 0.8), 0.8, generator)
        comparable += verdicts(*beyond)[9] == HOLDS
    assert best == 0
    assert comparable <= 3  # 0.05 of 20: more has a probability of 0.02


def test_other_rewards_and_starts_are_not_mixed() -> None:
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.90, reward="dense"), arm("ppo", 0.90, init="sft"))[1] == UNKNOWN


def test_a_gain_over_sft() -> None:
    assert verdicts(arm("ei", 0.8, init="sft", start=0.7))[2] == HOLDS
    assert verdicts(arm("ei", 0.6, init="sft", start=0.7))[2] == FAILS
    assert verdicts(arm("ei", 0.701, init="sft", start=0.7))[2] == UNKNOWN
    unchanged = arm("ei", 0.7, init="sft", reward="dense")
    for run in unchanged.runs:  # selected its start
        run.evaluations[0].table["maj@1"] = run.final.table["maj@1"]
    assert verdicts(unchanged)[2] == UNKNOWN  # no question of these few tells the two apart, which another one may
    assert verdicts(unchanged, arm("ei", 0.701, init="sft", start=0.7))[2] == UNKNOWN


FINE = [0, 1000, 1700, 2000, 3000]
COURSE = [0.3, 0.5, 0.79]


def test_samples_to_converge() -> None:
    ours = arm("ei", 0.8, course=COURSE, places=FINE)
    assert verdicts(ours, arm("ppo", 0.8, course=COURSE, places=FINE))[3] == HOLDS
    assert verdicts(ours, arm("ppo", 0.8, course=COURSE, places=FINE, slow=5))[3] == FAILS
    late = [arm(algo, 0.8, course=COURSE, places=FINE, slow=10**4) for algo in ("ei", "ppo")]
    assert verdicts(*late)[3] == FAILS


@pytest.mark.parametrize(
    ("ours", "others", "words"),
    [
        ({"course": [0.79, 0.79, 0.79]}, {}, "evaluations no more than a factor of 2 apart"),  # "at most 1,000"
        ({"places": [0, 10, 900, 2000, 3000]}, {}, "evaluations no more than a factor of 2 apart"),
        ({"final": 0.7, "course": [0.3, 0.5, 0.7]}, {}, "a target that every seed reaches"),
        ({"seeds": 2}, {"seeds": 2}, "3 seeds or more"),
        ({"seeds": 1}, {"seeds": 1, "places": FINE, "slow": 9}, "3 seeds or more"),
    ],
)
def test_samples_to_converge_are_not_told_apart_by_where_evaluations_are(ours, others, words) -> None:
    usual = {"final": 0.8, "course": COURSE, "places": FINE}
    made = arm("ei", **{**usual, **ours}), arm("ppo", **{**usual, **others})
    found = findings(Comparison("made", K, {}, made))[2]
    assert found.verdict == UNKNOWN
    assert words in found.evidence


@pytest.mark.parametrize(("ratio", "wrong_verdict"), [(2.0, HOLDS), (2.0, FAILS), (0.5, HOLDS), (0.5, FAILS)])
def test_numbers_of_samples_at_the_boundary_get_a_wrong_verdict_seldom(ratio: float, wrong_verdict: str) -> None:
    """True numbers that differ by the factor itself, seeds that vary by a fifth, evaluations a fourth apart."""
    generator = np.random.default_rng(6)
    grid = np.round(1000 * 1.25 ** np.arange(14)).tolist()
    wrong = 0
    for _ in range(40):
        made = []
        for algo, centre in (("ei", 4000.0), ("ppo", 4000.0 * ratio)):
            one = arm(algo, 0.8)
            for run in one.runs:
                reached = centre * math.exp(0.2 * generator.standard_normal())
                course = [
                    Evaluation(
                        checkpoint_of_round(number),
                        True,
                        int(seen),
                        run.final.table if seen >= reached else run.evaluations[0].table,
                    )
                    for number, seen in enumerate([0, *grid])
                ]
                run.__dict__["evaluations"] = (*course, Evaluation("final", False, int(grid[-1]), run.final.table))
            made.append(one)
        wrong += verdicts(*made)[3] == wrong_verdict
    assert wrong <= 6  # 0.05 of 40: more has a probability of 0.01


def test_reinforcement_learning_widens_where_long_sft_narrows() -> None:
    sft = arm("sft", 0.8, course=[0.7], passes=[0.5, 0.95, 0.85])
    assert verdicts(arm("ei", 0.8), sft)[4] == HOLDS
    assert verdicts(arm("ei", 0.8), arm("sft", 0.8, course=[0.7], passes=[0.5, 0.8, 0.95]))[4] == FAILS
    assert verdicts(arm("ei", 0.8))[4] == UNKNOWN


def test_rewards_beyond_the_sparse_one() -> None:
    assert verdicts(arm("ei", 0.8), arm("ei", 0.8, reward="dense"))[5] == HOLDS
    assert verdicts(arm("ei", 0.8), arm("ei", 0.9, reward="dense"))[5] == FAILS


def test_the_gap_between_starts() -> None:
    assert verdicts(arm("ei", 0.80), arm("ei", 0.85, init="sft"))[6] == HOLDS
    assert verdicts(arm("ei", 0.60), arm("ei", 0.85, init="sft"))[6] == FAILS
    # The best of either start decides, whichever it is.
    assert verdicts(arm("ei", 0.60), arm("ppo", 0.80), arm("ei", 0.85, init="sft"))[6] == HOLDS
    assert verdicts(arm("ei", 0.60), arm("ei", 0.62, init="sft"), arm("ppo", 0.85, init="sft"))[6] == FAILS


@pytest.mark.parametrize(("gap", "wrong_verdict"), [(0.0999, FAILS), (0.1001, HOLDS)])
def test_the_gap_between_starts_allows_for_the_best_having_been_picked(gap: float, wrong_verdict: str) -> None:
    """Three equal arms of either start, at the boundary; the best of three comes out too high by chance."""
    generator = np.random.default_rng(9)
    wrong = 0
    for _ in range(15):
        arms = [
            right_at_random(arm(algo, 0.8, init=init), 0.8 + gap * (init == "sft"), generator, 0.01)
            for algo in ("ei", "ppo", "grpo")
            for init in ("scratch", "sft")
        ]
        wrong += verdicts(*arms)[6] == wrong_verdict
    assert wrong <= 3  # 0.05 of 15: more has a probability below 0.01


def test_diversity_of_a_larger_model() -> None:
    assert verdicts(arm("ei", 0.8), arm("ei", 0.8, model="small", distinct=3.0))[7] == HOLDS
    assert verdicts(arm("ei", 0.8), arm("ei", 0.8, model="small", distinct=1.5))[7] == FAILS
    assert verdicts(arm("ei", 0.8))[7] == UNKNOWN


def test_solutions_that_sft_knew() -> None:
    """Its own further samples know 0.6 of each other, which is all that a policy that never moved can reach."""
    assert verdicts(arm("ei", 0.8, init="sft", known=0.9))[8] == HOLDS
    assert verdicts(arm("ei", 0.8, init="sft", known=0.6))[8] == HOLDS
    assert verdicts(arm("ei", 0.8, init="sft", known=0.4))[8] == FAILS
    assert verdicts(arm("ei", 0.8, init="sft", known=0.5))[8] == UNKNOWN


def test_runs_that_did_not_measure_right_solutions_are_not_judged_by_all_of_them() -> None:
    old = [arm("ei", 0.8, init="sft"), arm("ei", 0.8, init="sft", model="small")]
    for run in (run for one in old for run in one.runs):
        for name in (KNOWN, KNOWN_NULL, "distinct_right"):
            del run.final.table[name]
        run.final.table["known_at_start"] = 0.2
        run.final.table["distinct_solutions"] = 9.0
    found = verdicts(*old)
    assert found[7] == found[8] == UNKNOWN


@pytest.mark.parametrize(("types", "power", "k"), [(50, 1.5, 16), (500, 1.0, 96)])
@pytest.mark.parametrize("of_seeds", [0.0, 0.1])
def test_an_unchanged_policy_is_never_said_to_have_left_its_start(types, power, k, of_seeds) -> None:
    """Solutions after Zipf, at any spread of the seeds' accuracy."""
    generator = np.random.default_rng(types)
    chance = 1 / np.arange(1, types + 1) ** power
    for _ in range(5):
        made = arm("ppo", 0.8, init="sft")
        for run in made.runs:
            accuracy = 0.7 + of_seeds * generator.uniform(-1, 1)
            ways = generator.choice(types, (PROBLEMS, 2, k), p=chance / chance.sum()).astype(str).astype(object)
            ways[generator.random(ways.shape) > accuracy] = None
            shares = np.array([known_and_null(policy, start) for start, policy in ways.tolist()])
            run.final.table[KNOWN], run.final.table[KNOWN_NULL] = shares.T
        assert verdicts(made)[8] == HOLDS


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_give_no_verdict(seeds: int) -> None:
    arms = [
        arm("ei", 0.9, init="sft", start=0.5, known=0.1, seeds=seeds, course=COURSE, places=FINE),
        arm("ei", 0.2, start=0.5, known=0.1, seeds=seeds, course=COURSE, places=FINE),
        arm("ei", 0.9, model="small", distinct=9, seeds=seeds),
        arm("ei", 0.9, reward="dense", seeds=seeds),
        arm("ppo", 0.9, seeds=seeds, course=COURSE, places=FINE, slow=9),
        arm("sft", 0.9, seeds=seeds, course=COURSE, places=FINE),
    ]
    found = findings(Comparison("made", K, {}, tuple(arms)))
    assert {item.verdict for item in found} == {UNKNOWN}
    assert all("3 seeds" in item.evidence for item in found)


def test_what_is_not_enough_says_what_would_be() -> None:
    generator = np.random.default_rng(3)
    arms = [right_at_random(arm(algo, 0.8), 0.8, generator, 0.02) for algo in ("ei", "ppo")]
    found = findings(Comparison("made", K, {}, tuple(arms)))
    for number in (1, 9):
        item = found[number - 1]
        assert item.verdict == UNKNOWN
        assert "This study sees differences of 0." in item.evidence
        assert "seeds" in item.evidence.partition("Needed for")[2]


def test_many_settings_make_no_chance_finding() -> None:
    """Of equal arms, over many settings, a verdict comes up no more often than one time in twenty."""
    generator = np.random.default_rng(1)
    wrong = 0
    for _ in range(20):
        arms = []
        for reward in ("sparse", "dense", "orm"):
            for algo in ("ei", "ppo"):
                made = arm(algo, 0.8, reward=reward)
                for run in made.runs:
                    run.final.table["maj@1"] = (generator.random(PROBLEMS) < 0.8).astype(float)
                arms.append(made)
        found = verdicts(*arms)
        wrong += found[1] != UNKNOWN or found[5] == FAILS or found[9] == FAILS
    assert wrong <= 6  # 0.05 each for three findings, 20 tries: more than 6 has a probability below 0.03


@pytest.mark.parametrize("number", range(1, 10))
def test_every_finding_says_its_numbers(number: int) -> None:
    arms = [
        arm("ei", 0.8, init=init, model=model, course=[0.5])
        for init in ("scratch", "sft")
        for model in ("tiny", "small")
    ]
    arms += [arm("ppo", 0.8, course=[0.5]), arm("ei", 0.8, reward="dense"), arm("sft", 0.8, course=[0.5])]
    found = findings(Comparison("made", K, {}, tuple(arms)))[number - 1]
    assert found.number == number
    assert found.certainty in ("known", "likely")
    assert any(letter.isdigit() for letter in found.evidence)

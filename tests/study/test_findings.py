"""The paper's findings on runs whose truth is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

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
    for seed in range(SEEDS):
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
                "distinct_solutions": more.get("distinct", 2.0) + 0.1 * generator.standard_normal(PROBLEMS),
                "known_at_start": more.get("known", 0.6) + 0.1 * generator.standard_normal(PROBLEMS),
            }
            samples = 10_000 * number * more.get("slow", 1)
            index = pd.Index([f"q{problem}" for problem in range(PROBLEMS)])
            evaluations.append(Evaluation(checkpoint_of_round(number), True, samples, pd.DataFrame(table, index=index)))
        last = evaluations[-1]
        evaluations.append(Evaluation("final", False, last.samples_seen, last.table))
        config = {"seed": seed, "model": {"name": model, "parameters": 1e6 if model == "tiny" else 1e7}}
        runs.append(StudyRun(Path(f"{algo}-{seed}"), {"config": config}, tuple(evaluations)))
    return Arm(algo, reward, init, model, "", tuple(runs))


def verdicts(*arms: Arm) -> dict[int, str]:
    return {item.number: item.verdict for item in findings(Comparison("made", K, {}, arms))}


def test_nothing_is_claimed_without_runs() -> None:
    assert set(verdicts(arm("sft", 0.5)).values()) == {UNKNOWN}


def test_expert_iteration_is_best_and_comparable() -> None:
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.79))[1] == HOLDS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.90))[1] == FAILS
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.60))[1] == FAILS  # best, but not comparable
    assert verdicts(arm("ei", 0.80), arm("ppo", 0.75))[1] == UNKNOWN


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


def test_samples_to_converge() -> None:
    assert verdicts(arm("ei", 0.8, course=[0.7]), arm("ppo", 0.8, course=[0.7]))[3] == HOLDS
    assert verdicts(arm("ei", 0.8, course=[0.7]), arm("ppo", 0.8, course=[0.7], slow=5))[3] == FAILS


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


def test_diversity_of_a_larger_model() -> None:
    assert verdicts(arm("ei", 0.8), arm("ei", 0.8, model="small", distinct=3.0))[7] == HOLDS
    assert verdicts(arm("ei", 0.8), arm("ei", 0.8, model="small", distinct=1.5))[7] == FAILS
    assert verdicts(arm("ei", 0.8))[7] == UNKNOWN


def test_solutions_that_sft_knew() -> None:
    assert verdicts(arm("ei", 0.8, init="sft", known=0.9))[8] == HOLDS
    assert verdicts(arm("ei", 0.8, init="sft", known=0.4))[8] == FAILS


def test_many_settings_make_no_chance_finding() -> None:
    """Of equal arms, over many settings, "does not hold" comes up no more often than one time in twenty."""
    generator = np.random.default_rng(1)
    wrong = 0
    for _ in range(60):
        arms = []
        for reward in ("sparse", "dense", "orm"):
            for algo in ("ei", "ppo"):
                made = arm(algo, 0.8, reward=reward)
                for run in made.runs:
                    run.final.table["maj@1"] = (generator.random(PROBLEMS) < 0.8).astype(float)
                arms.append(made)
        found = verdicts(*arms)
        wrong += found[1] == FAILS or found[5] == FAILS
    assert wrong <= 8  # 0.05 each for two findings, 60 tries: more than 8 has a probability below 0.01


@pytest.mark.parametrize("number", range(1, 9))
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

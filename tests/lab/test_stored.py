"""The policy of another run of a study, from which solutions are collected."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from study.made import make_run, plain_config

from rlreason.errors import UserError
from rlreason.lab.stored import policy_of_study


def context(study: Path, *choices: str, seed: int = 0) -> Any:
    config = plain_config("algo=rcrl", *choices, "eval.k=4", "eval.k_between=4")
    return SimpleNamespace(run=SimpleNamespace(folder=study / "own", config={**config, "seed": seed}))


def test_the_policy_is_that_of_the_run_of_the_same_seed_start_and_model(tmp_path: Path) -> None:
    for seed in (0, 1):
        for init in ("scratch", "sft"):
            make_run(tmp_path, "ei", init=init, seed=seed, accuracies=(0.2, 0.4), ood=False)
    make_run(tmp_path, "ei", "dense", accuracies=(0.2, 0.4), ood=False)
    make_run(tmp_path, "ppo", accuracies=(0.2, 0.4), ood=False)
    found = policy_of_study(context(tmp_path, "init=sft", seed=1), "ei")
    assert found == (tmp_path / "ei-tiny-sft-sparse-seed1/checkpoints/round-1", 60)


def test_without_a_finished_one_or_with_several_it_is_one_line(tmp_path: Path) -> None:
    make_run(tmp_path, "ei", finished=False)
    with pytest.raises(UserError, match="none has finished; run it first"):
        policy_of_study(context(tmp_path), "ei")
    for settings in ((), ("algo.epochs=9",)):
        make_run(tmp_path, "ei", accuracies=(0.2, 0.4), ood=False, settings=settings, name=f"ei{len(settings)}")
    with pytest.raises(UserError, match="ei0, ei1"):
        policy_of_study(context(tmp_path), "ei")

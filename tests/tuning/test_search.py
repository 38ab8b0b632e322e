"""Equal tuning: as many independent trials for every algorithm; a score that chance has raised is not the last word."""

import itertools
import json
import random
from dataclasses import replace
from statistics import mean

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from tests_support import composed

from rlreason.algorithms.registry import ALGORITHMS
from rlreason.algorithms.space import Among, Around, Between
from rlreason.arguments import as_typed
from rlreason.errors import UserError
from rlreason.tuning.report import report, settings_file, trials_table
from rlreason.tuning.search import (
    TUNED,
    UNTUNED,
    Score,
    Search,
    drawn,
    expected_best,
    space_of,
    tune,
)
from rlreason.tuning.sweep import read, run_search

TUNABLE = [name for name, row in ALGORITHMS.items() if row.space]
SEARCH = Search(trials=4, seeds=(1000,), fresh_seeds=(1001, 1002))


def parsed(*overrides):
    return OverridesParser.create().parse_overrides(list(overrides))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_the_expected_best_is_the_mean_of_the_best_of_all_draws(scores):
    by_hand = [
        mean(max(draw) for draw in itertools.product(scores, repeat=tried)) for tried in range(1, len(scores) + 1)
    ]
    assert expected_best(scores) == pytest.approx(by_hand)


def test_every_rl_algorithm_and_sft_can_be_tuned():
    assert {*TUNABLE} == {"ei", "ppo", "rcrl", "grpo", "sft"}


@pytest.mark.parametrize("algorithm", TUNABLE)
def test_a_declared_space_holds_settings_that_the_algorithm_accepts(algorithm):
    extra = ["algo.labels=outcome"] if algorithm == "rcrl" else []
    shared = [f"algo={algorithm}", "experiment=tune", *extra]
    configured = vars(composed(*shared).algo)
    trials = drawn(algorithm, space_of(algorithm, {}), configured, 3)
    for trial in trials:
        settings = vars(composed(*shared, *trial.overrides).algo)
        assert {key: settings[key] for key in trial.settings} == trial.settings


def test_more_trials_begin_with_the_earlier_ones_and_stay_within_their_axes():
    space = {"rate": Around(0.5, 2.0), "epochs": Between(1, 4), "share": Between(0.1, 0.2), "kind": Among(("a", "b"))}
    few, many = (drawn("ei", space, {"rate": 0.01}, count) for count in (5, 40))
    assert many[:5] == few
    for trial in many:
        assert 0.005 <= trial.settings["rate"] <= 0.02
        assert trial.settings["epochs"] in (1, 2, 3, 4)
        assert 0.1 <= trial.settings["share"] <= 0.2
    assert {trial.settings["kind"] for trial in many} == {"a", "b"}
    assert len({trial.settings["rate"] for trial in many}) > 30


def scored(accuracy, broken=()):
    """What does runs, of an accuracy by algorithm, trial number and seed, and which it remembers in `done`."""

    def run(runs):
        run.done += runs
        return {
            item.name: None
            if (item.trial.algorithm, item.trial.number) in broken
            else Score(accuracy(item.trial.algorithm, item.trial.number, item.seed), 100)
            for item in runs
        }

    run.done = []
    return run


CONFIGURED = {"ei": {"learning_rate": 1e-3}, "ppo": {"learning_rate": 1e-4, "critic_learning_rate": 1e-3}}


def searched(run, search=SEARCH, algorithms=("ei", "ppo")):
    spaces = {name: space_of(name, {}) for name in algorithms}
    return tune(search, spaces, CONFIGURED, run)


def test_every_algorithm_has_as_many_trials_and_one_winner_that_runs_again_on_other_seeds():
    run = scored(lambda algorithm, number, seed: 0.5 + number / 100 * (1 if algorithm == "ei" else -1))
    found = searched(run)
    assert (found["ei"].winner.number, found["ppo"].winner.number) == (4, 1)
    for name, tuned in found.items():
        own = [item for item in run.done if item.trial.algorithm == name]
        assert [item.seed for item in own[:4]] == [1000] * 4
        assert {(item.trial.number, item.seed) for item in own[4:]} == {
            (number, seed) for number in (tuned.winner.number, 0) for seed in (1001, 1002)
        }
        assert set(tuned.fresh) == {TUNED, UNTUNED}


def test_the_trials_take_turns_so_that_a_search_that_is_stopped_has_as_many_of_each():
    run = scored(lambda *_: 0.5)
    searched(run)
    assert [item.trial.algorithm for item in run.done[:8]] == ["ei", "ppo"] * 4


def test_a_trial_that_broke_down_does_not_win_and_counts_as_tried():
    found = searched(scored(lambda _, number, __: 0.1 * number, broken={("ei", 4), ("ppo", 1)}))
    assert (found["ei"].winner.number, found["ei"].failed) == (3, [4])
    assert (found["ppo"].winner.number, found["ppo"].failed) == (4, [1])
    assert len(found["ei"].scores) == 4


def test_an_algorithm_of_which_nothing_worked_is_named():
    with pytest.raises(UserError, match="all 4 trials of algo=ppo broke down"):
        searched(scored(lambda *_: 0.5, broken={("ppo", number) for number in range(1, 5)}))


def test_where_settings_make_no_difference_the_best_trial_looks_better_and_the_fresh_score_does_not():
    """The null of a search: equal settings, scores that spread by 0.03 alone."""
    rng = random.Random(0)
    run = scored(lambda *_: rng.gauss(0.6, 0.03))
    found = [searched(run, replace(SEARCH, trials=16), ("ei",))["ei"] for _ in range(60)]
    assert mean(max(tuned.scores) for tuned in found) > 0.64
    assert mean(mean(tuned.fresh[TUNED]) for tuned in found) == pytest.approx(0.6, abs=0.01)
    assert mean(mean(tuned.fresh[UNTUNED]) for tuned in found) == pytest.approx(0.6, abs=0.01)


def test_the_chosen_settings_are_used_by_name_and_give_way_to_the_command_line(tmp_path):
    from hydra import compose, initialize_config_dir
    from tests_support import CONF

    from rlreason.config.compose import from_composed

    tuned = searched(scored(lambda *_: 0.5))["ei"]
    folder = tmp_path / "tuned" / "mine"
    folder.mkdir(parents=True)
    (folder / "ei.yaml").write_text(settings_file("mine", SEARCH, tuned))

    def with_folder(*overrides):
        read = as_typed(overrides, [CONF, tmp_path]).arguments
        with initialize_config_dir(str(CONF), version_base="1.3"):
            path = f"hydra.searchpath=[file://{tmp_path}]"
            return from_composed(compose("config", overrides=[path, *read]))

    used = with_folder("tuned=mine", "algo.epochs=7")
    assert used.tuned == "mine"
    assert used.tuned_on == [1000]
    expected = {**tuned.winner.settings, "epochs": 7}
    assert {key: getattr(used.algo, key) for key in expected} == expected
    assert with_folder("tuned=mine", "algo=ppo").tuned is None  # not searched
    with pytest.raises(UserError, match="tuned=other: no such settings; choose from: none, mine"):
        with_folder("tuned=other")
    for none in ("none", "null"):
        assert with_folder(f"tuned={none}").tuned is None
    with pytest.raises(UserError, match="seed=1000 is one of those that chose the settings tuned=mine"):
        with_folder("tuned=mine", "seed=1000")


def test_the_report_shows_both_scores_of_every_algorithm_and_what_was_chosen():
    spaces = {name: space_of(name, {}) for name in ("ei", "ppo")}
    found = searched(scored(lambda _, number, seed: 0.9 if number == 2 and seed == 1000 else 0.5))
    text = report("mine", SEARCH, spaces, found, "rlreason -m experiment=tune")
    assert "| EI | 4 | 100 | 0.900 | 0.500 (0.500, 0.500) | 0.500 (0.500, 0.500) |" in text
    for tuned in found.values():
        for key, value in tuned.winner.settings.items():
            assert any(line.startswith(f"| {key} |") and line.endswith(f"| {value} |") for line in text.splitlines())
    assert len(trials_table(found).splitlines()) == 1 + 8


def searching(tmp_path, *overrides, refused=()):
    """Run a search whose jobs end at once, each with the accuracy that its seed and learning rate make."""
    from types import SimpleNamespace

    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from tests_support import CONF

    from rlreason.jobs import Outcome

    ran = []

    def launch(jobs):
        for job in jobs:
            values = dict(item.split("=", 1) for item in job)
            folder = tmp_path / values["study"] / values["name"]
            folder.mkdir(parents=True, exist_ok=True)
            ran.append(values["name"])
            accuracy = 0.5 + int(values["seed"]) / 1e4 + float(values.get("algo.epochs", 0)) / 100
            result = {
                "evaluations": [{"metrics": {"maj@1": {"value": accuracy}}}],
                "training_rollouts": 96,
                "outcome_model_rollouts": 0,
                "seconds": {"total": 1.0},
            }
            if values["name"] not in refused:
                (folder / "result.json").write_text(json.dumps(result))
        ended = [Outcome(item, "Diverged: no end" if item in refused else None) for item in ran[-len(jobs) :]]
        return [SimpleNamespace(return_value=outcome) for outcome in ended]

    with initialize_config_dir(str(CONF), version_base="1.3"):

        def made(combination):
            found = compose("config", overrides=list(combination), return_hydra_config=True)
            OmegaConf.set_readonly(found.hydra, False)
            return found

        shared = ["experiment=tune", "study=mine", f"runs_dir={tmp_path}", "budget=96", "data.train_size=24"]
        search = Search(trials=2, seeds=(1000,), fresh_seeds=(1001,))
        run_search(search, parsed(*shared, *overrides), {}, made, launch)
    return ran


def test_a_search_leaves_its_trials_its_report_and_settings_by_name(tmp_path, capsys):
    ran = searching(tmp_path, "algo=ei,sft", "algo.epochs=choice(1,2)", "algo.rounds=2,4")
    assert ran == [
        *(f"{name}-trial{number:02d}-seed1000" for number in (1, 2) for name in ("ei", "sft")),
        *(f"{name}-{label}-seed1001" for name in ("ei", "sft") for label in (TUNED, UNTUNED)),
    ]
    folder = tmp_path / "mine"
    assert {path.name for path in folder.iterdir() if path.is_file()} >= {
        "tuning.md",
        "trials.csv",
        "expected-best.svg",
    }
    settings = yaml.safe_load((folder / "conf" / "tuned" / "mine" / "ei.yaml").read_text())
    assert (settings["tuned"], settings["tuned_on"]) == ("mine", [1000])
    assert settings["algo"]["epochs"] in (1, 2)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"rlreason -m --config-dir {folder / 'conf'} tuned=mine" in shown


def test_a_trial_that_broke_down_is_named_and_the_others_count(tmp_path, capsys):
    searching(tmp_path, "algo=sft", refused={"sft-trial01-seed1000"})
    assert "sft-trial01-seed1000 broke down: Diverged: no end" in capsys.readouterr().err
    assert "| SFT | 2, 1 broke down | 96 |" in (tmp_path / "mine" / "tuning.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo=ei", "eval.split=test"], "settings are chosen on validation questions alone"),
        (["algo=ei", "budget=60"], "algo=ei: budget=60 cannot be met"),
        (["algo=ei", "study=null"], "a search needs study=NAME"),
        (["algo=sft", "algo.samples=2,4"], "algo.samples: no algorithm of this search has that setting"),
        (["algo=ei", "algo.epochs=choice(-1,-2)"], "epochs=-1"),
        (["algo=orm"], "algo=orm declares no search space"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        searching(tmp_path, *overrides)
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo=ei,ppo", "seed=0,1"], "seed is given by hydra.sweeper.seeds"),
        (["algo=ei", "seed=3"], "leave seed=3 out"),
        (["algo=ei", "reward=sparse,dense"], "a search sweeps over algo and algo.SETTING alone"),
        (["algo=ei", "name=mine"], "name is given by its trials"),
        (["reward=dense"], "needs the algorithms"),
        (["algo=ei", "algo.epochs=choice(2)"], "at least two values"),
    ],
)
def test_what_a_search_decides_itself_cannot_be_asked_for(overrides, message):
    with pytest.raises(UserError, match=message):
        read(parsed(*overrides))


def test_a_sweep_over_a_setting_is_an_axis():
    algorithms, axes, fixed = read(
        parsed("algo=ei,ppo", "reward=dense", "algo.epochs=1,2", "algo.learning_rate=tag(log,interval(1e-5,1e-3))")
    )
    assert algorithms == ["ei", "ppo"]
    assert axes == {"epochs": Among((1, 2)), "learning_rate": Between(1e-5, 1e-3, log=True)}
    assert "reward=dense" in fixed
    assert space_of("ei", axes)["epochs"] == Among((1, 2))


def test_a_space_with_an_unknown_setting_is_refused(monkeypatch):
    wrong = replace(ALGORITHMS["ei"], space={"epoch": Among((1, 2))})
    monkeypatch.setitem(ALGORITHMS.rows, "ei", wrong)
    with pytest.raises(UserError, match="names epoch, which is no setting"):
        space_of("ei", {})
    with pytest.raises(UserError, match="algo=orm declares no search space"):
        space_of("orm", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials=0 must be at least 1"),
        ({"fresh_seeds": (1000, 5)}, "both have 1000"),
        ({"seeds": ()}, "leaves no trial"),
        ({"fresh_seeds": ()}, "leaves no fair score"),
    ],
)
def test_a_search_that_cannot_be_fair_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(SEARCH, **change)


@pytest.mark.parametrize("make", [lambda: Around(2, 1), lambda: Between(0.0, 1.0, log=True), lambda: Between(2, 1)])
def test_an_axis_without_extent_is_refused(make):
    with pytest.raises(UserError):
        make()

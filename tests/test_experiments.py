"""The shipped sweeps: every job composes, budgets are equal, launchers and the W&B sweep file are right."""

import itertools
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from tests_support import composed

from rlreason.algorithms.budget import ENOUGH
from rlreason.algorithms.registry import ALGORITHMS
from rlreason.config.budget import outcome_model_rollouts
from rlreason.config.compose import register_resolvers
from rlreason.config.updates import CANDIDATES
from rlreason.data.base import training_questions
from rlreason.data.registry import DATASETS
from rlreason.jobs import run_folder
from rlreason.sweep import skipped, with_settings

CONF = Path(__file__).parent.parent / "conf"
SWEEPS = {"paper-tiny": 126, "paper": 168, "study-small": 26}
BUDGETS = {
    ("paper-tiny", "wordproblems"): 36_000,
    ("study-small", "wordproblems"): 12_000,
    ("paper", "gsm8k"): 1_024_000,
    ("paper", "svamp"): 288_000,
}
MEANS = {"paper-tiny": (0, 1.0), "study-small": (0, 1.0), "paper": (16, 0.7)}  # rank of adapters, temperature


def sweeper(experiment):
    """What an experiment says of its sweep: `params`, and perhaps `settings`."""
    return yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())["hydra"]["sweeper"]


def grid(experiment):
    """The choices of every combination of an experiment that is not skipped."""
    params = sweeper(experiment)["params"]
    for combination in itertools.product(*(str(values).split(",") for values in params.values())):
        chosen = dict(zip(params, combination, strict=True))
        sections = {group: {"name": name} for group, name in {"data": "wordproblems", **chosen}.items()}
        if skipped(sections) is None:
            yield chosen


def kinds(experiment):
    """The choices of its jobs that decide more than size and chance, each once."""
    found = ({key: value for key, value in job.items() if key not in ("seed", "model")} for job in grid(experiment))
    return list({tuple(kind.items()): kind for kind in found}.values())


def overrides(experiment, kind):
    """Those of a job of a study, what the study sets beside its choices included."""
    return with_settings([f"{key}={value}" for key, value in kind.items()], sweeper(experiment)["settings"])


def label(value):
    return value if isinstance(value, str) else "-".join(value.values())


@pytest.mark.parametrize("experiment", SWEEPS)
def test_a_sweep_has_as_many_jobs_as_it_says(experiment):
    assert len(list(grid(experiment))) == SWEEPS[experiment]


@pytest.mark.parametrize(
    ("experiment", "kind"), [(experiment, kind) for experiment in SWEEPS for kind in kinds(experiment)], ids=label
)
def test_every_kind_of_job_of_a_study_composes_and_uses_its_budget(experiment, kind):
    config = composed(f"experiment={experiment}", *overrides(experiment, kind))
    assert config.study == experiment
    assert config.eval.orm == "train"
    assert config.budget == BUDGETS[experiment, config.data.name]
    questions = training_questions(config.data, DATASETS[config.data.name])
    algorithm = ALGORITHMS[config.algo.name]
    drawn = algorithm.rollouts(config.algo, questions)
    if algorithm.learns_from_rewards:
        drawn += outcome_model_rollouts(config, questions)
        assert ENOUGH * config.budget <= drawn <= config.budget
        assert (config.model.lora_rank, config.algo.temperature) == MEANS[experiment], "equal over algorithms"
        assert getattr(config.algo, "patience", None) is None, "nobody stops early"
        assert getattr(config.algo, "evaluations", len(CANDIDATES)) == len(CANDIDATES), "candidates on one grid"
    else:
        assert drawn == 0


@pytest.mark.parametrize("experiment", SWEEPS)
def test_what_a_study_sets_belongs_to_choices_that_there_are(experiment):
    for choice in sweeper(experiment)["settings"]:
        group, _, name = choice.partition("=")
        assert (CONF / group / f"{name}.yaml").exists()


def test_what_a_study_sets_is_applied_to_its_choice_only():
    fine_tuned = composed("experiment=paper-tiny", *overrides("paper-tiny", {"algo": "sft"}))
    assert fine_tuned.algo.epochs == 4
    improved = composed("experiment=paper-tiny", *overrides("paper-tiny", {"algo": "ei"}))
    assert (improved.algo.epochs, improved.algo.deduplicate) == (2, "none")


def test_the_name_of_a_run_leaves_out_what_its_study_sets():
    job = ["experiment=study-small", *overrides("study-small", {"algo": "sft", "seed": "1"})]
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = compose("config", overrides=[*job, "algo.batch_size=128"], return_hydra_config=True)
    assert "algo.epochs=4" in job
    assert (
        str(run_folder(found, found.hydra))
        == "runs/study-small/sft-tiny-wordproblems-scratch-sparse-algo.batch_size=128-seed1"
    )


def test_a_value_on_the_command_line_wins_over_what_the_study_sets():
    job = with_settings(["algo=sft", "algo.epochs=9"], sweeper("paper-tiny")["settings"])
    assert composed("experiment=paper-tiny", *job).algo.epochs == 9


def test_rounds_on_the_command_line_are_kept_within_the_budget():
    config = composed("experiment=paper-tiny", "algo=ei", "algo.rounds=1")
    assert (config.algo.rounds, config.algo.samples) == (1, 24)


@pytest.mark.parametrize(
    ("launcher", "target"),
    [
        ("joblib", "JoblibLauncher"),
        ("slurm", "SlurmLauncher"),
        ("slurm_gpu80x8", "SlurmLauncher"),
        ("ray_cluster", "RayLauncher"),
    ],
)
def test_every_launcher_composes_where_it_is_installed(launcher, target):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose("config", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
        except MissingConfigException as error:
            assert launcher != "joblib"  # which is always installed
            pytest.skip(str(error).splitlines()[0])
    assert config.hydra.launcher._target_.endswith(target)


def test_a_launcher_that_is_not_installed_is_one_line():
    from rlreason.help import suggest

    error = MissingConfigException("In 'hydra/launcher/slurm': Could not find 'hydra/launcher/submitit_slurm'\n\nmore")
    assert suggest(error, [CONF]) == (
        "hydra/launcher=submitit_slurm is not installed; pip install 'rlreason[submitit]'"
    )


def test_the_wandb_sweep_starts_commands_that_compose():
    sweep = yaml.safe_load((CONF / "wandb-sweep.yaml").read_text())
    assert sweep["program"] == "rlreason"
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    parameters = {name: {"value": choice["values"][0]} for name, choice in sweep["parameters"].items()}
    flags = create_sweep_command_args({"args": parameters})["args_no_hyphens"]
    macros = {"${env}": ["/usr/bin/env"], "${program}": ["rlreason"], "${args_no_hyphens}": flags}
    command = [part for item in create_sweep_command(sweep["command"]) for part in macros.get(item, [item])]
    assert command[:2] == ["/usr/bin/env", "rlreason"]
    config = composed(*command[2:])
    assert shlex.join(command[2:4]) == "study=wandb-sweep tracker=wandb"
    assert (config.study, config.algo.name, config.seed) == ("wandb-sweep", "ei", 0)
    for name, choice in sweep["parameters"].items():
        for value in choice["values"]:
            composed(f"{name}={value}")

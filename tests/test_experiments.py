"""The shipped sweeps: every job composes, budgets are equal, launchers and the W&B sweep file are right."""

import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from tests_support import composed

from rlreason.sweep import skipped

CONF = Path(__file__).parent.parent / "conf"
SWEEPS = {"paper-tiny": 126, "paper": 168, "study-small": 26}
QUESTIONS = {"wordproblems": 1500, "gsm8k": 6973, "svamp": 600}  # for training


def grid(experiment):
    """The overrides of every combination of an experiment that is not skipped."""
    import itertools

    params = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())["hydra"]["sweeper"]["params"]
    values = [str(value).split(",") for value in params.values()]
    for combination in itertools.product(*values):
        chosen = dict(zip(params, combination, strict=True))
        if skipped({"data": "wordproblems", **chosen}) is None:
            yield chosen


@pytest.mark.parametrize("experiment", SWEEPS)
def test_a_sweep_has_as_many_jobs_as_it_says(experiment):
    assert len(list(grid(experiment))) == SWEEPS[experiment]


def rollouts(config):
    """Training rollouts that a configuration draws at the most."""
    algorithm = config.algo
    questions = QUESTIONS[config.data.name]
    if algorithm.name == "sft":
        return 0
    if algorithm.name in ("ppo", "grpo"):
        return algorithm.batches * algorithm.questions * algorithm.samples
    rounds = algorithm.rounds if algorithm.name == "ei" else 1
    return rounds * min(algorithm.questions or questions, questions) * algorithm.samples


@pytest.mark.parametrize(
    ("experiment", "data", "budget"),
    [
        ("paper-tiny", "wordproblems", 36_000),
        ("study-small", "wordproblems", 12_000),
        ("paper", "gsm8k", 1_024_000),
        ("paper", "svamp", 288_000),
    ],
)
def test_every_algorithm_of_a_study_may_sample_as_much(experiment, data, budget):
    for algorithm in ("ei", "ppo", "grpo", "rcrl"):
        config = composed(f"experiment={experiment}", f"data={data}", f"algo={algorithm}")
        assert config.study == experiment
        assert rollouts(config) == pytest.approx(budget, rel=0.006), algorithm


def test_every_kind_of_job_of_a_study_composes():
    for experiment in SWEEPS:
        kinds = {
            tuple(f"{key}={value}" for key, value in job.items() if key not in ("seed", "model"))
            for job in grid(experiment)
        }
        for kind in kinds:
            config = composed(f"experiment={experiment}", *kind)
            assert config.eval.orm == "train"


def test_a_value_on_the_command_line_wins_over_the_budget():
    assert composed("experiment=paper-tiny", "algo=ei", "algo.rounds=1").algo.rounds == 1


def test_every_budget_belongs_to_an_experiment():
    for path in (CONF / "budget").glob("*.yaml"):
        experiment, data, algorithm = path.stem.rsplit("-", 2)
        assert (CONF / "experiment" / f"{experiment}.yaml").exists()
        assert (CONF / "data" / f"{data}.yaml").exists()
        assert (CONF / "algo" / f"{algorithm}.yaml").exists()


@pytest.mark.parametrize(
    ("launcher", "target"),
    [("joblib", "JoblibLauncher"), ("slurm", "SlurmLauncher"), ("ray_cluster", "RayLauncher")],
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
    assert suggest(error, [CONF]) == ("hydra/launcher=submitit_slurm is not installed; pip install 'rlreason[submitit]'")


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

import pytest
from study.made import make_study, write_evil_rollouts

from rlreason.cli import config_folder
from rlreason.study.arms import comparisons
from rlreason.study.folders import read_study
from rlreason.study.report import write_report
from rlreason.tasks.report import composer


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("studies") / "made")


@pytest.fixture(scope="session")
def made(made_folder):
    return read_study(made_folder)


@pytest.fixture(scope="session")
def comparison(made):
    (found,), notes = comparisons(made.runs)
    assert notes == []
    return found


@pytest.fixture(scope="session")
def compose():
    return composer(config_folder())


@pytest.fixture(scope="session")
def reported(tmp_path_factory, compose):
    """The folder of a study with its report."""
    folder = make_study(tmp_path_factory.mktemp("studies") / "reported")
    write_evil_rollouts(folder / "ei-tiny-sft-sparse-seed0")
    write_report(read_study(folder), compose)
    return folder

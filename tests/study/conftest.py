import pytest
from study.made import make_study

from rlreason.study.arms import comparisons
from rlreason.study.folders import read_study


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

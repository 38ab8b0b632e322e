"""What W&B is told about a run."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rlreason.config.sections import TrackerConfig
from rlreason.run.trackers import start


@pytest.mark.parametrize(
    ("group", "study", "expected"), [(None, None, "ei-tiny"), (None, "paper-tiny", "paper-tiny"), ("mine", "s", "mine")]
)
def test_the_runs_of_a_study_are_one_group(monkeypatch, tmp_path, group, study, expected):
    import wandb

    given = {}

    def init(**keywords):
        given.update(keywords)
        return SimpleNamespace(define_metric=lambda *arguments, **options: None)

    monkeypatch.setattr(wandb, "init", init)
    config = TrackerConfig(name="wandb", project="p", entity=None, group=group, rollouts=1)
    run_config = {"study": study, "task": {"name": "train"}, "algo": {"name": "ei"}}
    start(config, Path(tmp_path) / "ei-tiny-seed0", run_config)
    assert given["group"] == expected
    assert given["job_type"] == "train-ei"

"""Measured speed and memory appear in the report with the hardware that they are from."""

import json

import pytest
from study.made import EVIL, make_run

from rlreason.study.folders import read_study
from rlreason.study.measurements import read_measurements
from rlreason.study.report import write_report

RECORD = {
    "measurement": "training",
    "what": "training",
    "value": 12345.6,
    "unit": "tokens/s",
    "further": {"step_seconds": 0.153511, "mfu": None, "all": [771.89, 1435.06]},
    "settings": {"model": "tiny", "parameters": 913408, "gradient_checkpointing": False},
    "command": "python -m bench.gpu training model=tiny",
    "made": "20260102-030405",
    "commit": None,
    "hardware": {"machine": "x86_64", "cpus": 2, "memory_gib": 23.5, "gpus": []},
}
ON_GPUS = {"machine": "x86_64", "cpus": 16, "memory_gib": 128.0, "gpus": ["NVIDIA H100 80GB HBM3"] * 2}


def write(folder, name, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(RECORD | changes))


def test_a_record_is_read_as_text(tmp_path):
    write(tmp_path, "training")
    ((found,), troubles) = read_measurements(tmp_path)
    assert troubles == []
    assert found.value == "12,346 tokens/s"
    assert found.further == "step seconds 0.154, all 772 1,435"  # what is not known is not shown
    assert found.settings == "model tiny, parameters 913,408, gradient checkpointing False"
    assert found.hardware == "2 CPUs (x86_64), 23.5 GiB; no GPU"
    assert found.commit == "unknown"


def test_gpus_are_counted_by_name(tmp_path):
    write(tmp_path, "training", hardware=ON_GPUS)
    assert read_measurements(tmp_path)[0][0].hardware == "2 x NVIDIA H100 80GB HBM3, 16 CPUs (x86_64), 128.0 GiB"


def test_what_cannot_be_read_is_named(tmp_path):
    write(tmp_path, "whole")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "list.json").write_text("[1]")
    write(tmp_path, "worded", value="fast")
    found, troubles = read_measurements(tmp_path, tmp_path / "absent")
    assert len(found) == 1
    assert [line.split(":")[0] for line in troubles] == [
        f"measurements/{name}.json" for name in ("broken", "empty", "list", "worded")
    ]
    assert "it has no 'hardware'" in troubles[1]


@pytest.fixture
def study(tmp_path):
    make_run(tmp_path / "mine", accuracies=(0.2, 0.6), ood=False, scores=False)
    return tmp_path / "mine"


def test_the_report_shows_those_of_the_study_and_of_all_runs(study, compose, monkeypatch):
    monkeypatch.setattr("rlreason.study.report.draw_all", lambda *_: [])
    write_report(read_study(study), compose)
    for name in ("report.html", "report.md"):
        assert "Measurements" not in (study / name).read_text()

    write(study / "measurements", "training", what=EVIL)
    write(study.parent / "measurements", "sync", what="weight sync", hardware=ON_GPUS)
    write_report(read_study(study), compose)
    html, text = (study / "report.html").read_text(), (study / "report.md").read_text()
    for shown in (html, text):
        for words in ("Measurements", "12,346 tokens/s", "2 x NVIDIA H100 80GB HBM3", "; no GPU", "weight sync"):
            assert words in shown
    assert "<script>" not in html and "<script>" not in text
    assert "python -m bench.gpu training model=tiny" in html

"""Everything once on this machine: what fails stops nothing else, and a file has all of it."""

import io
import json
from pathlib import Path

import check_steps
import pytest
from hydra import initialize_config_dir
from rich.console import Console
from tests_support import CONF, composed

from rlreason.checking.step import FAILED, OK, SKIPPED
from rlreason.checking.steps import STEPS
from rlreason.errors import INTERRUPTED, Failed, UserError
from rlreason.study.measurements import read_measurements
from rlreason.tasks.check import cannot, check, place_of

TINY = ["data.train_size=16", "data.validation_size=8", "data.test_size=4", "data.max_completion_tokens=32"]


def checked(folder: Path, steps, *overrides: str, console: Console | None = None):
    """The rows of a check of some steps."""
    config = composed("task=check", f"runs_dir={folder}", *overrides)
    console = console or Console(file=io.StringIO(), width=120)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return check(config, ["task=check", *overrides], [], CONF, console, steps)


def record_in(folder: Path) -> dict:
    (path,) = (folder / "measurements").glob("check-*.json")
    return json.loads(path.read_text())


def verdicts(record: dict) -> dict[str, str]:
    return {row["what"]: row["verdict"] for row in record["rows"]}


# One of each kind: the installation, the engine, a speed, a run without batches and one with them, what needs another
# step, what needs GPUs.
A_FEW = ("installation", "engine", "training-speed", "sft", "ppo", "export", "replicas", "fsdp2")
EVERY = tuple(step.name for step in STEPS)


def paths(rlreason, folder: Path, names: tuple[str, ...], *overrides: str) -> dict:
    """The file of a check of the tiny model."""
    done = rlreason(folder, "task=check", f"task.steps=[{','.join(names)}]", *TINY, *overrides).check()
    record = record_in(folder / "runs")
    titles = [title for step in STEPS if step.name in names for title in step.titles()]
    assert list(verdicts(record)) == titles
    for row in record["rows"]:
        assert row["verdict"] == OK or (row["verdict"] == SKIPPED and "GPUs are needed" in row["says"]), row
        assert row["what"] in done.output
    return record


@pytest.mark.engine
@pytest.mark.parametrize(
    ("names", "ok"), [(A_FEW, "12 of 14 ok"), pytest.param(EVERY, "17 of 21 ok", marks=pytest.mark.faults)]
)
def test_paths_work_on_a_cpu_and_the_report_shows_their_figures(rlreason, tmp_path, names, ok):
    record = paths(rlreason, tmp_path, names, "engine=transformers")
    rows = {row["what"]: row for row in record["rows"]}
    assert max(row["gap"] for row in record["rows"] if row["gap"] is not None) < 0.02  # float32 on both sides
    assert rows["engine: other weights"]["further"]["nats_away"] > 0.02
    for name in {"sft", "ei", "ppo", "grpo-lora", "rcrl", "grpo-orm"} & set(names):
        assert rows[name]["gib_planned"] == pytest.approx(rows[name]["gib_held"], rel=0.5)
    assert not list((tmp_path / "runs").rglob("*.safetensors"))  # nothing large is left
    ((found,), troubles) = read_measurements(tmp_path / "runs/measurements")
    assert troubles == []
    assert found.what == "check of every path" and found.value == ok
    assert "sampling tokens per second" in found.further and "model tiny" in found.settings
    assert found.command.startswith("rlreason task=check 'task.steps=[installation,")


@pytest.mark.faults
@pytest.mark.engine
def test_every_path_works_with_vllm(rlreason, tmp_path):
    record = paths(rlreason, tmp_path, EVERY, "engine=vllm")
    assert record["settings"]["engine"] == "vllm"


def test_what_fails_is_named_and_stops_nothing_else(tmp_path):
    with pytest.raises(Failed, match="3 of 11 failed: broken: two, dying: two, hanging; ") as ended:
        checked(tmp_path, check_steps.ALL, "task.step_seconds=8")
    assert ended.value.code == 1
    record = record_in(tmp_path)
    assert verdicts(record) == {
        "good": OK,
        "broken: one": OK,
        "broken: two": FAILED,
        "broken: three": SKIPPED,
        "reader": SKIPPED,
        "poor": SKIPPED,
        "dying: one": OK,
        "dying: two": FAILED,
        "hanging": FAILED,
        "several": SKIPPED,
        "last": OK,
    }
    rows = {row["what"]: row for row in record["rows"]}
    assert rows["broken: two"]["says"] == "this went wrong"
    assert "ValueError: this went" in rows["broken: two"]["traceback"]
    assert rows["broken: three"]["says"] == "broken: two has not come to its end"
    assert rows["reader"]["says"] == "broken has not been done"
    assert rows["poor"]["says"] == "all is wrong"
    assert "was killed by SIGKILL" in rows["dying: two"]["says"]
    assert "task.step_seconds" in rows["hanging"]["says"]
    assert (rows["good"]["gib_planned"], rows["good"]["gib_held"], rows["good"]["gap"]) == (1.0, 0.5, 0.01)
    assert record["further"]["failed"] == "broken: two; dying: two; hanging"
    (log,) = tmp_path.glob("check-*/check.log")
    assert "said before the end" in log.read_text() and "ValueError" in log.read_text()


def test_an_interrupted_check_leaves_what_it_has_found(tmp_path):
    class Impatient(Console):
        """Interrupts once the first step has been shown."""

        def print(self, *texts, **keywords):
            super().print(*texts, **keywords)
            if texts and str(texts[0]).startswith("good ok"):
                raise KeyboardInterrupt

    with pytest.raises(Failed, match="interrupted") as ended:
        checked(tmp_path, [check_steps.GOOD, check_steps.LAST], console=Impatient(file=io.StringIO(), width=120))
    assert ended.value.code == INTERRUPTED
    record = record_in(tmp_path)
    assert verdicts(record) == {"good": OK}
    assert record["further"]["not_reached"] == "last"
    assert read_measurements(tmp_path / "measurements")[1] == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["task.steps=[nothing]"], "task.steps has 'nothing', which is no step; choose from: good, last"),
        (["algo=ppo"], "task=check chooses algo itself; leave algo out"),
        (["eval.k=4"], "task=check chooses eval itself; leave eval.k out"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_anything_is_done(tmp_path, overrides, says):
    with pytest.raises(UserError, match=says.replace("[", r"\[")):
        checked(tmp_path, [check_steps.GOOD, check_steps.LAST], *overrides)
    assert list(tmp_path.iterdir()) == []


def test_steps_are_chosen_by_name_and_the_first_is_always_done(tmp_path):
    rows = checked(tmp_path, [check_steps.GOOD, check_steps.BROKEN, check_steps.LAST], "task.steps=[last]")
    assert [row.title for row in rows] == ["good", "last"]


@pytest.mark.parametrize(
    ("name", "gpus", "engine", "reason"),
    [
        ("replicas", 0, "vllm", "2 GPUs are needed, and there are none"),
        ("fsdp2", 1, "vllm", "2 GPUs are needed, and there is 1"),
        ("replicas", 2, "transformers", "engine=vllm alone does it, and the engine is transformers"),
        ("replicas", 2, "vllm", None),
        ("two-processes", 8, "transformers", None),
        ("engine", 0, "transformers", None),
    ],
)
def test_what_a_machine_cannot_do_is_left_out_with_the_reason(name, gpus, engine, reason):
    (step,) = (step for step in STEPS if step.name == name)
    assert cannot(step, gpus, engine) == reason


def test_every_step_composes_and_works_in_a_folder_of_its_own(tmp_path):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        places = {step.name: place_of(step, {}, [], tmp_path, CONF) for step in STEPS}
    assert places["export"].folder == places["sft"].folder == tmp_path / "sft"
    assert places["ppo"].config.runs_dir == str(tmp_path) and places["ppo"].config.name == "ppo"
    assert all(place.config.tracker.name == "none" for place in places.values())


def test_what_a_step_chooses_wins_over_the_command_line(tmp_path):
    (step,) = (step for step in STEPS if step.name == "fsdp2")
    given = {"hardware": "hardware=gpu80x8", "nproc": "nproc=8", "data.train_size": "data.train_size=24"}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = place_of(step, given, [], tmp_path, CONF).config
    assert config.nproc == 2 and config.sharding.name == "fsdp2" and config.launcher.name == "accelerate"
    assert config.data.train_size == 24 and config.engine.replicas == 8  # what it does not choose

"""What W&B is told about a run, and that it neither ends nor delays one."""

import http.server
import json
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from wandb_file import offline_run

from rlreason.config.sections import TrackerConfig
from rlreason.run import trackers
from rlreason.run.trackers import WandbTracker, answers, start

RUN = {"study": None, "task": {"name": "train"}, "algo": {"name": "ei"}}
VARIABLES = (
    "WANDB_MODE",
    "WANDB_DISABLED",
    "WANDB_API_KEY",
    "WANDB_BASE_URL",
    "WANDB_PROJECT",
    "WANDB_RUN_GROUP",
    "WANDB_NAME",
    "WANDB_DIR",
    "WANDB_RUN_ID",
    "WANDB_SWEEP_ID",
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def settings(**changes):
    return TrackerConfig(**{"name": "wandb", "project": None, "entity": None, "group": None, "rollouts": 1} | changes)


@pytest.fixture
def given(monkeypatch):
    """What `wandb.init` is called with."""
    import wandb

    seen = {}

    def init(**keywords):
        seen.update(keywords)
        return SimpleNamespace(define_metric=lambda *arguments, **options: None, dir=keywords["dir"])

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(
        wandb, "setup", lambda: SimpleNamespace(settings=SimpleNamespace(base_url="https://wandb.invalid"))
    )
    return seen


@pytest.fixture
def said():
    return []


@pytest.mark.parametrize(
    ("group", "study", "expected"), [(None, None, "ei-tiny"), (None, "paper-tiny", "paper-tiny"), ("mine", "s", "mine")]
)
def test_the_runs_of_a_study_are_one_group(given, said, tmp_path, group, study, expected):
    start(settings(group=group), Path(tmp_path) / "ei-tiny-seed0", RUN | {"study": study}, said.append)
    assert given["group"] == expected
    assert given["job_type"] == "train-ei"
    assert given["project"] == "rlreason"


def test_what_the_environment_says_holds_where_the_configuration_says_nothing(monkeypatch, given, said, tmp_path):
    for name, value in (("WANDB_PROJECT", "p"), ("WANDB_RUN_GROUP", "g"), ("WANDB_NAME", "n"), ("WANDB_DIR", "/d")):
        monkeypatch.setenv(name, value)
    start(settings(), tmp_path, RUN, said.append)
    assert (given["project"], given["group"], given["name"], str(given["dir"])) == ("p", "g", "n", "/d")
    start(settings(project="mine", group="ours"), tmp_path, RUN, said.append)
    assert (given["project"], given["group"]) == ("mine", "ours")


def test_an_agent_of_a_sweep_keeps_its_own_run_and_no_other_shares_one(monkeypatch, given, said, tmp_path):
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    start(settings(), tmp_path, RUN, said.append)
    assert given["id"] != "abc"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    start(settings(), tmp_path, RUN, said.append)
    assert given["id"] == "abc"


@pytest.mark.parametrize("key", [None, "0" * 40])
@pytest.mark.parametrize(("name", "value"), [("WANDB_MODE", "disabled"), ("WANDB_DISABLED", "true")])
def test_disabled_is_obeyed_with_and_without_a_key(monkeypatch, given, said, tmp_path, name, value, key):
    monkeypatch.setenv(name, value)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    assert not isinstance(start(settings(), tmp_path, RUN, said.append), WandbTracker)
    assert given == {}
    assert said == []


@pytest.mark.parametrize("key", [None, "0" * 40])
@pytest.mark.parametrize("value", ["offline", "dryrun", "OFFLINE"])
def test_offline_is_obeyed_and_no_server_is_asked(monkeypatch, given, said, tmp_path, value, key):
    monkeypatch.setattr(trackers, "answers", lambda server: pytest.fail("asked"))
    monkeypatch.setenv("WANDB_MODE", value)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    start(settings(), tmp_path, RUN, said.append)
    assert given["mode"] == "offline"


@pytest.mark.parametrize(
    ("key", "mode", "there", "expected", "lines"),
    [
        (False, "", True, "offline", 0),
        (True, "", True, "online", 0),
        (True, "", False, "offline", 1),
        (True, "online", False, "offline", 1),
        (False, "online", True, "online", 0),
    ],
)
def test_a_server_that_does_not_answer_is_done_without(
    monkeypatch, given, said, tmp_path, key, mode, there, expected, lines
):
    monkeypatch.setattr(trackers, "answers", lambda server: there)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    start(settings(), tmp_path, RUN, said.append)
    assert given["mode"] == expected
    assert len(said) == lines


def test_a_saved_key_is_one_of_the_servers(monkeypatch, given, said, tmp_path):
    monkeypatch.setattr(trackers, "answers", lambda server: True)
    saved = tmp_path / ".netrc"
    saved.write_text("machine example.org\n  login user\n  password nothing\n")
    saved.chmod(0o600)
    start(settings(), tmp_path, RUN, said.append)
    assert given["mode"] == "offline"
    saved.write_text("machine wandb.invalid\n  login user\n  password nothing\n")
    start(settings(), tmp_path, RUN, said.append)
    assert given["mode"] == "online"


def test_one_that_hangs_or_is_not_there_does_not_answer_and_one_that_refuses_does(monkeypatch):
    monkeypatch.setattr(trackers, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - begun < 30
        free = silent.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{free}")
    assert not answers("no address")
    monkeypatch.setattr(trackers, "ANSWER_SECONDS", 20.0)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # answers 501 to everything
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert answers(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


def test_what_cannot_be_started_is_said_in_one_line_and_the_run_goes_on(monkeypatch, given, said, tmp_path):
    import wandb

    def init(**keywords):
        raise RuntimeError("the key\nis not valid")

    monkeypatch.setattr(wandb, "init", init)
    tracker = start(settings(), tmp_path, RUN, said.append)
    tracker.log({"x": 1.0}, 3)
    tracker.finish({})
    assert said == ["W&B cannot track this run (RuntimeError: the key is not valid); the run folder has everything"]


def test_what_cannot_be_sent_or_finished_does_not_stop_a_run(monkeypatch, given, said, tmp_path):
    monkeypatch.setattr(trackers, "answers", lambda server: True)
    monkeypatch.setattr(trackers, "FINISH_SECONDS", 0.1)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    tracker = start(settings(), tmp_path, RUN, said.append)
    released = threading.Event()

    def broken(*_):
        raise BrokenPipeError("gone")

    tracker.run.log, tracker.run.summary, tracker.run.finish = broken, {}, released.wait
    tracker.log({"x": 1.0}, 3)
    assert said == ["W&B: BrokenPipeError: gone; the run folder has everything"]
    tracker.finish({"final/x": 1.0})
    assert "has not taken everything" in said[-1]
    released.set()


def test_offline_a_continued_run_is_one_curve(said, tmp_path):
    """With W&B itself: the second process takes over what the first one tracked and did not live to finish."""
    import wandb

    folder, elsewhere = tmp_path / "ei-seed0", tmp_path / "first"
    (folder / "wandb").mkdir(parents=True)
    elsewhere.mkdir()
    first = start(settings(), elsewhere, RUN, said.append)
    lines = [{"stage": f"round-{number}", "samples_seen": 10 * number, "x": float(number)} for number in (1, 2)]
    for line in lines:
        first.log({"x": line["x"]}, line["samples_seen"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first.run.finish()  # as far as the disk goes; a killed process leaves the same folder
    (left,) = elsewhere.glob("wandb/offline-run-*")
    left.rename(folder / "wandb" / "offline-run-20200101_000000-first")  # W&B's names differ by the second
    second = start(settings(), folder, RUN, said.append)
    second.log({"x": 3.0}, 30)
    second.finish({"final/x": 3.0})
    wandb.teardown()  # until then W&B's own process may not have written all
    _, history, _ = offline_run(folder)  # of the only offline folder
    assert [(item["samples_seen"], item["x"]) for item in history] == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert said == []

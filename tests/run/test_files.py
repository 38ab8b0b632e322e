"""Whatever file of a run folder is empty, cut or missing is done again from what remains, or named in one line."""

import json
import shutil

import pytest
import yaml
from tests_support import composed

from rlreason.errors import FolderRefused
from rlreason.lab.contents import contents, digest_of_model
from rlreason.models.resolve import local_folder
from rlreason.run import files
from rlreason.run.checkpoints import refuse_broken
from rlreason.run.files import read_result
from rlreason.run.folder import Run, read_lines
from rlreason.run.stage import log_of

CONFIG = {
    "algo": {"name": "ei", "rounds": 2},
    "model": {"name": "tiny", "path": "a"},
    "data": {"name": "gsm8k", "path": "b"},
    "eval": {"metrics": []},
    "seed": 3,
    "gpu_hour_price": None,
}
BROKEN = {"empty": lambda text: "", "cut": lambda text: text[: len(text) // 2], "zeros": lambda text: "\0" * len(text)}


@pytest.fixture
def folder(tmp_path):
    """A run that has finished one stage."""
    run = Run(tmp_path / "r", CONFIG)
    run.once(log_of("init"), lambda: (1, {}), lambda: 1)
    run.finish({"name": "r", "config": CONFIG})
    run.close()
    return tmp_path / "r"


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_result_is_none_and_is_made_again(folder, how):
    path = folder / "result.json"
    path.write_text(BROKEN[how](path.read_text()))
    run = Run(folder, CONFIG)
    assert run.result() is None
    assert run.once(log_of("init"), lambda: pytest.fail("made again"), lambda: 2) == 2
    run.finish({"name": "r"})
    run.close()
    assert read_result(folder) == {"name": "r"}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_configuration_is_taken_from_the_result(folder, how):
    path = folder / "config.yaml"
    path.write_text(BROKEN[how](path.read_text()))
    Run(folder, CONFIG).close()
    assert yaml.safe_load(path.read_text()) == CONFIG
    path.write_text(BROKEN[how](path.read_text()))
    with pytest.raises(FolderRefused, match="belongs to another configuration"):
        Run(folder, {**CONFIG, "seed": 4})


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_configuration_without_a_result_is_named_in_one_line(folder, how):
    (folder / "result.json").unlink()
    path = folder / "config.yaml"
    path.write_text(BROKEN[how](path.read_text()))
    with pytest.raises(FolderRefused, match=r"config\.yaml is empty or cut") as refusal:
        Run(folder, CONFIG)
    assert "\n" not in str(refusal.value)
    path.unlink()
    Run(folder, CONFIG).close()


def test_a_configuration_cut_anywhere_is_never_taken_for_another_one(tmp_path):
    run = Run(tmp_path / "r", CONFIG)
    run.close()
    path = tmp_path / "r" / "config.yaml"
    whole = path.read_text()
    for length in range(whole.index("gpu_hour_price: null")):
        path.write_text(whole[:length])
        with pytest.raises(FolderRefused, match="empty or cut"):
            Run(tmp_path / "r", CONFIG)


@pytest.mark.parametrize("content", [b"", b'{"stage": "a", "kind"', b"\xff\xfe\0\0", b"17\n[]\n"])
def test_a_broken_journal_is_one_of_no_finished_stage(folder, content):
    (folder / "journal.jsonl").write_bytes(content)
    assert read_lines(folder / "journal.jsonl") == []
    run = Run(folder, CONFIG)
    assert run.once(log_of("init"), lambda: (5, {}), lambda: pytest.fail("read")) == 5
    run.close()


def test_a_stage_whose_file_is_lost_is_done_again_and_counts_once(tmp_path):
    run, stored = Run(tmp_path / "r", CONFIG), tmp_path / "r" / "value"
    made = []

    def make():
        made.append(1)
        stored.write_text("7")
        return 7, {"tokens": {"sample": 10}}

    stage = log_of("init")
    assert run.once(stage, make, lambda: int(stored.read_text())) == 7
    for spoil in (stored.unlink, lambda: stored.write_text("")):
        spoil()
        assert run.once(stage, make, lambda: int(stored.read_text())) == 7
    run.close()
    assert len(made) == 3
    assert "cannot be read" in (tmp_path / "r" / "events.log").read_text()
    assert Run(tmp_path / "r", CONFIG).totals("tokens") == {"sample": 10}


@pytest.fixture
def checkpoint(tmp_path):
    source = local_folder("embedded:tiny")
    return shutil.copytree(source, tmp_path / "checkpoint")


def test_a_checkpoint_is_whole_only_with_all_of_its_files(checkpoint):
    refuse_broken(checkpoint)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        path = checkpoint / name
        content = path.read_bytes()
        for length in {0, 4, 9, len(content) // 2, len(content.rstrip()) - 1}:
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=name.replace(".", r"\.")):
                refuse_broken(checkpoint)
        path.write_bytes(content)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no whole checkpoint"):
        refuse_broken(checkpoint)


def test_what_is_put_in_place_is_on_the_disk_first(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: order.append("sync"))
    replace = files.os.replace
    monkeypatch.setattr(files.os, "replace", lambda *places: (order.append("rename"), replace(*places)))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").write_text("x")
    files.put_in_place(tmp_path / "new", tmp_path / "place")
    assert order == ["sync", "sync", "rename", "sync"]
    files.write_atomically(tmp_path / "text", "x")
    assert order[4:] == ["sync", "rename", "sync"]
    assert (tmp_path / "text").read_text() == "x"


def data_file(folder, answer):
    rows = [{"question": f"What is {number} and 1?", "answer": f"so\n#### {answer + number}"} for number in range(40)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:30]))
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[30:]))


def test_a_run_belongs_to_what_its_data_and_weights_contain(tmp_path, checkpoint):
    data = tmp_path / "data"
    data.mkdir()
    data_file(data, 1)
    asked = ["data=gsm8k", f"data.path={data}", "data.validation_size=5", "data.train_size=null", "data.test_size=null"]
    asked += ["model=local", f"model.path={checkpoint}", f"runs_dir={tmp_path / 'runs'}"]
    config = composed(*asked)
    first = contents(config)
    assert first.keys() == {"data.path", "model.path"}
    assert contents(config) == first
    plain = {**CONFIG, "contents": first}
    Run(tmp_path / "r", plain).close()
    data_file(data, 2)
    changed = contents(config)
    assert changed["model.path"] == first["model.path"] and changed["data.path"] != first["data.path"]
    with pytest.raises(FolderRefused, match=r"what lies at data\.path=b has changed since"):
        Run(tmp_path / "r", {**plain, "contents": changed})
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert contents(config)["model.path"] != first["model.path"]
    with pytest.raises(FolderRefused, match=r"what lies at model\.path=a has changed since"):
        Run(tmp_path / "r", {**plain, "contents": first | {"model.path": "other"}})


def test_weights_that_have_not_changed_are_read_once(tmp_path, checkpoint, monkeypatch):
    from rlreason.lab import contents as module

    monkeypatch.setattr(module, "SOON_READ", 0)
    first = digest_of_model(checkpoint, tmp_path / "cache")
    monkeypatch.setattr(module, "digest_of_file", lambda path: pytest.fail(f"{path} is read again"))
    assert digest_of_model(checkpoint, tmp_path / "cache") == first
    for broken in ("", "[]", "{"):
        (tmp_path / "cache" / module.KNOWN).write_text(broken)
        with pytest.raises(pytest.fail.Exception):
            digest_of_model(checkpoint, tmp_path / "cache")


def test_a_run_of_a_version_that_did_not_look_goes_on(tmp_path):
    Run(tmp_path / "r", CONFIG).close()
    Run(tmp_path / "r", {**CONFIG, "contents": {"data.path": "x"}}).close()

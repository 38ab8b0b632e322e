"""Nothing stays in shared memory: not after a block, not after an error, not after a killed process."""

import os
import signal
import subprocess
import sys

import pytest

from rlreason.engines import shared_memory
from rlreason.engines.shared_memory import folder_in_memory, is_in_memory, remove_abandoned

pytestmark = pytest.mark.skipif(not shared_memory.has_room(2**20), reason="no shared memory")
HOLD = """
import sys
from pathlib import Path
from rlreason.engines.shared_memory import folder_in_memory
with folder_in_memory(100, Path("unused")) as folder:
    (folder / "weights").write_bytes(b"123")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_name_is_taken_unless_it_is_in_use(tmp_path):
    with folder_in_memory(100, tmp_path / "disk", "known") as folder:
        assert folder.name == "rlreason-known"
        with folder_in_memory(100, tmp_path / "disk", "known") as other:
            assert other != folder and is_in_memory(other) and folder.exists()
    with folder_in_memory(100, tmp_path / "disk", "known") as again:
        assert again == folder


def test_a_folder_lives_as_long_as_its_block(tmp_path):
    seen = []

    def fail():
        with folder_in_memory(100, tmp_path / "disk") as folder:
            seen.append(folder)
            assert is_in_memory(folder)
            assert folder.stat().st_mode & 0o077 == 0, "nobody else reads the weights"
            (folder / "weights").write_bytes(b"123")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not seen[0].exists()
    assert not (tmp_path / "disk").exists()


@pytest.mark.parametrize("size", [None, 2.0**60])
def test_what_does_not_fit_goes_to_the_disk(tmp_path, size):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "of-a-killed-process").touch()
    with folder_in_memory(size, tmp_path / "disk") as folder:
        assert folder == tmp_path / "disk"
        assert not list(folder.iterdir())
    assert not folder.exists()


def test_a_killed_process_leaves_nothing_that_the_next_one_does_not_remove():
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    folder = shared_memory.Path(process.stdout.readline().strip())
    remove_abandoned()
    assert (folder / "weights").exists(), "its owner lives"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert folder.exists()
    remove_abandoned()
    assert not folder.exists()

"""What the engine samples from is the checkpoint that it was given, also after weights were swapped in place.

The probe finds engines that kept the old weights and files that were damaged; adapters are loaded alone; tokens that
are banned, as return tags are, are never drawn; and nothing stays in shared memory.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine
EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_the_engine_holds_the_weights_that_it_was_given(engine, tmp_path):
    pytest.importorskip(engine)
    script = Path(__file__).with_name("weight_sync_script.py")
    command = [sys.executable, str(script), str(EMBEDDED), str(tmp_path), engine]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "all checks passed" in done.stdout, done.stdout[-500:] + done.stderr[-3000:]

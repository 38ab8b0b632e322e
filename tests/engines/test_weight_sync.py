"""What the engine samples from is the checkpoint that it was given, also after weights were swapped in place.

The probe finds engines that kept the old weights and files that were damaged; adapters are loaded alone; tokens that
are banned, as return tags are, are never drawn; and nothing stays in shared memory.
"""

from pathlib import Path

import pytest

pytestmark = pytest.mark.engine
EMBEDDED = Path(__file__).parents[2] / "rlreason/models/weights/tiny"


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_the_engine_holds_the_weights_that_it_was_given(rlreason, engine, tmp_path):
    pytest.importorskip(engine)
    script = Path(__file__).with_name("weight_sync_script.py")
    done = rlreason.script(tmp_path, script, str(EMBEDDED), str(tmp_path), engine).check()
    assert "all checks passed" in done.output

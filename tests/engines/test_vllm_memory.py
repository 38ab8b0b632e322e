"""How much memory vLLM is asked to reserve on a CPU, and what is said where it is not enough; no engine is started."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlreason.engines.vllm import BLOCK, GIB, advice, cached_blocks
from rlreason.errors import UserError

CONTEXT = 1936
BYTES = BLOCK * 12_288  # of a block, with 24 layers of 2 heads of 64 in bfloat16


def test_as_much_as_the_work_needs_where_there_is_room():
    assert cached_blocks(BYTES, 20 * GIB, 100 * BLOCK, CONTEXT, 0.5) == 101
    assert cached_blocks(BYTES, 2 * GIB, 10**6, CONTEXT, 0.5) == GIB // BYTES
    assert cached_blocks(BYTES, 2 * GIB, 10**6, CONTEXT, 0.001) == 62  # one context, and the block of vLLM


@given(
    room=st.floats(0, 64 * GIB), tokens=st.integers(1, 10**7), context=st.integers(1, 10**5), share=st.floats(0.01, 1.0)
)
def test_never_more_than_there_is_and_never_less_than_one_context(room, tokens, context, share):
    if BYTES * (math.ceil(context / BLOCK) + 1) > room:
        with pytest.raises(UserError, match=r"^engine=vllm: its weights leave [^\n]*; end other programs, [^\n]*$"):
            cached_blocks(BYTES, room, tokens, context, share)
    else:
        blocks = cached_blocks(BYTES, room, tokens, context, share)
        assert blocks * BYTES <= room
        assert (blocks - 1) * BLOCK >= context


@pytest.mark.parametrize(
    ("reason", "advised"),
    [
        ("Available memory on node 0 (7.1/23.5 GiB) on kv cache allocation is less than requested memory for kv (12 "
         "GiB). Decrease --kv-cache-memory-bytes", "lower engine.memory_share"),
        ("Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than desired GPU memory utilization",
         "lower engine.memory_share"),
        ("To serve at least one request with the models's max seq len (4096), (2.00 GiB KV cache is needed, which is "
         "larger than the available KV cache memory (1.2 GiB).", "raise engine.memory_share"),
        ("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
         "raise engine.memory_share"),
        ("Error in memory profiling. Initial free memory 63.66 GiB, current free memory 74.43 GiB. This happens when "
         "other processes sharing the same container release GPU memory", "without other programs on that GPU"),
    ],
)  # fmt: skip
def test_the_advice_points_in_the_right_direction(reason, advised):
    assert advice(reason).endswith(advised)


def test_other_reasons_get_no_advice_about_memory():
    assert advice("Model architectures ['Unheard'] are not supported for now") == ""

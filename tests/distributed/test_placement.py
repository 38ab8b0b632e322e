"""Jobs side by side each keep to their part of the machine."""

import os
import subprocess
import sys

import pytest

from rlreason.distributed.placement import VARIABLE, slots
from rlreason.distributed.shares import share

PROGRAM = """
import os, sys
from rlreason.distributed.placement import take_slot
print(take_slot(), take_slot(), sorted(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS"), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("slot", "count", "expected"), [(0, 2, [0, 1]), (1, 2, [2, 3]), (2, 3, [2]), (0, 1, [0, 1, 2, 3, 4]), (6, 8, [1])]
)
def test_a_share_is_a_part_that_no_other_slot_has_while_there_is_enough(slot, count, expected):
    assert share([0, 1, 2, 3, 4], slot, count) == expected


def test_a_machine_without_gpus_has_none_to_share():
    assert share([], 0, 2) == []


def test_processes_take_different_cores_and_give_them_back_when_they_die():
    cores = sorted(os.sched_getaffinity(0))
    with slots(2):
        first, first_line = started()
        second, second_line = started()
        third, third_line = started()
        size = max(1, len(cores) // 2)
        assert first_line == f"True True {cores[:size]} {size}"
        assert second_line == f"True True {share(cores, 1, 2)} {size}"
        assert third_line.startswith("False")
        end(first)
        again, line = started()
        assert line == first_line
        for process in (second, third, again):
            end(process)
    assert VARIABLE not in os.environ


def test_without_slots_nothing_is_confined():
    process, line = started()
    assert line.startswith(f"False False {sorted(os.sched_getaffinity(0))}")
    end(process)


def started():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def end(process):
    process.communicate(timeout=30)

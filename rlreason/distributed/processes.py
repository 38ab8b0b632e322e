"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import ctypes

SET_PARENT_DEATH_SIGNAL = 1  # linux/prctl.h: PR_SET_PDEATHSIG


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the thread ends that started it."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal_number)

"""The most memory that this process has held since it was last asked."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def take() -> dict[str, float]:
    """Peaks since the last call, in bytes, which start anew.

    Returns:
        "host": resident main memory (since the process began where the system cannot start anew); "device": the most
        that torch's allocator held on one GPU, absent without one.
    """
    found = {"host": _host()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        devices = range(torch.cuda.device_count())
        found["device"] = float(max(torch.cuda.max_memory_allocated(device) for device in devices))
        for device in devices:
            torch.cuda.reset_peak_memory_stats(device)
    return found


def _host() -> float:
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
    with contextlib.suppress(OSError, StopIteration):
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        peak = float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
        CLEAR.write_text("5", encoding="ascii")
    return peak

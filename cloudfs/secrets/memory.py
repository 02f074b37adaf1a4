"""What keeps secrets in this process's memory from leaving it."""

from __future__ import annotations

import ctypes
import resource

__all__ = ["close_memory", "is_memory_closed"]

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
"""SOURCE: prctl(2), PR_SET_DUMPABLE; what it does to ptrace(2) and /proc/PID/mem is there, too."""


def close_memory() -> None:
    """No core file, and no debugger of the same user, shows this process's memory from now on; for its whole life."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def is_memory_closed() -> bool:
    """Tell whether it is."""
    return bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)

"""What the processes of a client cost: CPU time and memory, from /proc (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["Usage"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage:
    """Adds up over all processes that were ever looked at, those that ended with what they had at the last look."""

    def __init__(self) -> None:
        self._cpu_s: dict[tuple[int, str], float] = {}
        self._peaks_kib: dict[tuple[int, str], int] = {}

    @property
    def cpu_s(self) -> float:
        """CPU time of user and kernel together."""
        return sum(self._cpu_s.values())

    @property
    def peak_mib(self) -> float:
        """Most memory that one of them ever had (VmHWM)."""
        return max(self._peaks_kib.values(), default=0) / 1024

    def look(self, pids: Iterable[int]) -> None:
        """Note what they have used so far; who is gone keeps what was noted."""
        for pid in pids:
            with suppress(OSError, ValueError, IndexError):
                self._look(Path(f"/proc/{pid}"))

    def _look(self, process: Path) -> None:
        # The name, in brackets, may hold blanks: fields are counted from behind it.
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        key = int(process.name), fields[19]
        self._cpu_s[key] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        for line in (process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self._peaks_kib[key] = int(line.split()[1])

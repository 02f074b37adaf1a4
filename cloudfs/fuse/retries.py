"""The kernel asks again for what could not be read, and each time has to be part of the one that a program waits.

A failed read-ahead is asked for once more by read(2), and a third time for a page of mmap(2) (filemap_fault in
linux/mm/filemap.c). All of these come through the same open file, one right after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyfuse3
import trio

__all__ = ["Retries"]

_AGAIN_S = 1.0
"""What comes later is no repetition, but a program that tries anew."""
_QUICK_S = 0.2
"""What fails sooner has not kept anybody waiting."""


class Retries:
    """Of the open files of one mount."""

    def __init__(self, deadline_s: float) -> None:
        """`deadline_s`: what all tries of one read may take together."""
        self._deadline_s = deadline_s
        self._failed: dict[int, tuple[float, float]] = {}
        """By handle: when (trio) the first try of a read in vain began, and when the last one that took long ended."""

    @contextmanager
    def attempt(self, handle: int) -> Iterator[float]:
        """Be around one request for bytes; gives the seconds that are left for it."""
        began = trio.current_time()
        first, ended = self._failed.get(handle, (began, began))
        if began - ended >= _AGAIN_S:
            first = began
        try:
            yield max(first + self._deadline_s - began, 0.0)
        except pyfuse3.FUSEError:
            if trio.current_time() - began >= _QUICK_S:
                self._failed[handle] = first, trio.current_time()
            raise
        self.closed(handle)

    def closed(self, handle: int) -> None:
        """The file is closed, or was read."""
        self._failed.pop(handle, None)

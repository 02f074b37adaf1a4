"""The kernel asks again for what could not be read, and each time has to be part of the one that a program waits.

A failed read-ahead is asked for once more by read(2), and a third time for a page of mmap(2) (filemap_fault in
linux/mm/filemap.c). All of these are of one place in one open file, one right after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pyfuse3
import trio

__all__ = ["Retries"]

_AGAIN_S = 1.0
"""What comes later is no repetition, but a program that tries anew."""
_QUICK_S = 0.2
"""What fails sooner has not kept anybody waiting."""
_MOST_PLACES = 16
"""In one open file. Of more the kernel has no requests under way."""


class _Failed(msgspec.Struct):
    """A place of a file that was read in vain; trio times."""

    start: int
    stop: int
    first: float
    """When the first try began."""
    ended: float
    """When the last one ended that took long."""


class Retries:
    """Of the open files of one mount."""

    def __init__(self, deadline_s: float) -> None:
        """`deadline_s`: what all tries of one read may take together."""
        self._deadline_s = deadline_s
        self._failed: dict[int, list[_Failed]] = {}

    @contextmanager
    def attempt(self, handle: int, start: int, stop: int) -> Iterator[float]:
        """Be around one request for the bytes [start, stop); gives the seconds that are left for it."""
        began = trio.current_time()
        first = min((it.first for it in self._touching(handle, start, stop, began)), default=began)
        try:
            yield max(first + self._deadline_s - began, 0.0)
        except pyfuse3.FUSEError:
            ended = trio.current_time()
            if ended - began >= _QUICK_S:
                self._forget(handle, start, stop)
                places = self._failed.setdefault(handle, [])
                places.append(_Failed(start, stop, first, ended))
                del places[:-_MOST_PLACES]
            raise
        if handle in self._failed:
            self._forget(handle, start, stop)

    def closed(self, handle: int) -> None:
        """The file is closed."""
        self._failed.pop(handle, None)

    def _touching(self, handle: int, start: int, stop: int, now: float) -> list[_Failed]:
        places = self._failed.get(handle, ())
        return [it for it in places if it.start < stop and start < it.stop and now - it.ended < _AGAIN_S]

    def _forget(self, handle: int, start: int, stop: int) -> None:
        left = [it for it in self._failed.get(handle, ()) if it.stop <= start or stop <= it.start]
        if left:
            self._failed[handle] = left
        else:
            self._failed.pop(handle, None)

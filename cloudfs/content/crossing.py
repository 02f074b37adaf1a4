"""Reads and writes of one open file that are under way together.

The kernel copies what a program writes into the page that it has, lets go of that page, and then sends the write. Where
it drops the page in between (it saw another time of the file), and a program reads, it asks for the page again while
the write is on its way. An answer from before the write would stay in the new page: with what was there before, or
zeros where the file has grown, although both programs have been told that the file goes on there. So a read is answered
with all that was being written when it came, or began to be written meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from cloudfs.types import Octets

__all__ = ["Crossing"]

_MOST_TRIES = 5
"""Who writes one place without a pause does not keep a reader of it waiting for ever."""


class _Span:
    """The bytes [start, stop), being read or written."""

    __slots__ = ("crossed", "done", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.crossed = False
        """Of a read: a write of some of it began since."""
        self.done = trio.Event()
        """Of a write."""

    def touches(self, other: _Span) -> bool:
        return self.start < other.stop and other.start < self.stop


class Crossing:
    """What is read and written of one content at this moment."""

    __slots__ = ("_reads", "_writes")

    def __init__(self) -> None:
        self._reads: list[_Span] = []
        self._writes: list[_Span] = []

    @contextmanager
    def writing(self, start: int, stop: int) -> Iterator[None]:
        """The kernel has asked for [start, stop) to be written. To be entered without a checkpoint before."""
        span = _Span(start, stop)
        for read in self._reads:
            read.crossed = read.crossed or read.touches(span)
        self._writes.append(span)
        try:
            yield
        finally:
            self._writes.remove(span)
            span.done.set()

    async def read(self, start: int, stop: int, look: Callable[[], Awaitable[Octets]]) -> Octets:
        """Return what `look` finds of [start, stop), once nothing of that is being written any more."""
        span = _Span(start, stop)
        self._reads.append(span)
        try:
            tries_left = _MOST_TRIES
            while True:
                await self._written(span)
                span.crossed, tries_left = False, tries_left - 1
                found = await look()
                if not (span.crossed and tries_left):
                    return found
        finally:
            self._reads.remove(span)

    async def _written(self, span: _Span) -> None:
        for write in [it for it in self._writes if it.touches(span)]:
            await write.done.wait()

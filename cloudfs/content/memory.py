"""Bytes in memory: one ceiling for the whole process, and the blocks that are filled or were read lately.

    budget.take_nowait / give_back        whoever holds large buffers, in any room
    Pages.open -> Page.fill ... -> Page.data      a block while it arrives, then whole, then forgotten

A page is charged to the budget with its full length from `open` until it is dropped. It is dropped only
when nobody has pinned it: a request that fills it, a write to the block cache. Readers need no pin, since
they copy what they need without a checkpoint between looking and copying.
"""

from __future__ import annotations

import contextlib
import ctypes
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from cloudfs.octets import is_all, together
from cloudfs.ranges import RangeSet
from cloudfs.types import ContentVersion, Ino, Octets

__all__ = ["BlockKey", "MemoryBudget", "Page", "Pages", "trim_heap"]

_MIB = 1024 * 1024
_MOST_PIECES = 64
"""So many pieces of a block are kept apart while it arrives."""

Reclaim = Callable[[int], None]
"""Asks an owner of memory to give back about that many bytes, at once and without a checkpoint."""


class BlockKey(NamedTuple):
    """One block of one version of one file."""

    ino: Ino
    version: ContentVersion
    block: int


class MemoryBudget:
    """The ceiling over every large buffer of the process.

    INVARIANT: used_bytes is the sum of what was taken and not given back, and zero when all is over.
    Read-ahead cannot use the last `reserve_bytes`, so that a program that waits finds room at once.
    """

    def __init__(self, ceiling_bytes: int = 64 * _MIB, reserve_bytes: int = 4 * _MIB) -> None:
        self.ceiling_bytes = ceiling_bytes
        self.reserve_bytes = min(reserve_bytes, ceiling_bytes // 2)
        self.used_bytes = 0
        self.peak_bytes = 0
        self._reclaimers: list[Reclaim] = []
        self._changed = trio.lowlevel.ParkingLot()

    def add_reclaimer(self, reclaim: Reclaim) -> None:
        """Ask `reclaim` for memory from now on when there is too little."""
        self._reclaimers.append(reclaim)

    def take_nowait(self, size: int, *, urgent: bool, force: bool = False) -> bool:
        """Take `size` bytes if there is room, after asking for some; `force` takes them in any case."""
        limit = self.ceiling_bytes if urgent else self.ceiling_bytes - self.reserve_bytes
        for reclaim in self._reclaimers:
            if self.used_bytes + size <= limit:
                break
            reclaim(self.used_bytes + size - limit)
        if self.used_bytes + size > limit and not force:
            return False
        self.used_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return True

    def give_back(self, size: int) -> None:
        """Return what was taken and wake those who wait for room."""
        self.used_bytes -= size
        self._changed.unpark_all()

    def nudge(self) -> None:
        """Wake those who wait for room: one of them may have become urgent."""
        self._changed.unpark_all()

    async def wait_changed(self) -> None:
        """Wait until trying again may have another result. Look again after it."""
        await self._changed.park()


class Page:
    """One block in memory: pieces while it arrives, one `bytes` when it is whole.

    INVARIANT: `data` is None or the complete block; then the pieces are gone. Of a sealed page nothing is handed out
    before somebody has looked at all of it and calls `complete`.
    """

    __slots__ = ("_filled", "_pieces", "data", "key", "pins", "sealed", "start", "stop")

    def __init__(self, key: BlockKey, start: int, stop: int) -> None:
        self.key = key
        self.start = start
        """Offset in the file."""
        self.stop = stop
        self.pins = 0
        self.data: Octets | None = None
        self.sealed = False
        self._pieces: list[tuple[int, memoryview]] = []
        self._filled = RangeSet()

    def first_gap(self, start: int) -> int:
        """Return the first offset at or after `start` whose byte is not here, or the end of the block."""
        if self.data is not None:
            return self.stop
        return next((gap for gap, _ in self._filled.gaps(start, self.stop)), self.stop)

    def fill(self, offset: int, piece: memoryview) -> None:
        """Add bytes of this block as they arrived; what is here already is not replaced."""
        if self.data is not None:
            return
        for start, stop in self._filled.gaps(offset, offset + len(piece)):
            self._insert(start, piece[start - offset : stop - offset])
            self._filled.add(start, stop)
        if self._filled.covers(self.start, self.stop) and not self.sealed:
            self.complete(self.joined())
        elif len(self._pieces) > _MOST_PIECES:
            self._tidy()

    def _insert(self, start: int, piece: memoryview) -> None:
        """Add a piece. One that lies in memory behind the one before it becomes a part of that."""
        index = bisect(self._pieces, start, key=lambda item: item[0])
        if index:
            at, before = self._pieces[index - 1]
            if at + len(before) == start and (both := together(before, piece)) is not None:
                self._pieces[index - 1] = at, both
                return
        self._pieces.insert(index, (start, piece))

    def _tidy(self) -> None:
        """Join pieces that follow each other: each costs memory of its own, and may keep a larger one alive."""
        runs: list[tuple[int, list[memoryview]]] = []
        end = -1
        for at, piece in self._pieces:
            if at == end:
                runs[-1][1].append(piece)
            else:
                runs.append((at, [piece]))
            end = at + len(piece)
        self._pieces = [(at, memoryview(_joined(pieces))) for at, pieces in runs]

    def complete(self, data: Octets) -> None:
        """Take the whole block."""
        self.data = data
        self.sealed = False
        self._pieces, self._filled = [], RangeSet()

    def empty(self) -> None:
        """Forget what has come."""
        self.data = None
        self._pieces, self._filled = [], RangeSet()

    def read(self, start: int, stop: int) -> Octets | None:
        """Return the file's bytes from `start` of this block to `stop` or the first missing one; None for no bytes.

        They are a view where they can be: a program's read is not copied before the kernel takes it.
        """
        if self.sealed:
            return None
        if self.data is not None:
            return memoryview(self.data)[start - self.start : stop - self.start]
        stop = min(stop, self.first_gap(start))
        parts = [
            piece[max(start - at, 0) : stop - at]
            for at, piece in self._pieces
            if at < stop and at + len(piece) > start
        ]
        return (parts[0] if len(parts) == 1 else b"".join(parts)) or None

    def gaps(self) -> list[tuple[int, int]]:
        """List the missing parts of the block."""
        return [] if self.data is not None else self._filled.gaps(self.start, self.stop)

    def joined(self) -> Octets:
        """Return the pieces one after the other: the whole block where no gap is left.

        Without a copy where they lie like that in memory already: in the block that the network's bytes came into.
        """
        return _joined([piece for _, piece in self._pieces])


def _joined(pieces: Sequence[memoryview]) -> Octets:
    """Return pieces as one, which keeps no other memory alive."""
    return pieces[0] if len(pieces) == 1 and is_all(pieces[0]) else b"".join(pieces)


class Pages:
    """All pages of an account. Pages that nobody has pinned are dropped, the longest unread first."""

    def __init__(self, budget: MemoryBudget, recent_bytes: int) -> None:
        self._budget = budget
        self._recent_bytes = recent_bytes
        self._pages: dict[BlockKey, Page] = {}
        self._idle: OrderedDict[BlockKey, Page] = OrderedDict()
        """INVARIANT: exactly the pages without pins, the next one to go first."""
        self._idle_bytes = 0
        budget.add_reclaimer(self.reclaim)

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, key: BlockKey) -> Page | None:
        """Return the page if it is in memory, whole or not; it becomes the last one to go."""
        page = self._pages.get(key)
        if page is not None and page.pins == 0:
            self._idle.move_to_end(key)
        return page

    def open(self, key: BlockKey, start: int, stop: int, *, urgent: bool, force: bool = False) -> Page | None:
        """Return the page of `key`, new and pinned by nobody if needed; None when there is no room."""
        page = self._pages.get(key)
        if page is None:
            if not self._budget.take_nowait(stop - start, urgent=urgent, force=force):
                return None
            page = self._pages[key] = Page(key, start, stop)
            self._rest(page)
        return page

    def pin(self, page: Page) -> None:
        """Keep the page until `unpin`."""
        if page.pins == 0:
            del self._idle[page.key]
            self._idle_bytes -= page.stop - page.start
        page.pins += 1

    def unpin(self, page: Page) -> None:
        """Let the page go when nobody else keeps it; it may be dropped at once."""
        page.pins -= 1
        if page.pins == 0:
            self._rest(page)
            self.reclaim(self._idle_bytes - self._recent_bytes)
            # Those who wait for room can have this page's now.
            self._budget.nudge()

    def demote(self, page: Page) -> None:
        """Drop this page before all others: a sequential reader is through with it."""
        if page.pins == 0:
            self._idle.move_to_end(page.key, last=False)

    def reclaim(self, size: int) -> None:
        """Drop pages of together at least `size` bytes, as far as there are any that may go."""
        while size > 0 and self._idle:
            key, page = self._idle.popitem(last=False)
            del self._pages[key]
            self._idle_bytes -= page.stop - page.start
            size -= page.stop - page.start
            self._budget.give_back(page.stop - page.start)

    def drop(self, ino: Ino, version: ContentVersion) -> None:
        """Drop the pages of one version that nobody has pinned."""
        keys = [key for key in self._idle if key[:2] == (ino, version)]
        for key in keys:
            self._idle.move_to_end(key, last=False)
        self.reclaim(sum(self._pages[key].stop - self._pages[key].start for key in keys))

    def clear(self) -> None:
        """Drop every page that nobody has pinned."""
        self.reclaim(self._idle_bytes)

    def _rest(self, page: Page) -> None:
        self._idle[page.key] = page
        self._idle_bytes += page.stop - page.start


def trim_heap() -> None:
    """Have the C library give freed memory back to the system; takes milliseconds: not on the loop.

    glibc keeps what lies below the newest allocation for ever: 60 MB after a large file. Others need no asking.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

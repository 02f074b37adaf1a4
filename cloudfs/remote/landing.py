"""Memory in which long bodies come to lie: whole blocks, aligned to pages, used again and again.

A block is read from the socket into its place, and not copied any more on its way to a program and to the disk: replies
are views of it, and the block cache writes it past the page cache, which wants such memory (`blocks/valuefile`). Fresh
memory costs ten times as much as a copy, since the kernel has to find and clear each of its pages.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref

from cloudfs.types import BLOCK_SIZE

__all__ = ["Landing", "Strip"]

_MOST_FREE = 16
"""The cache takes eight blocks together and gives them back together, while eight others come in."""
_NOTHING = memoryview(b"")
_FRESH = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
"""All pages at once: a third of the time that it takes to find them one by one."""


class _Block(ctypes.Array[ctypes.c_ubyte]):
    """A block's memory while anybody has a view of it: of its end one hears, and the memory is still there then."""

    _type_ = ctypes.c_ubyte
    _length_ = BLOCK_SIZE


class Landing:
    """The memory for all bodies of one account.

    INVARIANT: a block is used again only once nobody has a view of any of its bytes.
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._open = 0
        """Bodies that come now: without any nothing is kept for the next one."""

    @property
    def free_blocks(self) -> int:
        """So many are kept for what comes next."""
        return len(self._free)

    def open(self) -> Strip:
        """Return where one body may come to lie."""
        self._open += 1
        return Strip(self)

    def closed(self) -> None:
        """One of the bodies has ended."""
        self._open -= 1
        if not self._open:
            self._free.clear()

    def new_block(self) -> memoryview:
        """Return the memory of a whole block, with anything in it; it is used again once no view of it is left."""
        memory = self._free.pop() if self._free else mmap.mmap(-1, BLOCK_SIZE, flags=_FRESH)
        block = _Block.from_buffer(memory)
        weakref.finalize(block, self._take_back, memory).atexit = False
        return memoryview(block).cast("B")

    def _take_back(self, memory: mmap.mmap) -> None:
        """Runs in whichever thread had the last view."""
        if self._open and len(self._free) < _MOST_FREE:
            self._free.append(memory)


class Strip:
    """The memory of one body, block by block."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._rest = _NOTHING
        """What is left of the block that is being filled."""

    def rest(self, size: int) -> memoryview:
        """Return the memory of the next `size` (1 to BLOCK_SIZE) bytes, after which a block of the file ends.

        A block of the file begins where its memory does, so what was read of it lies as in the file.
        """
        if len(self._rest) != size:
            self._rest = self._landing.new_block()[BLOCK_SIZE - size :]
        return self._rest

    def landed(self, count: int) -> memoryview:
        """Take notice that so many bytes are in the memory that `rest` returned last; returns them."""
        landed = self._rest[:count]
        # An empty view would keep the block as well.
        self._rest = self._rest[count:] if count < len(self._rest) else _NOTHING
        return landed

    def close(self) -> None:
        """Expect no more of it; what has landed stays as long as anybody has a view of it."""
        self._rest = _NOTHING
        self._landing.closed()

"""Where the bytes of a version are right now: in memory, in the block cache, on their way. NO CHECKPOINT here."""

from __future__ import annotations

from cloudfs.content.line import Line
from cloudfs.content.memory import BlockKey, Pages
from cloudfs.content.source import BlockCache, Source
from cloudfs.ranges import blocks_of
from cloudfs.types import BLOCK_SIZE

__all__ = ["Presence"]


class Presence:
    """Looks at pages and transfers first: asking the block cache costs 15 µs, and more while it is written to."""

    def __init__(self, blocks: BlockCache, pages: Pages, line: Line, reach_bytes: int) -> None:
        self._blocks = blocks
        self._pages = pages
        self._line = line
        self._reach_bytes = reach_bytes
        """A transfer that is further away from a byte does not count as bringing it."""

    def whole(self, source: Source, offset: int) -> bool:
        """Tell whether the whole block of `offset` is in memory or in the block cache."""
        key = _key(source, offset)
        return self._in_memory(key) or self._blocks.has(*key)

    def comes(self, source: Source, offset: int) -> bool:
        """Tell whether the bytes from `offset` to the end of its block are here or will be before long."""
        return self._under_way(source, offset) or self.whole(source, offset)

    def first_gap(self, source: Source, offset: int) -> int:
        """Return the first offset from `offset` on, within its block, whose byte is not in memory."""
        page = self._pages.get(_key(source, offset))
        return offset if page is None else page.first_gap(offset)

    def next_here(self, source: Source, start: int, stop: int) -> int | None:
        """Return where the first block begins, between that of `start` and `stop`, that need not be fetched."""
        later = blocks_of(start, stop)[1:]
        missing = set(self._blocks.missing(source.ino, source.version, later))
        return next(
            (
                index * BLOCK_SIZE
                for index in later
                if index not in missing
                or self._in_memory(_key(source, index * BLOCK_SIZE))
                or self._under_way(source, index * BLOCK_SIZE)
            ),
            None,
        )

    def _in_memory(self, key: BlockKey) -> bool:
        page = self._pages.get(key)
        return page is not None and page.data is not None

    def _under_way(self, source: Source, offset: int) -> bool:
        page = self._pages.get(_key(source, offset))
        missing = offset if page is None else page.first_gap(offset)
        if page is not None and missing == page.stop:
            return True
        return any(
            transfer.delivers(missing) and missing - transfer.position <= self._reach_bytes
            for transfer in self._line.active(source)
        )


def _key(source: Source, offset: int) -> BlockKey:
    return BlockKey(source.ino, source.version, offset // BLOCK_SIZE)

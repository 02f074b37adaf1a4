"""Brings all of a version into the block cache, for those who want it there and not now."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence

from cloudfs.content.filling import Stores
from cloudfs.content.launching import Launcher
from cloudfs.content.line import Line
from cloudfs.content.memory import BlockKey, Pages
from cloudfs.content.presence import Presence
from cloudfs.content.source import BlockCache, Source
from cloudfs.errors import PosixError
from cloudfs.ranges import blocks_of
from cloudfs.types import BLOCK_SIZE

__all__ = ["Sweeper", "Turn"]

_MOST_SWEEPS = 10
"""A sweep can leave holes where a block that was begun lost its memory to readers."""

Turn = Callable[[], Awaitable[None]]
"""Returns once there is time for a request."""


class Sweeper:
    """Goes over files and fetches what is missing."""

    def __init__(
        self,
        blocks: BlockCache,
        pages: Pages,
        stores: Stores,
        presence: Presence,
        line: Line,
        launcher: Launcher,
    ) -> None:
        self._blocks = blocks
        self._pages = pages
        self._stores = stores
        self._presence = presence
        self._line = line
        self._launcher = launcher

    async def bring(self, source: Source, turn: Turn | None) -> None:
        """See `Fetcher.prefetch_whole`."""
        with self._stores.noting(source) as stored:
            for _ in range(_MOST_SWEEPS):
                await self._sweep(source, turn)
                await self._stores.wait_stored(source)
                missing = self._blocks.missing(source.ino, source.version, blocks_of(0, source.size))
                if not missing:
                    return
                if not stored.isdisjoint(missing):
                    raise PosixError(
                        errno.ENOSPC, f"block cache, for {source.size} bytes of inode {source.ino}"
                    )
                self._keep_from_memory(source, missing)
        raise PosixError(errno.EAGAIN, f"prefetch of inode {source.ino}")

    async def _sweep(self, source: Source, turn: Turn | None) -> None:
        """Go once over the file and fetch what is missing; the position only moves on."""
        position, has_turn = 0, turn is None
        while position < source.size:
            block_start = position - position % BLOCK_SIZE
            if self._presence.whole(source, position):
                position = block_start + BLOCK_SIZE
                continue
            missing = self._presence.first_gap(source, block_start)
            coming = (it for it in self._line.active(source) if it.delivers(missing))
            transfer = next(coming, None)
            if transfer is None and turn is not None and not has_turn:
                await turn()
                has_turn = True
                continue  # it may be here by now
            if transfer is None:
                end = self._launcher.gap_end(source, missing, source.size)
                transfer = self._launcher.fill(source, missing, end, lowest=turn is not None)
            has_turn = turn is None
            await transfer.wait_done()
            position = max(position, transfer.position)

    def _keep_from_memory(self, source: Source, missing: Sequence[int]) -> None:
        """Have blocks kept that are in memory: the cache had no room for them, or they were dropped there since."""
        for index in missing:
            page = self._pages.get(BlockKey(source.ino, source.version, index))
            if page is not None and page.data is not None:
                self._stores.store_soon(page, page.data)

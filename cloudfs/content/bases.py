"""Brings the small versions that edits stand on into the block cache, before another client replaces them.

What was not written of an edited file are bytes of the version below. Once another client has replaced that one, what
is not cached of it is nowhere any more: the file cannot be read in full, nor sent, nor kept as a conflicted copy. So a
base of one block is fetched soon after the first write, which the upload would have to do anyway; a larger one is not
downloaded for a tail.

    first write or truncate of a version -> note -> 0.3 s -> is it still needed? -> Fetcher.prefetch_whole

The oldest first: it has been in danger for the longest time, and is the next to be sent; the worker, which has to send
besides, does not overtake.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import trio

from cloudfs.content.baseless import lacks_bytes
from cloudfs.content.fetch import Fetcher
from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.source import Source
from cloudfs.errors import CloudfsError, PosixError
from cloudfs.store.store import Store
from cloudfs.types import BLOCK_SIZE, Ino

__all__ = ["Bases", "leans_on"]

_log = logging.getLogger(__name__)

_MOMENT_S = 0.3
"""Whoever overwrites a whole file in several writes is mostly done by then; no other client is so quick."""
_AT_ONCE = 2
_MOST_WAITING = 10_000
"""What is edited beyond that is left to its upload."""
_REST_S = 30.0
"""The disk has no room for what comes, or the readers leave no memory: nothing is fetched to be thrown away."""


class Bases:
    """Fetches the bases of edited files; `run` belongs in the owner's nursery.

    `live` gives the content of an inode in use.
    """

    def __init__(self, store: Store, fetcher: Fetcher, live: Callable[[Ino], FileContent | None]) -> None:
        self._store = store
        self._fetcher = fetcher
        self._live = live
        self._noted: deque[tuple[Source, float]] = deque()
        self._waiting = trio.Semaphore(0)
        self._rests_until = 0.0

    def note(self, layer: Layer) -> None:
        """A layer was begun, and is about to be written or cut. NO CHECKPOINT."""
        base = layer.base
        if (
            not isinstance(base, Source)
            or not 0 < base.size <= BLOCK_SIZE
            or len(self._noted) >= _MOST_WAITING
        ):
            return
        self._noted.append((base, trio.current_time() + _MOMENT_S))
        self._waiting.release()

    async def run(self, may_ask: Callable[[], bool]) -> None:
        """Fetch what is noted, two at a time, for ever; nothing while `may_ask` says that it cannot be asked."""
        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(self._bring_some, may_ask)

    async def _bring_some(self, may_ask: Callable[[], bool]) -> None:
        while True:
            await self._waiting.acquire()
            base, due = self._noted.popleft()
            await trio.sleep_until(due)
            if may_ask() and trio.current_time() >= self._rests_until and self._is_needed(base):
                await self._bring(base)

    def _is_needed(self, base: Source) -> bool:
        """Tell whether a file stands on it now; whoever has it open knows more than its rows do."""
        if (content := self._live(base.ino)) is not None:
            return leans_on(content.top, base)
        node = self._store.nodes.get(base.ino)
        return node is not None and node.linked and node.content_dirty and lacks_bytes(self._store, node)

    async def _bring(self, base: Source) -> None:
        try:
            await self._fetcher.prefetch_whole(base)
        except PosixError as error:
            self._rests_until = trio.current_time() + _REST_S
            _log.debug("the bases of edited files are not kept for now: %s", error)
        except CloudfsError as error:
            # Whether it matters the upload tells.
            _log.debug("inode %d: what it was edited from was not fetched: %s", base.ino, error)


def leans_on(top: Layer | Source | None, base: Source) -> bool:
    """Tell whether bytes of a content, in layers upon a version of the server's, are known by that one only."""
    gaps = [] if top is None else [(0, top.size)]
    while isinstance(top, Layer) and gaps:
        limit = min(top.base_limit, top.size)
        gaps = [gap for start, stop in gaps for gap in top.present.gaps(start, min(stop, limit))]
        top = top.below
    return bool(gaps) and isinstance(top, Source) and top.version == base.version

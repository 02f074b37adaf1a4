"""Brings the small versions that edits stand on into the block cache, before another client replaces them.

What was not written of an edited file are bytes of the version below. Once another client has replaced that one, what
is not cached of it is nowhere any more: the file cannot be read in full, nor sent, nor kept as a conflicted copy. So a
base of one block is fetched soon after the first write, which the upload would have to do anyway; a larger one is not
downloaded for a tail.

    first write or truncate of a version -> note -> 0.05 s -> is it still needed? -> Fetcher.prefetch_whole

While the server cannot be asked it waits; what fails for a moment is tried again for as long as it is needed.

The newest first: where the server is slower than the edits come, the oldest is lost most probably. To look for that in
vain takes two requests, while the next one would be lost, and so on. It is the next to be sent, which fetches it, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from cloudfs.content.baseless import lacks_bytes
from cloudfs.content.fetch import Fetcher
from cloudfs.content.layers import FileContent, Layer, Whose
from cloudfs.content.source import Source
from cloudfs.errors import CloudfsError, PosixError
from cloudfs.store.store import Store
from cloudfs.types import BLOCK_SIZE, Ino

__all__ = ["Bases", "leans_on", "seen_there_s"]

_log = logging.getLogger(__name__)

_MOMENT_S = 0.05
"""Whoever overwrites a whole file of so few bytes in several writes is mostly done by then. No longer: a server under
load carries out another client's change before a request that came a moment later."""
_AGAIN_S = 2.0
"""What failed is tried again after so long, then twice as long, up to a minute."""
_AGAIN_MOST_S = 60.0
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
        self._noted: list[tuple[Source, float, float]] = []
        """A base, when it is due, and how long to wait after a failure."""
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
        self._put(base, _MOMENT_S, _AGAIN_S)

    def _put(self, base: Source, wait_s: float, again_s: float) -> None:
        self._noted.append((base, trio.current_time() + wait_s, again_s))
        self._waiting.release()

    async def run(self, may_ask: Callable[[], bool]) -> None:
        """Fetch what is noted, two at a time, for ever; nothing while `may_ask` says that it cannot be asked."""
        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(self._bring_some, may_ask, nursery)

    async def _bring_some(self, may_ask: Callable[[], bool], nursery: trio.Nursery) -> None:
        while True:
            await self._waiting.acquire()
            base, due, again_s = self._noted.pop()
            await trio.sleep_until(due)
            if trio.current_time() < self._rests_until or not self._is_needed(base):
                continue
            if not may_ask():
                self._noted.append((base, trio.current_time() + _AGAIN_S, again_s))
                self._waiting.release()
            elif not await self._bring(base):
                nursery.start_soon(self._note_again, base, again_s)

    async def _note_again(self, base: Source, again_s: float) -> None:
        """Beside the queue, in which what is new is not to wait for it."""
        await trio.sleep(again_s)
        self._put(base, 0.0, min(2 * again_s, _AGAIN_MOST_S))

    def _is_needed(self, base: Source) -> bool:
        """Tell whether a file stands on it now; whoever has it open knows more than its rows do."""
        if (content := self._live(base.ino)) is not None:
            return leans_on(content.top, base)
        node = self._store.nodes.get(base.ino)
        return node is not None and node.linked and node.content_dirty and lacks_bytes(self._store, node)

    async def _bring(self, base: Source) -> bool:
        """Fetch one; tell whether that is settled: here, or not to be had."""
        try:
            await self._fetcher.prefetch_whole(base)
        except PosixError as error:
            self._rests_until = trio.current_time() + _REST_S
            _log.debug("the bases of edited files are not kept for now: %s", error)
        except CloudfsError as error:
            # Whether it matters the upload tells.
            _log.debug("inode %d: what it was edited from was not fetched: %s", base.ino, error)
            return not error.temporary
        return True


def leans_on(top: Layer | Source | None, base: Source) -> bool:
    """Tell whether bytes of a content, in layers upon a version of the server's, are known by that one only."""
    gaps = [] if top is None else [(0, top.size)]
    while isinstance(top, Layer) and gaps:
        gaps = [gap for start, stop in gaps for gap in top.pieces(Whose.BASE, start, stop)]
        top = top.below
    return bool(gaps) and isinstance(top, Source) and top.version == base.version


def seen_there_s(store: Store, base: Layer | Source | None) -> float | None:
    """Return when the server was last seen to have a version, in Unix s by its clock; None where that is not known."""
    node = store.nodes.get(base.ino) if isinstance(base, Source) else None
    if node is None or base is None or node.s_parent is None or store.is_observed(node.ino):
        return None
    if (node.s_version, node.remote_version) != (base.version, base.remote):
        return None
    return store.seen_there_s(node.s_parent)

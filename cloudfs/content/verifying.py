"""Files of several blocks: checked against their checksum once all of their blocks have arrived.

Before that nothing can be checked, and programs read on meanwhile: a quick line must not wait for a hash. So the
check comes afterwards, when no transfer has run for a second, from the block cache, and gives way to transfers. Files
of one block are checked before their first byte is handed out (`filling.CheckedFiller`). What was read in parts only
is not checked, nor what was written here, which was hashed when it was sent.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from cloudfs.concurrency.threads import in_read_thread
from cloudfs.content import checksums
from cloudfs.content.judging import Judge, Verdict
from cloudfs.content.memory import Pages
from cloudfs.content.source import BlockCache, Source
from cloudfs.errors import CloudfsError
from cloudfs.ranges import block_span, blocks_of
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino

__all__ = ["Verifier", "checks_first"]

_log = logging.getLogger(__name__)

_QUIET_S = 1.0
_MOST_WAITING = 10_000
"""As many as are hydrated without a pause; 3 MB."""


def checks_first(source: Source) -> bool:
    """Tell whether a version is checked before any of it is handed out: those of a single block."""
    return 0 < source.size <= BLOCK_SIZE and checksums.can_check(source.remote.checksum)


class Verifier:
    """Checks in the background; `run` belongs in the owner's nursery.

    `busy` tells whether anything comes from the server or waits to be stored; `fetch` brings all of a version into
    the block cache; `dropped` is told of each inode of which programs may have been given wrong bytes.
    """

    def __init__(
        self,
        blocks: BlockCache,
        pages: Pages,
        judge: Judge,
        *,
        busy: Callable[[], bool],
        fetch: Callable[[Source], Awaitable[None]],
        dropped: Callable[[Ino], None],
    ) -> None:
        self.checked = 0
        """Files that were hashed to the end."""
        self._blocks = blocks
        self._pages = pages
        self._judge = judge
        self._busy = busy
        self._fetch = fetch
        self._dropped = dropped
        self._waiting: OrderedDict[tuple[Ino, ContentVersion], Source] = OrderedDict()
        self._came = trio.Event()
        self._activity = 0
        self._checking = False

    @property
    def pending(self) -> int:
        """Versions that wait for a check, or are being checked."""
        return len(self._waiting) + self._checking

    def note(self, source: Source) -> None:
        """Something of this version is fetched now: it may be complete afterwards."""
        self._activity += 1
        if source.size <= BLOCK_SIZE or not checksums.can_check(source.remote.checksum):
            return
        self._waiting[source.ino, source.version] = source
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        self._came.set()

    async def run(self) -> None:
        """Check what has become complete; for ever."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            await self._wait_quiet()
            while self._waiting:
                _, source = self._waiting.popitem(last=False)
                self._checking = True
                try:
                    await self._check(source)
                finally:
                    self._checking = False

    async def _wait_quiet(self) -> None:
        """Return once nothing was fetched for a second."""
        while True:
            before = self._activity
            await trio.sleep(_QUIET_S)
            if before == self._activity and not self._busy():
                return

    async def _check(self, source: Source) -> None:
        if self._blocks.held_bytes(source.ino, source.version) < source.size:
            return  # in parts only; the next transfer notes it again
        came = await self._hash(source)
        if came is None:
            return
        self.checked += 1
        verdict = self._judge.judge(source, came)
        if verdict is Verdict.SERVE:
            return
        self._pages.drop(source.ino, source.version)
        await self._blocks.drop(source.ino, source.version)
        self._pages.drop(source.ino, source.version)  # what a reader has put there from the disk meanwhile
        self._dropped(source.ino)
        if verdict is Verdict.FETCH_AGAIN:
            await self._fetch_again(source)

    async def _hash(self, source: Source) -> str | None:
        """Return the checksum of the cached blocks, None where one has gone; transfers go first."""
        said = source.remote.checksum or ""
        digest = checksums.begin(said)
        for index in blocks_of(0, source.size):
            if self._busy():
                await self._wait_quiet()
            block = await self._blocks.get(source.ino, source.version, index)
            low, high = block_span(index, source.size)
            if block is None or len(block) != high - low:
                return None
            await in_read_thread(digest.update, block)
        return checksums.spelled(said, digest)

    async def _fetch_again(self, source: Source) -> None:
        """Have it all once more; the transfers note it, so that it is checked again."""
        try:
            await self._fetch(source)
        except CloudfsError as error:
            # Whoever reads it next fetches it again, and the case is still known.
            _log.info("%s cannot be fetched again now: %s", self._judge.name_of(source), error)

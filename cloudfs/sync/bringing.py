"""Brings files that are always to be here, behind everybody else.

Programs go first: nothing is asked for while one waits for the server, but for a minute at most; and what is under way
stops with the next whole block. The smallest come first, so that nothing waits for a file that takes a day.

While it is to rest (`pausing`) nothing is brought, and what was under way is broken off.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter

import msgspec
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.concurrency.slices import slices
from cloudfs.content.fetch import Fetcher
from cloudfs.content.source import Source
from cloudfs.errors import (
    Changed,
    ChecksumMismatch,
    Locked,
    NotAuthenticated,
    NotFound,
    PosixError,
    RemoteError,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.remote.limiting import Rank, asking_as
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.kept import Kept, KeptWalker
from cloudfs.sync.pausing import Rest
from cloudfs.sync.pinned import PinKeeper
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino

__all__ = ["MOST_MISSING", "NO_ROOM", "OUTAGES", "Bringer", "Obstruction"]

_log = logging.getLogger(__name__)

_AT_ONCE = 2
"""Requests at the same time; the line has two places for all that nobody waits for."""
_QUIET_S = 1.0
"""A program that waited for the server less long ago may go on."""
_PATIENCE_S, _LOOK_S = 60.0, 0.25
"""So long programs go first without a break; then comes one request, or it would never end beside a busy one."""
MOST_MISSING = 10_000
"""So many files are noted at once; those beyond come with the next pass."""
_PART = 128
"""Files of these that are looked up between two checkpoints: 3 ms."""
_ARCHIVE_FILES, _FEWEST_FILES = 100, 4
"""As in `content/prefetch`: what one archive brings, and from where on it is worth its second request."""
_NO_ARCHIVES_S, _FAILED_S = 3600.0, 120.0
"""How long archives are left alone where the server makes none, and after one failed."""
_AGAIN_S = 600.0
"""After so long what could not be brought is tried again."""

OUTAGES = Unreachable, Unavailable, NotAuthenticated

NO_ROOM = "no room on the disk"


class _Interrupted(Exception):
    """There is something new to count; the rest of a file comes afterwards."""


class Obstruction(msgspec.Struct, frozen=True):
    """Why a file that is to be here is not."""

    ino: Ino
    version: ContentVersion
    missing_bytes: int
    reason: str
    until: float = math.inf
    """trio time until which it is not tried again."""

    @property
    def for_room(self) -> bool:
        """It would not fit on the disk."""
        return self.reason == NO_ROOM


class Bringer:
    """One account's: brings what a walk over all that is kept found missing (`kept`).

    `outdated` is told where a file turned out to be another version on the server. Nothing here raises.
    """

    def __init__(
        self,
        store: Store,
        keeper: PinKeeper,
        walker: KeptWalker,
        fetcher: Fetcher,
        blocks: BlockStore,
        rest: Rest,
        outdated: Callable[[Ino], None],
    ) -> None:
        self.brought: Callable[[Ino], None] = lambda _: None
        """Hears of each file that came whole."""
        self._store = store
        self._keeper = keeper
        self._walker = walker
        self._fetcher = fetcher
        self._blocks = blocks
        self._rest = rest
        self._outdated = outdated
        self.kept = Kept()
        """As the last walk found it, and less what came since."""
        self._obstructions: dict[Ino, Obstruction] = {}
        self._under_way: dict[Ino, tuple[Source, int, trio.CancelScope]] = {}
        """Files being brought, and what was missing of them when that began."""
        self.outage = self.again = self.more = False
        """The server is away, or it is to rest; something passes soon; there is more than was noted."""
        self._archives_from = -math.inf

    # What others ask. NO CHECKPOINT

    def missing_bytes(self) -> int:
        """Return how much is still to come, to the block."""
        came = (was - self._fetcher.missing_bytes(source) for source, was, _ in self._under_way.values())
        return max(0, self.kept.missing_bytes - sum(came))

    def under_way(self) -> list[Ino]:
        """Return the files that are being brought at this moment."""
        return list(self._under_way)

    def obstructions(self) -> list[Obstruction]:
        """Return what cannot be brought, as far as it is known."""
        return list(self._obstructions.values())

    def begin_pass(self) -> None:
        """Forget what the last pass met."""
        self.outage, self.again, self.more = self._rest.is_on, False, False

    def found(self, kept: Kept) -> None:
        """A walk has counted anew."""
        self.kept = kept
        missing = set(kept.missing)
        self._obstructions = {ino: it for ino, it in self._obstructions.items() if ino in missing}
        self._keeper.note_cached(kept.cached_bytes)

    async def stop_unkept(self) -> None:
        """End what is under way of files that are not to be here any more, and have its connections closed."""
        for ino, (_, _, scope) in list(self._under_way.items()):
            node = self._store.nodes.get(ino)
            if node is None or not self._keeper.keeps(node):
                scope.cancel()
                await self._fetcher.quiesce(ino)

    async def bring(self, is_interrupted: Callable[[], bool]) -> None:
        """Bring what is missing; `is_interrupted` tells that something new is to be counted first."""
        units = iter(await self._units(self.kept.missing, trio.current_time()))
        with asking_as(lambda: Rank.BACKGROUND):
            async with trio.open_nursery() as nursery:
                for _ in range(_AT_ONCE):
                    nursery.start_soon(self._bring_some, units, is_interrupted)

    def _is_put_off(self, node: Node, now: float) -> bool:
        known = self._obstructions.get(node.ino)
        return known is not None and now < known.until and node.version == known.version

    async def _units(self, missing: Sequence[Ino], now: float) -> list[list[Ino]]:
        """Return the small files first, those of one folder together, then the others, the smallest first."""
        small: list[tuple[Ino | None, Ino]] = []
        large: list[tuple[int, Ino]] = []
        for part in slices(missing, _PART):
            for node in filter(None, map(self._store.nodes.get, part)):
                if self._is_put_off(node, now):
                    continue
                if node.size <= BLOCK_SIZE:
                    small.append((node.parent, node.ino))
                else:
                    large.append((node.size, node.ino))
            await trio.lowlevel.checkpoint()
        folders = ([ino for _, ino in members] for _, members in groupby(small, itemgetter(0)))
        together = [part for inos in folders for part in slices(inos, _ARCHIVE_FILES)]
        return together + [[ino] for _, ino in sorted(large)]

    async def _bring_some(self, units: Iterator[list[Ino]], is_interrupted: Callable[[], bool]) -> None:
        for unit in units:
            if self.outage or is_interrupted():
                return
            fitting = [ino for ino in unit if await self._fits(ino)]
            if len(fitting) >= _FEWEST_FILES and trio.current_time() >= self._archives_from:
                await self._by_archive(fitting)
            for ino in fitting:
                if not self.outage:
                    await self._one(ino, is_interrupted)

    async def _turn(self) -> None:
        """Wait while programs wait for the server; a minute at most."""
        with trio.move_on_after(_PATIENCE_S):
            while self._fetcher.idle_s() < _QUIET_S:  # noqa: ASYNC110  # every read sets it: cheaper than an event
                await trio.sleep(_LOOK_S)

    def _wanted(self, ino: Ino) -> Source | None:
        """Return the version that is to be brought, if one still is. NO CHECKPOINT."""
        node = self._store.nodes.get(ino)
        if node is None or not node.linked or ino in self._under_way or not self._keeper.keeps(node):
            return None
        source = self._walker.source(node)
        return source if source is not None and self._fetcher.missing_bytes(source) else None

    async def _fits(self, ino: Ino) -> bool:
        """Tell whether there is room for what is missing of a file; half of one would only be in the way."""
        room_bytes = await self._blocks.room_bytes()
        source = self._wanted(ino)
        if source is None:
            return False
        coming = sum(self._fetcher.missing_bytes(other) for other, _, _ in self._under_way.values())
        if self._fetcher.missing_bytes(source) <= room_bytes - coming:
            return True
        self._obstruct(source, NO_ROOM, until=0.0)
        return False

    async def _by_archive(self, inos: Sequence[Ino]) -> None:
        """Bring small files of one folder in one request, as far as that goes; the others are left to `_one`."""
        await self._turn()
        # NO CHECKPOINT before the archivist has looked at the versions, which are those of this very ETag.
        sources = [source for ino in inos if (source := self._wanted(ino)) is not None]
        node = self._store.nodes.get(inos[0])
        folder = None if node is None or node.parent is None else self._store.nodes.get(node.parent)
        seen = folder.listed_etag if folder is not None and folder.listed_etag == folder.s_etag else None
        try:
            with self._begin(sources), self._rest.breakable("files that are kept here"):
                await self._fetcher.prefetch_archive(sources, listed_etag=seen or "")
        except OUTAGES:
            self.outage = True
        except Unsupported:
            self._archives_from = trio.current_time() + _NO_ARCHIVES_S
        except (Changed, NotFound):
            self._outdated(inos[0])
        except RemoteError as error:
            _log.debug("archives are left alone for a while: %s", error)
            self._archives_from = trio.current_time() + _FAILED_S

    async def _one(self, ino: Ino, is_interrupted: Callable[[], bool]) -> None:
        source = self._wanted(ino)
        if source is None:
            return
        try:
            with self._begin([source]), self._rest.breakable("a file that is kept here"):
                await self._fetcher.prefetch_whole(source, partial(self._turn_or_end, is_interrupted))
        except _Interrupted:
            _log.debug("the rest of inode %d comes after what is new", ino)
        except (PosixError, ChecksumMismatch, RemoteError) as error:
            self._failed(source, error)
            if self._rest.is_on:
                await self._fetcher.quiesce(ino)  # what nobody waits for ends by itself only after a while

    async def _turn_or_end(self, is_interrupted: Callable[[], bool]) -> None:
        await self._turn()
        if is_interrupted():
            raise _Interrupted

    def _failed(self, source: Source, error: PosixError | ChecksumMismatch | RemoteError) -> None:
        """Note why a file did not come, and when it is tried again."""
        if isinstance(error, OUTAGES):
            self.outage = True
        elif isinstance(error, Changed | NotFound):
            self._outdated(source.ino)
        elif isinstance(error, Locked) or (isinstance(error, PosixError) and error.errno != errno.ENOSPC):
            self.again = True  # an upload of ours, or readers that leave no memory
        else:
            reason = NO_ROOM if isinstance(error, PosixError) else str(error)
            self._obstruct(source, reason, until=trio.current_time() + _AGAIN_S)

    @contextmanager
    def _begin(self, sources: Sequence[Source]) -> Iterator[None]:
        """Count files as under way, and then as here as far as they came. Whoever frees them meanwhile ends it."""
        with trio.CancelScope() as scope:
            for source in sources:
                self._under_way[source.ino] = source, self._fetcher.missing_bytes(source), scope
            self._tell_cached()
            try:
                yield
            finally:
                for source in sources:
                    self._settle(source)
                self._tell_cached()

    def _tell_cached(self) -> None:
        """What comes now counts already, or it would push out what is cached for others."""
        coming = sum(was for _, was, _ in self._under_way.values())
        self._keeper.cached_bytes = self.kept.cached_bytes + coming

    def _settle(self, source: Source) -> None:
        _, was, _ = self._under_way.pop(source.ino)
        left = self._fetcher.missing_bytes(source)
        self.kept.missing_bytes -= was - left
        if not left:
            self.kept.missing_files -= 1
            self._obstructions.pop(source.ino, None)
            if was:
                self.brought(source.ino)
            self.more = len(self.kept.missing) >= MOST_MISSING

    def _obstruct(self, source: Source, reason: str, *, until: float) -> None:
        known = self._obstructions.get(source.ino)
        if known is None or known.reason != reason:
            path = self._store.nodes.local_path(source.ino)
            _log.warning("%s is to be kept here and cannot be brought: %s", path, reason)
        missing_bytes = self._fetcher.missing_bytes(source)
        self._obstructions[source.ino] = Obstruction(source.ino, source.version, missing_bytes, reason, until)

"""Brings here what is always to be here, and keeps it up to date; in the background, behind everybody else.

    something changed -> a moment's rest -> count what is missing (`kept`) -> bring it, file by file -> rest

Nothing is remembered as work: what is missing follows from the words, the tree and the block cache, so a crash leaves
nothing to repair. A pass over everything costs 20 µs a file, and rests ten times as long as it took.

Programs go first: nothing is asked for while one waits for the server, but for a minute at most; and what is under way
stops with the next whole block. A change that comes while much is brought is looked at after a moment, and the smallest
come first, so that nothing waits for a file that takes a day.

While it is to rest (`pausing`) nothing is brought, and what was under way is broken off.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import msgspec
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.concurrency.slices import slices
from cloudfs.content.fetch import Fetcher
from cloudfs.content.source import Source
from cloudfs.errors import (
    Changed,
    ChecksumMismatch,
    CloudfsError,
    Locked,
    NotAuthenticated,
    NotFound,
    PosixError,
    RemoteError,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.metadata.pinning import standing
from cloudfs.remote.limiting import Rank, asking_as
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.kept import Kept, KeptWalker
from cloudfs.sync.pausing import Rest
from cloudfs.sync.pinned import PinKeeper, Root
from cloudfs.types import BLOCK_SIZE, ROOT, ContentVersion, Ino

__all__ = ["Freed", "Hydrator", "Obstruction"]

_log = logging.getLogger(__name__)

_GATHER_S = 1.0
"""Changes come in company."""
_REST_FACTOR = 10
"""So many times as long as a pass took to count, nothing is counted again."""
_LEAST_S = 5.0
"""So long at least what was found missing is brought, before it is counted anew because of a change."""
_RENEW_FACTOR = 20
"""So many times as long as listing all folders took, it is not done again where only that shows what others change."""
_SOON_S, _WAITING_S, _OUTAGE_S, _CALM_S = 5.0, 30.0, 60.0, 600.0
"""The next pass, where nothing calls for one before: after something that passes soon, while files wait for an upload,
while the server is away, and otherwise."""
_AT_ONCE = 2
"""Requests at the same time; the line has two places for all that nobody waits for."""
_QUIET_S = 1.0
"""A program that waited for the server less long ago may go on."""
_PATIENCE_S, _LOOK_S = 60.0, 0.25
"""So long programs go first without a break; then comes one request, or it would never end beside a busy one."""
_MOST_MISSING = 10_000
"""So many files are noted at once; those beyond come with the next pass."""
_PART = 128
"""Files of these that are looked up between two checkpoints: 3 ms."""
_ARCHIVE_FILES, _FEWEST_FILES = 100, 4
"""As in `content/prefetch`: what one archive brings, and from where on it is worth its second request."""
_NO_ARCHIVES_S, _FAILED_S = 3600.0, 120.0
"""How long archives are left alone where the server makes none, and after one failed."""
_AGAIN_S = 600.0
"""After so long what could not be brought is tried again."""

_OUTAGES = Unreachable, Unavailable, NotAuthenticated

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


class Freed(msgspec.Struct, frozen=True):
    """What was given back."""

    files: int
    bytes: int
    changed: int
    """Files that stayed as they are: they have changes that the server does not have yet."""


class Members(NamedTuple):
    """What the hydrator needs of the tree."""

    lookup: Callable[[Ino, bytes], Awaitable[Node]]
    """Finds a name in a folder; PosixError where there is none, RemoteError where that cannot be known now."""
    first: Callable[[Ino], Awaitable[None]]
    """Has the members of a folder be known that nobody has seen; RemoteError."""
    refresh: Callable[[Ino], Awaitable[None]]
    """Lists any folder; RemoteError."""
    outdated: Callable[[Ino], None]
    """A file turned out to be another version on the server."""


class Hydrator:
    """One account's. `run` belongs in the owner's nursery; nothing here raises where it runs in the background.

    `watched`: changes of others are found out by themselves; else folders that are kept are listed now and then.
    """

    def __init__(
        self,
        store: Store,
        keeper: PinKeeper,
        walker: KeptWalker,
        fetcher: Fetcher,
        blocks: BlockStore,
        members: Members,
        rest: Rest,
        *,
        watched: Callable[[], bool],
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._walker = walker
        self._fetcher = fetcher
        self._blocks = blocks
        self._members = members
        self._rest = rest
        self._watched = watched
        self.brought: Callable[[Ino], None] = lambda _: None
        """Hears of each file that came whole."""
        self.kept = Kept()
        """As the last walk found it, and less what came since."""
        self._obstructions: dict[Ino, Obstruction] = {}
        self._under_way: dict[Ino, tuple[Source, int, trio.CancelScope]] = {}
        """Files being brought, and what was missing of them when that began."""
        self._bell = trio.Event()
        self._ended = trio.Event()
        """Set, and replaced, at the end of each pass."""
        self._begun = self._whole = 0
        """Passes so far, and the last one that nothing new has ended before its time."""
        self._recount_at = 0.0
        """From when on something new ends a pass."""
        self._outage = self._again = self._more = False
        """The server is away, or it is to rest; something passes soon; there is more than was noted."""
        self._archives_from = -math.inf
        self._renew_at = -math.inf
        """From when on folders are listed again because nobody else does."""

    # What others ask. NO CHECKPOINT

    def wake(self) -> None:
        """Something may be missing, or no longer be wanted."""
        self._bell.set()

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

    # What people ask

    async def wait_pass(self) -> None:
        """Have all be looked at from now on, and wait until that was done, and what was missing brought, or tried."""
        wanted = self._begun + 1
        self.wake()
        while True:
            await self._ended.wait()
            if self._whole >= wanted:
                return

    async def count(self, ino: Ino) -> Kept:
        """Count what is to be kept at and below a node, with what is missing; asks nobody."""
        stand = self._keeper.stand(ino)
        return Kept() if stand is None else await self._walker.count([Root(ino, stand)])

    async def free(self, ino: Ino, told: Callable[[Freed], None] = lambda _: None) -> Freed:
        """Drop the cached blocks of all at or below a node that is not to be kept; no byte that the server lacks.

        `told` hears what was freed so far.
        """
        for at, (_, _, scope) in list(self._under_way.items()):
            node = self._store.nodes.get(at)
            if node is None or not self._keeper.keeps(node):
                scope.cancel()
                await self._fetcher.quiesce(at)
        files = freed = changed = 0
        left = [ino]
        while left:
            at = left.pop()
            node = self._store.nodes.get(at)
            if node is None or not node.linked:
                continue
            if node.folder:
                left += map(Ino, await self._store.child_inos(at))
            elif node.content_dirty:
                changed += 1
            elif (source := self._walker.source(node)) is not None and not self._keeper.keeps(node):
                here = source.size - self._fetcher.missing_bytes(source)
                if here:
                    await self._blocks.drop(source.ino, source.version)
                    files, freed = files + 1, freed + here
                    told(Freed(files, freed, changed))
            await trio.lowlevel.checkpoint()
        self.wake()
        return Freed(files, freed, changed)

    # The work

    async def run(self) -> None:
        """For ever: look at what is to be here when something changed, or it is time, and bring it."""
        self.wake()
        while True:
            with trio.move_on_after(self._pause_s()):
                await self._bell.wait()
            await trio.sleep(_GATHER_S)
            self._bell = trio.Event()
            if self._keeper.active():
                await self._pass()
                await trio.sleep_until(max(trio.current_time(), self._recount_at))
            else:
                self._begun += 1
                self._found(Kept())
                self._end_pass(whole=True)

    def _pause_s(self) -> float:
        if self._outage:
            return _OUTAGE_S
        if self._again or self._more:
            return _SOON_S
        return _WAITING_S if self.kept.waiting else _CALM_S

    async def _pass(self) -> None:
        """Count, and bring what is missing, until all was tried or something new is to be counted."""
        self._begun += 1
        self._outage, self._again, self._more = self._rest.is_on, False, False
        whole = False
        try:
            took_s = await self._count()
            self._recount_at = trio.current_time() + _REST_FACTOR * took_s
            whole = await self._bring_all(self.kept.missing)
        except CloudfsError as error:
            # In the background nobody else is there to meet it; the next pass begins anew.
            _log.warning("what is to be kept here could not be looked at: %s", error)
            self._again = True
        finally:
            self._end_pass(whole=whole)

    def _end_pass(self, *, whole: bool) -> None:
        if whole:
            self._whole = self._begun
        self._ended.set()
        self._ended = trio.Event()

    async def _count(self) -> float:
        """Count; return how many seconds that took, without the server's part."""
        waited_s = 0.0
        renew = not self._watched() and trio.current_time() >= self._renew_at

        async def know(node: Node) -> None:
            nonlocal waited_s
            began = trio.current_time()
            await self._know(node, renew=renew)
            waited_s += trio.current_time() - began

        began = trio.current_time()
        await self._find_lost()
        roots = self._keeper.roots() + await self._default_roots()
        waited_s += trio.current_time() - began
        kept = await self._walker.count(roots, most_missing=_MOST_MISSING, know=know)
        took_s = trio.current_time() - began - waited_s
        if renew and not self._outage:
            self._renew_at = trio.current_time() + max(_CALM_S, _RENEW_FACTOR * waited_s)
        self._found(kept)
        await self._keeper.save()
        return took_s

    def _found(self, kept: Kept) -> None:
        self.kept = kept
        missing = set(kept.missing)
        self._obstructions = {ino: it for ino, it in self._obstructions.items() if ino in missing}
        self._keeper.note_cached(kept.cached_bytes)

    async def _know(self, node: Node, *, renew: bool) -> None:
        """Have the members of a folder be known, where that is possible now."""
        if self._outage or not node.synced or not (renew or not node.listed_at):
            return
        try:
            await (self._members.first if node.listed_at is None else self._members.refresh)(node.ino)
        except _OUTAGES:
            self._outage = True
        except RemoteError as error:
            _log.debug("a folder that is kept here could not be listed: %s", error)

    async def _find(self, path: str) -> Node | None:
        """Return what a path means, None where there is no such thing. Raises RemoteError where that is not known."""
        node = self._store.nodes.get(ROOT)
        for name in filter(None, path.split("/")):
            if node is None or not node.folder:
                return None
            try:
                node = await self._members.lookup(node.ino, name.encode())
            except PosixError:
                return None
        return node

    async def _find_lost(self) -> None:
        for path in self._keeper.lost():
            try:
                node = await self._find(path)
            except RemoteError:
                self._outage = True
                return
            if node is None:
                _log.warning("%s was pinned, and is not there any more", path)
            self._keeper.found(path, None if node is None else node.ino)

    async def _default_roots(self) -> list[Root]:
        """Return the folders of the account's settings of which nobody said anything else."""
        folders = self._keeper.defaults.folders
        roots: dict[Ino, Root] = {}
        for path in folders:
            try:
                node = await self._find(path)
            except RemoteError:
                self._outage = True
                continue
            stand = None if node is None else standing(self._store.pins.links(node.ino))
            nested = any(path != other and path.startswith(other.rstrip("/") + "/") for other in folders)
            if node is not None and stand is not None and stand.said is None and not nested:
                roots[node.ino] = Root(node.ino, stand)
        return list(roots.values())

    # Bringing it

    async def _bring_all(self, missing: Sequence[Ino]) -> bool:
        """Bring what is missing; False where something new is to be counted first."""
        now = trio.current_time()
        from_at = max(self._recount_at, now + _LEAST_S)
        units = iter(await self._units(missing, now))
        with asking_as(lambda: Rank.BACKGROUND):
            async with trio.open_nursery() as nursery:
                for _ in range(_AT_ONCE):
                    nursery.start_soon(self._bring_some, units, from_at)
        return not self._is_interrupted(from_at)

    def _is_interrupted(self, from_at: float) -> bool:
        return self._bell.is_set() and trio.current_time() >= from_at

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

    async def _bring_some(self, units: Iterator[list[Ino]], from_at: float) -> None:
        for unit in units:
            if self._outage or self._is_interrupted(from_at):
                return
            fitting = [ino for ino in unit if await self._fits(ino)]
            if len(fitting) >= _FEWEST_FILES and trio.current_time() >= self._archives_from:
                await self._by_archive(fitting)
            for ino in fitting:
                if not self._outage:
                    await self._one(ino, from_at)

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
        except _OUTAGES:
            self._outage = True
        except Unsupported:
            self._archives_from = trio.current_time() + _NO_ARCHIVES_S
        except (Changed, NotFound):
            self._members.outdated(inos[0])
        except RemoteError as error:
            _log.debug("archives are left alone for a while: %s", error)
            self._archives_from = trio.current_time() + _FAILED_S

    async def _one(self, ino: Ino, from_at: float) -> None:
        source = self._wanted(ino)
        if source is None:
            return
        try:
            with self._begin([source]), self._rest.breakable("a file that is kept here"):
                await self._fetcher.prefetch_whole(source, partial(self._turn_or_end, from_at))
        except _Interrupted:
            _log.debug("the rest of inode %d comes after what is new", ino)
        except (PosixError, ChecksumMismatch, RemoteError) as error:
            self._failed(source, error)
            if self._rest.is_on:
                await self._fetcher.quiesce(ino)  # what nobody waits for ends by itself only after a while

    async def _turn_or_end(self, from_at: float) -> None:
        await self._turn()
        if self._is_interrupted(from_at):
            raise _Interrupted

    def _failed(self, source: Source, error: PosixError | ChecksumMismatch | RemoteError) -> None:
        """Note why a file did not come, and when it is tried again."""
        if isinstance(error, _OUTAGES):
            self._outage = True
        elif isinstance(error, Changed | NotFound):
            self._members.outdated(source.ino)
        elif isinstance(error, Locked) or (isinstance(error, PosixError) and error.errno != errno.ENOSPC):
            self._again = True  # an upload of ours, or readers that leave no memory
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
            self._more = len(self.kept.missing) >= _MOST_MISSING

    def _obstruct(self, source: Source, reason: str, *, until: float) -> None:
        known = self._obstructions.get(source.ino)
        if known is None or known.reason != reason:
            path = self._store.nodes.local_path(source.ino)
            _log.warning("%s is to be kept here and cannot be brought: %s", path, reason)
        missing_bytes = self._fetcher.missing_bytes(source)
        self._obstructions[source.ino] = Obstruction(source.ino, source.version, missing_bytes, reason, until)

"""Fetches the small files of a folder ahead of a program that walks through them.

    a read begins -> a walk? (`walking`) -> what comes next (`foresight`)
                  -> as much of that as the credit allows (`prefetch_budget`)
                  -> many in one archive, or each by itself -> the block cache
                  -> its own file is in an archive on its way? then wait for that

All of it happens in the background; whoever reads a file that no archive on its way has waits for nothing here. Who
reads one of an archive's files waits for that: GETs for all of them would take the server many times as long.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

import msgspec
import trio

from cloudfs.content.fetch import Fetcher
from cloudfs.content.foresight import Foresight
from cloudfs.content.heads import HeadWalk
from cloudfs.content.prefetch_budget import Ledger, Speeds, Way
from cloudfs.content.source import Source
from cloudfs.content.walking import Walk, Walks
from cloudfs.errors import (
    Changed,
    ChecksumMismatch,
    CloudfsError,
    NotAuthenticated,
    NotFound,
    PosixError,
    RemoteError,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.remote.limiting import Rank, asking_as
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.types import BLOCK_SIZE, Ino

__all__ = ["PrefetchStatistics", "Prefetcher"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_ARCHIVE_FILES = 100
"""0.6 s of the server (protocol.md §5.1); as `FetchConfig.archive_files`."""
_FEWEST_FILES = 4
"""Fewer come one by one: an archive costs two requests where there are no checksums."""
_TELLING_FILES = 20
"""What a file costs in an archive is taken from archives of so many on: of small ones the request is the most."""
_AT_ONCE = 2
"""Archives at the same time, and files of a batch that come one by one; the line has two places for all of it."""
_LEAST_PATIENCE_S = 2.0
"""It pays to wait for an archive as long as GETs of all its files would take, and at least so long."""
_MOST_PATIENCE_S = 5.0
"""No reader waits longer: it has to be answered within 15 s, with a GET of its own by then."""
_ARCHIVE_S = 20.0
"""An archive that takes longer, and longer than GETs would, is given up."""
_NO_ARCHIVES_S, _FAILED_S, _OUTAGE_S = 3600.0, 120.0, 30.0
"""How long archives are left alone where the server makes none, and after one failed; and all of it where the server
could not be asked, or the block cache keeps nothing."""
_LEFT_S = 5.0
"""A walk that has read nothing for so long gets no more files one by one."""
_COUNT_AMONG = 5000
_MOST_NOTED = 256

_OUTAGES = Unreachable, Unavailable, NotAuthenticated
_OF_ONE_FILE = Changed, NotFound, ChecksumMismatch


class PrefetchStatistics(msgspec.Struct, frozen=True):
    """What was fetched ahead since the start, and what became of it."""

    files: int
    fetched_bytes: int
    used_bytes: int
    """Programs have read it since."""
    wasted_bytes: int
    """Nobody has read it within a minute, or it could not be kept."""
    unread_bytes: int
    """Of this moment: it is here, or on its way, and may still be read."""


class _Batch:
    """Some files of one folder, on their way."""

    def __init__(self, walk: Walk, folder: Ino, sources: Sequence[Source]) -> None:
        self.walk = walk
        self.folder = folder
        self.sources = sources
        self.done = trio.Event()
        self.by_get_s = 0.0
        """So long GETs for all of them would take, one after the other, as far as is known."""
        self._begun_at = trio.current_time()

    async def wait(self) -> None:
        """Wait until it is here, as long as that pays."""
        until = self._begun_at + max(self.by_get_s, _LEAST_PATIENCE_S)
        with trio.move_on_at(min(until, trio.current_time() + _MOST_PATIENCE_S)):
            await self.done.wait()


class _Known:
    """The folders as the database has them."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def above(self, folder: Ino) -> Sequence[Ino]:
        return self._nodes.ancestors(folder)

    def count_small(self, folder: Ino) -> int:
        return self._nodes.count_small_files(folder, BLOCK_SIZE, among=_COUNT_AMONG)


class Prefetcher:
    """Stands before the reads of an account's files. Made and used on the loop's thread only."""

    def __init__(
        self,
        nodes: Nodes,
        fetcher: Fetcher,
        nursery: trio.Nursery,
        *,
        is_another_there: Callable[[Ino], bool] = lambda _: False,
        is_paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_another_there` tells whether a listing showed another version of a file, which was not taken over.

        `is_paused` tells whether nothing is to be fetched that no program waits for.
        """
        self._is_paused = is_paused
        self._nodes = nodes
        self._fetcher = fetcher
        self._nursery = nursery
        self._walks = Walks(_Known(nodes))
        self._ledger = Ledger()
        self._speeds = Speeds()
        self._coming: dict[Ino, _Batch] = {}
        """Files that an archive on its way will bring. Those that come one by one are found by their transfers."""
        self._foresight = Foresight(
            nodes,
            is_here=fetcher.comes,
            is_coming=self._coming.__contains__,
            is_another_there=is_another_there,
        )
        self._heads = HeadWalk(nodes, fetcher, self._ledger, self._foresight.version)
        self._queue: deque[tuple[_Batch, bool]] = deque()
        """What is to be brought, and whether by an archive."""
        self._running = 0
        self._queued: set[Ino] = set()
        """Files that are to come one by one, and were not asked for yet."""
        self._asked: OrderedDict[Ino, float] = OrderedDict()
        """Since when readers wait for files of which nothing was here."""
        self._outdated: OrderedDict[Ino, str] = OrderedDict()
        """ETags of folders that have another one by now, it seems: they are listed before the next archive."""
        self._rests_until = -math.inf

    def statistics(self) -> PrefetchStatistics:
        """Return the counts of this moment."""
        ledger = self._ledger
        return PrefetchStatistics(
            ledger.files, ledger.fetched_bytes, ledger.used_bytes, ledger.wasted_bytes, ledger.unread_bytes
        )

    async def before_read(self, source: Source, start: int) -> None:
        """A program is about to read a file from `start` on.

        Returns at once unless an archive brings the file; then after some seconds at the latest. Raises nothing.
        """
        if source.size > BLOCK_SIZE and start == 0:
            self._heads.begins(source, trio.current_time(), rests=self._rests())
        if not 0 < source.size <= BLOCK_SIZE:
            return
        if start == 0:
            self._begin(source)
        batch = self._coming.get(source.ino)
        if batch is not None:
            await batch.wait()
        if start == 0:
            here = self._fetcher.comes(source)
            if source.ino in self._queued:
                self._ledger.cancel(source.ino)
            self._ledger.read(source.ino, here=here)
            if not here:
                _note(self._asked, source.ino, trio.current_time())

    def after_read(self, source: Source, stop: int) -> None:
        """A program has read a file up to `stop`."""
        if not 0 < source.size <= stop or source.size > BLOCK_SIZE:
            return
        now = trio.current_time()
        self._walks.ended(source.ino, now)
        asked_at = self._asked.pop(source.ino, None)
        if asked_at is not None:
            self._speeds.note(Way.SINGLE, (now - asked_at) / _AT_ONCE, 1, now)

    # --- what comes next

    def _begin(self, source: Source) -> None:
        node, now = self._nodes.get(source.ino), trio.current_time()
        if node is None or node.parent is None:
            return
        walk = self._walks.begun(source.ino, node.parent, node.name, now)
        if walk.ahead_files and walk.files >= walk.plan_at and not self._rests():
            self._look_ahead(walk, node, now)

    def _rests(self) -> bool:
        return trio.current_time() < self._rests_until or self._is_paused()

    def _look_ahead(self, walk: Walk, node: Node, now: float) -> None:
        ahead = list(self._foresight.next_files(walk, node, walk.ahead_files))
        walk.plan_at = walk.files + max(1, len(ahead) // 2)
        walk.covered = frozenset(it.parent for it in ahead if it.parent is not None)
        for folder, members in groupby(ahead, key=lambda it: it.parent):
            if folder is None:
                continue
            wanted = list(self._foresight.wanted(members, self._ledger.room_bytes(folder, now)))
            for start in range(0, len(wanted), _ARCHIVE_FILES):
                self._send_for(_Batch(walk, folder, wanted[start : start + _ARCHIVE_FILES]), now)

    def _send_for(self, batch: _Batch, now: float) -> None:
        for source in batch.sources:
            self._ledger.take(source.ino, batch.folder, source.size, now)
        by_archive = len(batch.sources) >= _FEWEST_FILES and self._speeds.best(now) is Way.ARCHIVE
        if by_archive:
            single_s = self._speeds.seconds(Way.SINGLE, now) or 0.0
            batch.by_get_s = len(batch.sources) * single_s * _AT_ONCE
            self._coming |= dict.fromkeys((source.ino for source in batch.sources), batch)
        self._queue.append((batch, by_archive))
        if self._running < _AT_ONCE:
            self._running += 1
            self._nursery.start_soon(self._bring_all)

    # --- bringing it

    async def _bring_all(self) -> None:
        """Bring what is wanted, in the order in which it is needed: tasks alone would run in any."""
        try:
            with asking_as(lambda: Rank.GUESS):
                while self._queue:
                    batch, by_archive = self._queue.popleft()
                    await self._bring(batch, by_archive=by_archive)
        finally:
            self._running -= 1

    async def _bring(self, batch: _Batch, *, by_archive: bool) -> None:
        try:
            if not (by_archive and await self._by_archive(batch)):
                self._arrived(batch)
                await self._one_by_one(batch)
        except _OUTAGES as error:
            self._rest(str(error))
        except CloudfsError as error:
            _log.debug("small files were not fetched ahead: %s", error)
        except Exception:  # noqa: BLE001  # logged
            # In the background nobody else is there to meet it, and it must not end the mount.
            _log.exception("small files could not be fetched ahead")
        finally:
            self._arrived(batch)

    def _arrived(self, batch: _Batch) -> None:
        """Nobody need wait for it any more."""
        for source in batch.sources:
            if self._coming.get(source.ino) is batch:
                del self._coming[source.ino]
        batch.done.set()

    async def _by_archive(self, batch: _Batch) -> bool:
        """Bring a batch in one archive; False where it is better fetched file by file. Raises where nothing can be."""
        began = trio.current_time()
        brought: list[Source] | None = None
        with trio.move_on_after(max(_ARCHIVE_S, batch.by_get_s)):
            try:
                brought = await self._ask(batch)
            except Unsupported:
                self._speeds.refuse_archives(trio.current_time(), _NO_ARCHIVES_S)
                return False
            except (Unavailable, NotAuthenticated):
                raise
            except _OF_ONE_FILE:
                return True  # the folder itself is not what it was: its next listing will tell
            except RemoteError as error:
                _log.debug("archives are left alone for a while: %s", error)
        now = trio.current_time()
        if brought is None:
            self._speeds.refuse_archives(now, _FAILED_S)
            return False
        if len(brought) >= _TELLING_FILES:
            self._speeds.note(Way.ARCHIVE, now - began, len(brought), now)
        kept = {source for source in brought if self._fetcher.comes(source)}
        for source in {*batch.sources} - kept:
            self._ledger.lost(source.ino)
        if brought and not kept:
            self._rest("the block cache keeps nothing")
        return True

    async def _ask(self, batch: _Batch) -> list[Source]:
        # NO CHECKPOINT before the archivist has looked at the versions, which are those of this very ETag.
        self._ledger.requested()
        folder, nodes = (
            self._nodes.get(batch.folder),
            self._nodes.get_many([it.ino for it in batch.sources]),
        )
        wanted = [
            it
            for it in batch.sources
            if (node := nodes.get(it.ino)) is not None and self._foresight.source(node) == it
        ]
        for source in {*batch.sources} - {*wanted}:
            self._ledger.cancel(source.ino)
        seen = folder.listed_etag if folder is not None and folder.listed_etag == folder.s_etag else None
        if seen is None or self._outdated.get(batch.folder) == seen:
            seen = ""
        brought = await self._fetcher.prefetch_archive(wanted, listed_etag=seen, read_soon=True)
        if seen and len(brought) < len(wanted):
            _note(self._outdated, batch.folder, seen)
        return brought

    async def _one_by_one(self, batch: _Batch) -> None:
        inos = {source.ino for source in batch.sources}
        self._queued |= inos
        left = iter(batch.sources)
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(_AT_ONCE):
                    nursery.start_soon(self._fetch_some, batch.walk, left, nursery.cancel_scope)
        finally:
            left_over = inos & self._queued
            for ino in left_over:
                self._ledger.cancel(ino)
            self._queued -= left_over
            if left_over:
                batch.walk.plan_at = 0  # whoever reads on has them looked at again

    async def _fetch_some(self, walk: Walk, left: Iterator[Source], scope: trio.CancelScope) -> None:
        for source in left:
            began = trio.current_time()
            if began - walk.last_s > _LEFT_S or self._rests():
                return
            if self._fetcher.comes(source):
                continue
            self._queued.discard(source.ino)
            self._ledger.requested()
            try:
                await self._fetcher.prefetch_whole(source)
            except (*_OUTAGES, PosixError) as error:  # the cache keeps nothing, or readers need the memory
                self._rest(str(error))
                scope.cancel()
            except _OF_ONE_FILE:
                self._ledger.lost(source.ino)
            except CloudfsError as error:  # what leaves a nursery is a group, which nobody expects
                _log.debug("small files were not fetched ahead: %s", error)
                self._ledger.lost(source.ino)
                scope.cancel()
            else:
                now = trio.current_time()
                self._speeds.note(Way.SINGLE, (now - began) / _AT_ONCE, 1, now)

    def _rest(self, why: str) -> None:
        self._rests_until = trio.current_time() + _OUTAGE_S
        _log.debug("nothing is fetched ahead for now: %s", why)


def _note(notes: OrderedDict[Ino, T], ino: Ino, value: T) -> None:
    """Keep a note; the oldest ones go, so that memory stays bounded."""
    notes[ino] = value
    if len(notes) > _MOST_NOTED:
        notes.popitem(last=False)

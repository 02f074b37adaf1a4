"""Puts closed files on the disk, behind the programs' backs, and notes in their rows that they are there.

`close` waits for no disk. Half a second later the staging files of what was closed are synced together, their rows are
marked, and the marks are made durable. Until then a power cut may leave a row whose bytes are holes; what a row
calls safe is all that is believed after one (`powercut`). `fsync` has the same done for one file at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from cloudfs.blocks.staging import Staging
from cloudfs.concurrency.killpoints import reached
from cloudfs.content.labels import label
from cloudfs.content.layers import FileContent, Layer, made_of
from cloudfs.content.source import Source
from cloudfs.errors import CloudfsError, LocalDamage, PosixError
from cloudfs.store.records import StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ContentVersion, Ino

__all__ = ["Hardening"]

_log = logging.getLogger(__name__)

_GATHER_S = 0.5
_AGAIN_S = 30.0
_AT_ONCE = 64
"""Rows looked at or changed without giving way, 5 ms at most: a backlog may have ten thousand."""

_Key = tuple[Ino, ContentVersion]


class Hardening:
    """The staging files that are not on the disk yet."""

    def __init__(
        self,
        store: Store,
        staging: Staging,
        live: Callable[[Ino], FileContent | None],
        prune: Callable[[Ino], Awaitable[None]],
    ) -> None:
        """`prune` gives up what an inode's content, now safe, does not stand on."""
        self._store = store
        self._staging = staging
        self._live = live
        self._prune = prune
        self._soft: set[_Key] = set()
        self._cut: set[_Key] = set()
        self._lost: set[_Key] = set()
        """What the disk did not take, and was told of."""
        self._moved: set[Ino] = set()
        self._bell = trio.Event()
        self._hardening = trio.Lock()

    def note(self, ino: Ino, version: ContentVersion) -> None:
        """A row was committed whose bytes may not be on the disk, be it that they lie where others were that are."""
        self._soft.add((ino, version))
        self._bell.set()

    def note_all(self) -> None:
        """At start: what an earlier life of the process left, written over what was on the disk, too."""
        for row in self._store.all_staged():
            self.note(row.ino, row.version)

    def cut(self, ino: Ino, version: ContentVersion) -> None:
        """A staging file was shortened: what it held before is not to be called safe any more."""
        self._cut.add((ino, version))

    def moved(self, ino: Ino) -> None:
        """A node may be shown elsewhere now: what is staged of it, or below it, is to say so."""
        self._moved.add(ino)
        self._bell.set()

    async def run(self) -> None:
        """Harden for ever."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            await trio.sleep(_GATHER_S)
            try:
                await self.harden()
            except (CloudfsError, OSError) as error:
                _log.warning("changed files could not be synced to the disk yet: %s", error)
                self._bell.set()
                await trio.sleep(_AGAIN_S)

    async def harden(self) -> None:
        """Put on the disk what was noted so far. Raises PosixError, OSError: then what is not there is still noted.

        So is what the disk has lost, for which nobody waits: it stays so until it is sent, or written anew elsewhere.
        """
        async with self._hardening:
            await self._relabel()
            keys, self._soft, self._cut = self._soft, set(), set()
            try:
                rows = await self._soft_rows(sorted(keys))
                failed = await self._harden(rows) if rows else {}
            except BaseException:
                self._soft |= keys
                raise
            self._soft |= failed.keys()
        for ino in {row.ino for row in rows if (row.ino, row.version) not in failed}:
            await self._prune(ino)
            await trio.lowlevel.checkpoint()
        for key, error in failed.items():
            if not self._staging.is_lost(*key):
                raise error

    async def _soft_rows(self, keys: list[_Key]) -> list[StagedRow]:
        found = []
        for number, key in enumerate(keys):
            row = self._store.staged(*key)
            if row is not None and not row.present and self._is_being_written(row.ino):
                # Emptied, and about to be filled: until then what it held before stays. No bell: there is time.
                self._soft.add(key)
            elif row is not None:
                found.append(row)
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return found

    async def _harden(self, rows: list[StagedRow]) -> dict[_Key, PosixError]:
        """Return what is wrong with those that are not on the disk. Raises PosixError, OSError."""
        failed = await self._staging.sync_many([(row.ino, row.version) for row in rows])
        reached("files synced")
        for start in range(0, len(rows), _AT_ONCE):
            with self._store.transaction():
                for row in rows[start : start + _AT_ONCE]:
                    if (row.ino, row.version) not in failed:
                        self._mark(row)
            await trio.lowlevel.checkpoint()
        await self._store.make_durable()
        self._tell_of_lost(failed)
        return failed

    def _tell_of_lost(self, failed: dict[_Key, PosixError]) -> None:
        lost = {key for key in failed if self._staging.is_lost(*key)}
        for ino, version in lost - self._lost:
            path = self._store.nodes.local_path(ino) or f"inode {ino}"
            _log.warning("%s: the disk did not take all of its changes: %s", path, failed[ino, version])
        self._lost = lost

    def _mark(self, row: StagedRow) -> None:
        """What the row said before the sync is on the disk now, whatever was added since."""
        key = row.ino, row.version
        current = self._store.staged(*key)
        if current is None:
            return
        if key in self._cut or (current.base, current.base_limit) != (row.base, row.base_limit):
            self.note(*key)
            return
        # A program may have written more and synced that, and heard of it before this sync was over.
        layer = self._layer(row)
        safe = row.state.joined(current.safe if layer is None else layer.safe)
        if layer is not None:
            layer.safe = safe
        if safe != current.safe:
            self._store.put_staged(current.made_safe(safe))

    def _is_being_written(self, ino: Ino) -> bool:
        content = self._live(ino)
        return content is not None and content.writers > 0

    def _layer(self, row: StagedRow) -> Layer | None:
        content = self._live(row.ino)
        layer = None if content is None else content.top
        while isinstance(layer, Layer) and layer.version != row.version:
            layer = layer.base
        return layer if isinstance(layer, Layer) else None

    # One file at once, for whoever waits for it

    async def sync(self, content: FileContent) -> None:
        """Put all that a content holds now on the disk; `mark` has to follow. Raises LocalDamage, PosixError."""
        while True:
            before = made_of(content.top)
            try:
                await self._sync_layers(content.top)
            except (LocalDamage, PosixError):
                # Sent meanwhile, and its staging file given up: the server has these bytes, or a layer on top.
                if made_of(content.top) == before:
                    raise
                continue
            return

    async def _sync_layers(self, top: Layer | Source | None) -> None:
        while isinstance(top, Layer):
            state, cuts = top.state, top.cuts
            noted = self._soft & {(top.ino, top.version)}
            self._soft -= noted  # before: what is written meanwhile is noted anew
            try:
                await top.file.sync()
            except BaseException:
                self._soft |= noted
                raise
            if cuts == top.cuts and top.base_limit == state.base_limit:
                top.safe = state.joined(top.safe)
            top = top.base

    def mark(self, content: FileContent) -> None:
        """Say in the rows what of a content is on the disk: after a power cut nothing else is believed."""
        top = content.top
        while isinstance(top, Layer):
            row = self._store.staged(top.ino, top.version)
            if row is not None and top.safe is not None and row.safe != top.safe:
                self._store.put_staged(row.made_safe(top.safe))
            top = top.base

    # Labels

    async def _relabel(self) -> None:
        moved, self._moved = self._moved, set()
        everything = False
        for number, ino in enumerate(moved):
            node = self._store.nodes.get(ino)
            if node is not None and node.folder:
                everything = everything or self._store.nodes.has_children(ino)
            elif node is not None and node.content_dirty:
                self._label(self._store.staged_of(ino))
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        if not everything:
            return
        last = (Ino(0), 0)
        while rows := self._store.staged_after(*last, _AT_ONCE):
            self._label(rows)
            last = rows[-1].ino, rows[-1].version
            await trio.lowlevel.checkpoint()

    def _label(self, rows: list[StagedRow]) -> None:
        for row in rows:
            label(self._store, self._staging, row)

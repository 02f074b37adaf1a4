"""Staging files that no content needs any more: given up in the rows first, deleted later, and told apart at start.

    discard / prune / doom -> row gone -> bury: rows made durable -> file gone

A file whose row is gone was never acknowledged, or is on the server; a row whose file is gone would be a loss. So the
files always go last. Given up, they lose their labels first: the database has lost a file that still says what it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from cloudfs.blocks.staging import Staging, file_name
from cloudfs.concurrency.killpoints import reached
from cloudfs.concurrency.slices import slices
from cloudfs.content.labels import read
from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.recovered import keep_in
from cloudfs.errors import CloudfsError, PosixError
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ContentVersion, Ino

__all__ = ["Disposal"]

_log = logging.getLogger(__name__)

_AT_ONCE = 256
"""Rows looked for between two checkpoints: 3 ms."""
_UNKNOWN = "changes that the database knows nothing of"
_BURY_AGAIN_S = 30.0
_BURY_S = 0.5
"""Deleted staging files are gathered for so long; they share one fsync of the database."""


class Disposal:
    """The end of staging files. `live` gives the content of an inode in use.

    `harden` brings to the disk what else has to be there before a row is gone for good.
    """

    def __init__(
        self,
        store: Store,
        staging: Staging,
        live: Callable[[Ino], FileContent | None],
        harden: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._staging = staging
        self._live = live
        self._harden = harden
        self._doomed: list[tuple[Ino, ContentVersion]] = []
        self._unpruned: set[Ino] = set()
        """Inodes of which a full disk did not let go."""
        self._bell = trio.Event()

    def discard(self, ino: Ino) -> None:
        """Forget every staged byte, observation and attempt of an inode whose row goes in the same transaction.

        The files themselves go later (`bury`), so that a transaction that fails takes nothing with it.
        """
        for row in self._store.staged_of(ino):
            self._store.delete_staged(ino, row.version)
            self.doom(ino, row.version)
        self._store.end_attempts(ino)
        self._store.clear_observed(ino)

    def doom(self, ino: Ino, version: ContentVersion) -> None:
        """Have a staging file deleted by the next `bury`, if its row is gone by then.

        A kill before that leaves it without a row, and without a label: so it is known as one that was given up. A
        transaction that fails leaves it both.
        """
        self._store.when_committed(lambda: self._staging.unlabel(ino, version))
        self._doomed.append((ino, version))
        self._bell.set()

    async def bury(self) -> None:
        """Delete the staging files that no row refers to any more; those that cannot be deleted wait for the next time.

        First the commits that made them unnecessary are made durable: after a power cut the rows could be back.
        """
        for ino in list(self._unpruned):
            self._prune(ino)
            self._unpruned.discard(ino)
        doomed, self._doomed = self._doomed, []
        try:
            doomed = await self._without_row(doomed)
            if doomed:
                await self._harden()
                await self._store.make_durable()
            while doomed:
                reached("staging file doomed")
                await self._staging.delete(*doomed[-1])
                doomed.pop()
        finally:
            self._doomed += doomed

    async def _without_row(
        self, doomed: list[tuple[Ino, ContentVersion]]
    ) -> list[tuple[Ino, ContentVersion]]:
        found: list[tuple[Ino, ContentVersion]] = []
        for part in slices(doomed, _AT_ONCE):
            found += [it for it in part if self._store.staged(*it) is None]
            await trio.lowlevel.checkpoint()
        return found

    async def run(self) -> None:
        """Bury for ever, a batch at a time: no program waits for a file to be deleted, nor for an fsync."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            await trio.sleep(_BURY_S)
            await self._try_to_bury()

    async def _try_to_bury(self) -> None:
        try:
            await self.bury()
        except (CloudfsError, OSError) as error:
            _log.warning("staging files that are no longer needed could not be deleted: %s", error)
            self._bell.set()
            await trio.sleep(_BURY_AGAIN_S)

    async def prune(self, ino: Ino) -> None:
        """Give up the staging files of an inode that its present content does not stand on.

        Where a full disk does not take even that, `bury` does it later: nobody else would before the next start.
        """
        try:
            self._prune(ino)
        except PosixError as error:
            _log.debug("inode %d: what it does not need any more is kept for now: %s", ino, error)
            self._unpruned.add(ino)
            self._bell.set()

    def _prune(self, ino: Ino) -> None:
        node = self._store.nodes.get(ino)
        needed = set() if node is None else self._chain(node)
        rows = self._store.staged_of(ino)
        # What is older than that no power cut brings back.
        sure = math.inf if not needed else 0
        for row in reversed(rows):
            if row.version in needed:
                if not row.settled:
                    break
                sure = row.version
        with self._store.transaction():
            for row in rows:
                if row.version not in needed and row.version < sure:
                    self._store.delete_staged(ino, row.version)
                    self.doom(ino, row.version)

    async def prune_all(self) -> None:
        """At start: give up staging files that were no longer needed when the process ended."""
        for ino in {row.ino for row in self._store.all_staged()}:
            await self.prune(ino)

    def _chain(self, node: Node) -> set[int]:
        """Return the staged versions that the node's content is made of; none once the server has it."""
        needed: set[int] = set()
        version = node.version
        live = self._live(node.ino)
        layer = live.top if live is not None else None
        while isinstance(layer, Layer):
            needed.add(layer.version)
            layer = layer.base
        if live is not None and live.version == version:
            return needed
        # The server's own version is needed too while another one stands on it.
        while (row := self._store.staged(node.ino, version)) is not None and (
            version != node.s_version or needed
        ):
            needed.add(version)
            if row.base >= version:  # of a damaged row: it would have no end
                break
            version = row.base
        return needed

    async def repair(self, recovered: Path) -> list[str]:
        """At start: make staging files and rows agree; return what could not be mended, for people.

        A file without a row was given up, or never acknowledged, and goes; but one with a label had its row in another
        state of the database, which was put back without its log: that is kept in the folder `recovered`, or where it
        is until a start can do that. A row without a file is only harmless while no byte had been acknowledged for it.
        Raises PosixError.
        """
        self._take_back_unwritten()
        found = set(self._staging.scan())
        complaints: list[str] = []
        for row in self._store.all_staged():
            if (row.ino, row.version) in found:
                found.discard((row.ino, row.version))
            elif not row.present:
                await self._staging.create(row.ino, row.version)
            else:
                complaints.append(f"inode {row.ino}: its staging file {row.ino}.{row.version} is missing")
        for ino, version in sorted(found):
            try:
                complaints += self._kept(recovered, ino, version)
            except OSError as error:
                name = file_name(ino, version)
                complaints.append(f"{name}: {_UNKNOWN}; they wait for a start that can keep them: {error}")
                continue
            await self._staging.delete(ino, version)
        return complaints

    def _kept(self, recovered: Path, ino: Ino, version: ContentVersion) -> list[str]:
        said, path = read(self._staging.label_of(ino, version)), self._staging.path / file_name(ino, version)
        # Another name: it is there already, from after a power cut.
        if said is None or path.stat().st_nlink > 1 or not self._staging.holds_bytes(ino, version):
            return []
        target = keep_in(recovered, path, said.path.rpartition("/")[2], self._staging.sealed_as)
        return [f"{target}: {_UNKNOWN}; they are kept, but not sent"]

    def _take_back_unwritten(self) -> None:
        """Drop the layers that a process prepared and died before writing: their content is that of their base.

        As an edit each would wait to be sent, and for ever where another client has replaced the base since.
        """
        for row in self._store.all_staged():
            node = self._store.nodes.get(row.ino)
            if node is None or row.present or row.base_remote is None:
                continue
            unchanged = row.size == row.base_limit == row.base_remote.size
            if unchanged and (node.version, node.s_version) == (row.version, row.base):
                with self._store.transaction():
                    self._store.delete_staged(row.ino, row.version)
                    self._store.nodes.update(row.ino, version=row.base)
                    self._store.look_again(row.ino)
                # Killed between the label and the row of a first write it says what nobody was told is safe.
                self._staging.unlabel(row.ino, row.version)

"""Deletions of much at once that wait for a person's word, and what becomes of them when it is given.

`metadata/guard.py` holds what the server does not show any more; `restraint.py` what was deleted here.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

import msgspec
import trio

from cloudfs.content.baseless import lacks_bytes
from cloudfs.content.outgoing import Outgoing
from cloudfs.errors import CloudfsError, NotFound, RemoteError
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.columns import version_columns
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.setback import Setback
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.connectivity import is_outage
from cloudfs.sync.restraint import Restraint
from cloudfs.types import Ino

__all__ = ["Deletions", "Held", "Outcome"]

_log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 60.0
_FIND_OUT_S = 20.0
"""So long an answer waits for what became of removals, which may still be carried out for 10 s (`sync/doubts`)."""
_NAMED = 5
_BATCH = 200
_SEARCHED = 500


class Held(msgspec.Struct, frozen=True):
    """Deletions that wait."""

    count: int
    """Files and folders."""
    paths: list[str]
    """Some of the topmost, in the mount, beginning with /."""
    since: float
    """Unix s."""
    older: int = 0
    """Files that keep their version here though the server shows an older one."""
    set_back: bool = False
    """The server was set back to a backup: nothing of it is believed."""


class Outcome(msgspec.Struct, frozen=True):
    """What a decision did."""

    done: int
    """Files and folders that it was carried out for."""
    left: int = 0
    """Those that it could not be carried out for (yet)."""


class Deletions:
    """Tells what waits, and carries out the answer."""

    def __init__(  # noqa: PLR0913  # either side's deletions, and what has to be done about each
        self,
        store: Store,
        guard: VanishGuard,
        restraint: Restraint,
        setback: Setback,
        lister: Lister,
        outgoing: Outgoing,
        sink: ChangeSink,
        *,
        changed: Callable[[Ino], None],
        reserved: Callable[..., AbstractAsyncContextManager[None]],
    ) -> None:
        """`reserved` gives nodes to one alone: see `Worker`."""
        self._store = store
        self._nodes = store.nodes
        self._guard = guard
        self._restraint = restraint
        self._setback = setback
        self._scanned: float | None = None
        """The setback for which every known folder was looked at."""
        self._sink = sink
        self._lister = lister
        self._outgoing = outgoing
        self._changed = changed
        self._reserved = reserved

    # What the server does not show any more

    def vanished(self) -> Held | None:
        """Return what is kept here although the server does not show it any more."""
        held, older, since = self._guard.held(), self._setback.kept(), self._setback.since
        if not held and since is None:
            return None
        inos = [*(it.ino for it in held), *(ino for ino, _ in older)]
        paths = [str(self._nodes.local_path(ino) or "") for ino in inos[:_NAMED]]
        began = since if since is not None else held[0].since
        return Held(sum(it.count for it in held), paths, began, len(older), since is not None)

    async def accept_vanished(self) -> Outcome:
        """Show it gone here too, all but what was changed here; later where the server does not answer now."""
        before, older = self._guard.held(), self._setback.kept()
        self._guard.accept(it.ino for it in before)
        with self._store.transaction():
            for folder in {node.s_parent for ino, _ in older if (node := self._nodes.get(ino)) is not None}:
                if folder is not None:
                    # Whoever looks for changes looks there again, also where the server does not answer now.
                    self._nodes.update(folder, listed_etag=None)
        self._setback.end()
        await self._look(ino for ino, _ in older)
        left = sum(it.count for it in self._guard.held())
        left += sum(self._store.is_observed(ino) for ino, _ in older)
        asked = sum(it.count for it in before) + len(older)
        return Outcome(max(asked - left, 0), left)  # more may have gone meanwhile

    async def restore_vanished(self) -> Outcome:
        """Make what is here in full new for the server, so that it goes up again; the rest goes on waiting.

        Where the server was set back, what is here in a newer version goes up over the older one.
        """
        if self._setback.since is not None:
            await self._scan()
        else:
            await self._look()  # maybe it is back
        done, left = await self._send_newer()
        for holding in self._guard.held():
            node = self._nodes.get(holding.ino)
            if node is None:
                continue
            kept = self._renew(
                await self._keep_all(
                    [node, *(self._nodes.synced_descendants(node.ino) if node.folder else [])]
                )
            )
            done += kept
            left += holding.count - kept
        if left <= 0 and self._scanned == self._setback.since:
            self._setback.end()
        return Outcome(done, max(left, 0))

    async def _send_newer(self) -> tuple[int, int]:
        """Have the files that keep their version sent over the server's older one; return how many, and not."""
        done = left = 0
        for ino, entry in self._setback.kept():
            async with self._reserved(ino):
                if not self._store.is_observed(ino):
                    continue  # settled in another way meanwhile
                if not await self._keep(ino):
                    left += 1
                    continue
                # NO CHECKPOINT: from here on its bytes are an edit, which goes over what the server has.
                current = self._nodes.get(ino)
                if current is None or not current.linked:
                    continue
                with self._store.transaction():
                    # A base of its own number: cached blocks of what was synced before are not of the older version.
                    older = version_columns(entry.version)
                    self._nodes.update(ino, **older, s_version=self._nodes.next_version())
                    self._store.clear_observed(ino)
            done += 1
            self._changed(ino)
        return done, left

    async def _keep(self, ino: Ino) -> bool:
        """Bring the content of a reserved node into staging; tell whether it needs nothing of the server's any more."""
        node = self._nodes.get(ino)
        if node is None:
            return False
        try:
            await self._outgoing.keep(node)
        except CloudfsError as error:
            _log.info("%s cannot be restored, its content is not here: %s", node.name, error)
            return False
        return True

    async def _keep_all(self, nodes: list[Node]) -> list[Node]:
        """Return those of the nodes that could be kept."""
        kept: list[Node] = []
        for node in nodes:
            async with self._reserved(node.ino):
                if await self._keep(node.ino):
                    kept.append(node)
        return kept

    def _renew(self, kept: list[Node]) -> int:
        """Make nodes new for the server; return how many. What else is in folders made new waits on. NO CHECKPOINT."""
        renewed: list[Ino] = []
        folders: list[Ino] = []
        with self._store.transaction():
            for ino in (node.ino for node in reversed(kept)):
                current = self._nodes.get(ino)
                if current is None or not self._can_be_new(current):
                    continue
                self._nodes.forget_synced(ino)
                self._store.clear_observed(ino)
                if current.folder:
                    self._nodes.update(ino, listed_at=time.time())
                    folders.append(ino)
                renewed.append(ino)
            left = [node for folder in folders for node in self._nodes.synced_children(folder)]
            self._guard.release(renewed, left=left)
        for ino in renewed:
            self._changed(ino)
        return len(renewed)

    def _can_be_new(self, node: Node) -> bool:
        if not node.linked or node.s_version is None:
            return False
        if node.folder:
            # Nothing makes a local one anew there, whose listing would tell of the others: they wait with it.
            return not (node.local_only and self._nodes.has_synced_members(node.ino))
        # Or it went up meanwhile, and what was kept of it was given up.
        return not lacks_bytes(self._store, node)

    async def _look(self, more: Iterable[Ino] = ()) -> None:
        """List again where something is held, and the folders of these files."""
        folders = {it.folder for it in self._guard.held()}
        for node in map(self._nodes.get, more):
            if node is not None and node.s_parent:
                folders.add(node.s_parent)
        await self._list(folders)

    async def _list(self, folders: Iterable[Ino]) -> bool:
        """List folders again, one after the other; tell whether all were answered for."""
        whole = True
        for folder in folders:
            try:
                await self._lister.refresh(folder)
            except CloudfsError as error:
                _log.info("cannot look whether what vanished is back: %s", error)
                if isinstance(error, RemoteError) and is_outage(error):
                    return False  # the other folders would fare no better
                whole = whole and isinstance(error, NotFound)
        return whole

    async def _scan(self) -> None:
        """Find out what a server that was set back lacks, or has in older versions, in every folder that is known."""
        since = self._setback.since
        if since is not None and await self._list(self._nodes.listed_folders()):
            self._scanned = since

    # What was deleted here

    def removed(self) -> Held | None:
        """Return what was deleted here and waits to be deleted on the server."""
        since = self._restraint.held_since
        count = 0 if since is None else self._restraint.count()
        if since is None or not count:
            return None
        tops = (node for node in self._restraint.leaving(_SEARCHED) if not self._goes_along(node))
        paths = [
            str(self._nodes.synced_path(node.ino) or node.name) for node in itertools.islice(tops, _NAMED)
        ]
        return Held(count, paths, since)

    def _goes_along(self, node: Node) -> bool:
        above = None if node.s_parent is None else self._nodes.get(node.s_parent)
        return above is not None and (above.tombstone or bool(above.local_only))

    def accept_removed(self) -> Outcome:
        """Delete it on the server, too."""
        count = self._restraint.count()
        for ino in self._restraint.allow():
            self._changed(ino)
        return Outcome(count)

    async def restore_removed(self) -> Outcome:
        """Show it here again where it was, with what was changed in it; what has its name taken stays removed.

        So does what the server may yet remove, or have removed, by a request that got no answer: that is found out
        first, for 20 s at most.
        """
        await self._find_out(self._restraint.leaving())
        leaving = self._restraint.leaving()
        leaving.sort(key=lambda node: len(self._nodes.synced_ancestors(node.ino)))
        done = 0
        for start in range(0, len(leaving), _BATCH):
            batch, announcements = leaving[start : start + _BATCH], list[Callable[[], None]]()
            # A removal that is under way may succeed: what it took is not to be shown as the server's.
            async with self._reserved(*(node.ino for node in batch)):
                with self._store.transaction():
                    for node in batch:
                        if (back := self._bring_back(node)) is not None:
                            done += back[0]
                            announcements += back[1]
            for announce in announcements:
                announce()
            await trio.lowlevel.checkpoint()
        return Outcome(done, self._restraint.count())

    async def _find_out(self, leaving: Iterable[Node]) -> None:
        """Have the worker look what became of removals whose outcome is in doubt, until it is known of all."""
        doubtful = [node.ino for node in leaving if node.tried is not None]
        with trio.move_on_after(_FIND_OUT_S):
            while doubtful:
                doubtful = [ino for ino in doubtful if await self._is_in_doubt(ino)]
                await trio.sleep(1.0 if doubtful else 0.0)

    async def _is_in_doubt(self, ino: Ino) -> bool:
        """Tell whether it is not known what became of a removal; then it is looked once more."""
        async with self._reserved(ino):
            node = self._nodes.get(ino)
            if node is None or not node.removing or node.tried is None:
                return False
            # Once looked for in vain, it would only be found out by the same request, which is not to be sent.
            self._nodes.begin_try(ino, node.tried)
        self._changed(ino)
        return True

    def _bring_back(self, node: Node) -> tuple[int, list[Callable[[], None]]] | None:
        """Show a node again where the server has it; return how many came with it, and what to announce."""
        current = self._nodes.get(node.ino)
        if current is None or current.s_parent is None or current.s_name is None or current.tried is not None:
            return None
        folder, name, was = current.s_parent, current.s_name, (current.parent, current.name)
        above = self._nodes.get(folder)
        if above is None or not above.linked or self._nodes.child(folder, name) is not None:
            return None
        below = self._nodes.descendants(node.ino) if current.linked and current.folder else []
        self._nodes.update(node.ino, parent=folder, name=name, local_only=above.local_only)
        self._nodes.set_local_only([it.ino for it in below], bool(above.local_only))
        for ino in (node.ino, *(it.ino for it in below)):
            self._changed(ino)
        announcements: list[Callable[[], None]] = [lambda: self._sink.entry_changed(folder, name)]
        if was[0] is not None:
            parent, old = was[0], was[1]
            announcements.append(lambda: self._sink.entry_removed(parent, old, node.ino, node.kind))
        return 1 + sum(it.synced for it in below), announcements

    # Both

    async def run(self) -> None:
        """For ever: see by itself when what vanished is back."""
        while True:
            await trio.sleep(_LOOK_AGAIN_S)
            self._restraint.expire()
            await self._look()
            if self._scanned != self._setback.since:
                await self._scan()

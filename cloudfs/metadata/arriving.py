"""Gives nodes the places in which listings show them: what came from another folder stays what it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import trio

from cloudfs.concurrency.slices import turns
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.columns import synced_columns, version_columns
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.dropping import Dropping
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.merge import Change, Drop, update
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.twofold import Twofold
from cloudfs.metadata.vanished import Vanished
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry, RemoteVersion

__all__ = ["Arriving"]

_AT_ONCE = 64
"""Notes looked at between two checkpoints: 2 ms."""
_MANY = 10_000
"""Changes of which some are picked out between two checkpoints: 1 ms."""


class Arriving:
    """Of one store. `apply_one` makes a change to a member of a folder, and returns what is to be told of it."""

    def __init__(
        self,
        store: Store,
        residents: Residents,
        displaced: Displaced,
        sink: ChangeSink,
        dropping: Dropping,
        vanished: Vanished,
        guard: VanishGuard | None,
        apply_one: Callable[[Ino, Change], list[Callable[[], None]]],
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._residents = residents
        self._displaced = displaced
        self._sink = sink
        self._dropping = dropping
        self._vanished = vanished
        self._guard = guard
        self._update = apply_one
        self.twofold = Twofold()

    async def reunite(self, changes: Sequence[Change]) -> bool:
        """Have what would be dropped take the place in which another listing has just shown it; tell whether any did.

        That listing could not wait for this one, and has made a node of it (`Twofold`).
        """
        found = False
        if not self.twofold:
            return found
        noted = await self._noted_below()
        async for part in turns(changes, _MANY):
            for node in (it.node for it in part if isinstance(it, Drop)):
                # What was taken out of a folder before that went is gone with it.
                for gone in (node, *self._known(noted.get(node.ino, ()))):
                    found = await self._reunite(gone) or found
        return found

    def _known(self, noted: Iterable[tuple[Ino, str]]) -> Iterator[Node]:
        for folder, file_id in noted:
            yield from (node for node in self._nodes.by_file_id(file_id) if node.s_parent == folder)

    async def _noted_below(self) -> dict[Ino, list[tuple[Ino, str]]]:
        """Return by folder what was in it, or further below, and was seen elsewhere just before."""
        below: dict[Ino, list[tuple[Ino, str]]] = {}
        async for part in turns(self.twofold.noted(), _AT_ONCE):
            for folder, file_id in part:
                for above in (folder, *self._nodes.synced_ancestors(folder)):
                    below.setdefault(above, []).append((folder, file_id))
        return below

    async def _reunite(self, node: Node) -> bool:
        twin = self.twin(node)
        if twin is None:
            return False
        with self._store.transaction():
            announcements = self.become_one(node, twin)
        for announce in announcements:
            announce()
        await trio.lowlevel.checkpoint()
        return True

    def twin(self, node: Node) -> Node | None:
        """Return the node that was made for another one in its new place, as long as nobody uses it."""
        file_id = node.s_file_id
        if (
            file_id is None
            or not self.twofold.covers(node.s_parent, file_id)
            or self._nodes.get(node.ino) != node
        ):
            return None
        if not node.placed or node.tried is not None or node.local_only:
            return None
        twins = [it for it in self._nodes.by_file_id(file_id) if it.ino > node.ino and it.placed]
        return twins[0] if len(twins) == 1 and self._is_new(twins[0], node) else None

    def _is_new(self, twin: Node, node: Node) -> bool:
        folder = self._nodes.get(twin.parent) if twin.parent else None
        if (
            folder is None
            or not folder.linked
            or twin.kind is not node.kind
            or self.is_above(node, folder.ino)
        ):
            return False
        if twin.dirty or self._residents.is_open(twin.ino) or self._nodes.has_children(twin.ino):
            return False
        return not self.is_other_while_open(node, twin.remote_version)

    def become_one(self, node: Node, twin: Node) -> list[Callable[[], None]]:
        """Give a node the place of its twin, which goes. Part of the caller's transaction."""
        folder, path = self._nodes.get(twin.parent or Ino(0)), self._nodes.synced_path(twin.ino)
        assert folder is not None  # noqa: S101  # `_is_new` has seen it
        assert path is not None  # noqa: S101  # its folder is in the mount and on the server
        entry = RemoteEntry(
            path,
            twin.kind,
            twin.remote_version,
            twin.s_file_id,
            twin.permissions,
            bool(twin.mount_root),
            spelling=twin.s_spelling,
        )
        self.twofold.forget(node.s_parent or Ino(0), node.s_file_id or "")
        self._store.clear_observed(twin.ino)
        self._store.pins.share(twin.ino, node.ino)
        self._dropping.give_up(twin)
        return self.move_in(folder, node, entry)

    def is_other_while_open(self, node: Node, version: RemoteVersion) -> bool:
        """Tell whether somebody has another version of a file open: the new one gets an inode of its own."""
        if node.folder or node.remote_version.same_content(version):
            return False
        return self._residents.is_open(node.ino)

    def is_above(self, node: Node, folder: Ino) -> bool:
        """Tell whether a folder lies in another one, which it was moved into here, or of which we know no better."""
        above = (folder, *self._nodes.ancestors(folder), *self._nodes.synced_ancestors(folder))
        return bool(node.folder) and node.ino in above

    def move_in(self, folder: Node, node: Node, entry: RemoteEntry) -> list[Callable[[], None]]:
        """Show a node that vanished elsewhere in its new place: the same inode, the same content."""
        columns = synced_columns(folder.ino, entry) | version_columns(node.remote_version)
        current = self._nodes.get(node.ino)
        self._nodes.update(
            node.ino,
            **columns,
            parent=folder.ino,
            name=entry.name,
            mtime_ns=node.mtime_ns,
            s_version=node.s_version,
            s_mtime_ns=node.s_mtime_ns,
            local_only=folder.local_only,
            # What was found to be gone first has lost its members.
            listed_at=node.listed_at if current is not None and current.linked else None,
        )
        if folder.local_only and node.folder:
            self._nodes.set_local_only((it.ino for it in self._nodes.descendants(node.ino)), value=True)
        self._vanished.found(node)
        if self._guard is not None:
            self._guard.found(node.ino)
        self._displaced.forget(node.ino)
        announcements: list[Callable[[], None]] = [
            lambda: self._sink.entry_changed(folder.ino, entry.name),
        ]
        if node.parent is not None:  # it was not found to be gone first
            left, name = node.parent, node.name
            # First: whoever hears that something is gone and something is there, hears of a move.
            announcements.insert(0, lambda: self._sink.entry_removed(left, name, node.ino, node.kind))
        moved = self._nodes.get(node.ino)
        # It may have been written there as well.
        for change in [] if moved is None else update(moved, entry):
            announcements += self._update(folder.ino, change)
        return announcements

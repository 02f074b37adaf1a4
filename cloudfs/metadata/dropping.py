"""Forgets what the server no longer has; what has work pending is kept and becomes new."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.concurrency.slices import slices
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.merge import Drop
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.vanished import Vanished
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino

__all__ = ["Dropping"]

_BATCH = 64
"""Nodes dropped in one transaction: 6 ms on the loop, twice that where the machine is busy."""
_FOLDERS = 32
"""Folders that are looked at and dropped in one: as long."""


class Dropping:
    """Drops nodes of one store. `discard` frees the content of a node whose row goes."""

    def __init__(
        self,
        store: Store,
        residents: Residents,
        displaced: Displaced,
        sink: ChangeSink,
        vanished: Vanished,
        discard: Callable[[Ino], None],
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._residents = residents
        self._displaced = displaced
        self._sink = sink
        self._vanished = vanished
        self._discard = discard

    async def thinned(self, change: Drop) -> Drop:
        """Drop what is clean in a large folder that is gone, in batches; return what remains to be done at once.

        Until then the folder is shown with what is left in it, and counts as not seen whole: if this is not brought to
        its end, the next listing of the folder above does that, or its own brings the files back.
        """
        top = change.node
        if not (top.folder and self._nodes.knows_below(top.ino, more_than=_BATCH)):
            return change
        folders = [top.ino]
        for number, folder in enumerate(folders, 1):
            last = ""
            if number % _BATCH == 0:
                await trio.lowlevel.checkpoint()  # empty ones
            while page := self._nodes.placed_after(folder, last, _BATCH):
                # NO CHECKPOINT since the page was read. What went elsewhere on the server meanwhile is not gone.
                if self._unlike(top) or top.ino not in (folder, *self._nodes.synced_ancestors(folder)):
                    break
                last = page[-1].name
                folders += [node.ino for node in page if node.folder]
                self._drop_batch([node for node in page if not (node.folder or node.dirty)])
                await trio.lowlevel.checkpoint()
        for part in slices(reversed(folders[1:]), _FOLDERS):
            self._drop_batch(self._emptied(top, part))
            await trio.lowlevel.checkpoint()
        current = self._nodes.get(top.ino)
        return change if current is None or self._unlike(top) else Drop(current)

    def _unlike(self, node: Node) -> bool:
        """Tell whether a node is another one than it was, but for whether it was seen whole."""
        current = self._nodes.get(node.ino)
        return current is None or msgspec.structs.replace(current, listed_etag=node.listed_etag) != node

    def _emptied(self, top: Node, folders: Iterable[Ino]) -> list[Node]:
        """Return those of the folders in one that is gone in which nothing is left, here or on the server."""
        if self._unlike(top):
            return []
        found = [node for ino in folders if (node := self._nodes.get(ino)) is not None]
        return [
            node
            for node in found
            if node.placed
            and not (node.dirty or self._nodes.has_children(node.ino) or self._nodes.has_moved(node.ino))
            and top.ino in self._nodes.synced_ancestors(node.ino)
        ]

    def _drop_batch(self, gone: Sequence[Node]) -> None:
        announcements: list[Callable[[], None]] = []
        with self._store.transaction():
            for folder in {node.s_parent for node in gone if node.s_parent}:
                self._nodes.update(folder, listed_etag=None)
            for node in gone:
                announcements += self._drop_one(node)
        for announce in announcements:
            announce()
        reached("batch taken over")

    def drop(self, node: Node) -> list[Callable[[], None]]:
        """Forget what the server no longer has; what has work pending is kept and becomes new."""
        below = self._nodes.synced_descendants(node.ino) if node.folder else []
        announcements: list[Callable[[], None]] = []
        for gone in (*reversed(below), node):
            announcements += self._drop_one(gone)
        return announcements

    def _has_own_bytes(self, node: Node) -> bool:
        """Tell whether anything was written here; a file that is only being brought into staging has nothing yet."""
        if not node.content_dirty or self._residents.is_open(node.ino):
            return node.content_dirty
        row = self._store.staged(node.ino, node.version)
        if row is None or row.present or row.base_remote is None:
            return True
        # Cut and extended again it has zeros of its own, though nothing was written.
        return row.size != row.base_remote.size or row.base_limit < row.size

    def _drop_one(self, node: Node) -> list[Callable[[], None]]:
        if node.tried:
            return []  # a request may have taken it elsewhere: that is found out first
        self._store.clear_observed(node.ino)
        parent, name = node.parent, node.name
        # A folder that went to a name of this machine alone is gone from the server because we took it away there.
        stays = node.folder and (node.local_only or self._nodes.has_children(node.ino))
        must_live = node.linked and (stays or self._has_own_bytes(node))
        if must_live:
            self._store.note_origin(node)
            self._nodes.forget_synced(node.ino)
            if node.folder:
                self._nodes.update(node.ino, listed_at=time.time())
            return []
        self._vanished.keep(node)
        self.give_up(node)
        return [] if parent is None else [lambda: self._sink.entry_removed(parent, name, node.ino, node.kind)]

    def give_up(self, node: Node) -> None:
        """Take a node's places away, and its row unless somebody holds it. Part of the caller's transaction."""
        if self._residents.is_held(node.ino):
            self._displaced.displace(node)
        else:
            self._discard(node.ino)
            self._nodes.delete(node.ino)

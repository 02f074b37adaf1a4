"""Open nodes whose place the server gave to another one, or to none.

They live on without a name while somebody has them open, as after an unlink. But unlike there the user removed
nothing: what is written to them must not go with the last handle, so it gets them a name again.
"""

from __future__ import annotations

import time

from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.placing import free_copy_name, is_free, stays_local
from cloudfs.metadata.residents import Residents
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino

__all__ = ["Displaced"]

_SAVE_S = 60.0
"""An editor saves within so long after it closed the file that it read."""


class Displaced:
    """Remembers where displaced nodes were, in memory: after a restart nobody has anything open."""

    def __init__(self, store: Store, residents: Residents, sink: ChangeSink) -> None:
        self._store = store
        self._nodes = store.nodes
        self._residents = residents
        self._sink = sink
        self._places: dict[Ino, list[tuple[Ino, str]]] = {}
        """The folders above, nearest first, each with the node's name."""
        self._unseen: dict[Ino, tuple[Ino, float]] = {}
        """Nodes that took an open one's place: that one, and when (monotonic s). Removed once they are opened."""

    def displace(self, node: Node) -> None:
        """Take a node's name and its place on the server away. Part of the caller's transaction."""
        for ino in [ino for ino in self._places if not self._residents.is_open(ino)]:
            del self._places[ino]
        if node.linked and not node.folder and self._residents.is_open(node.ino):
            self._places[node.ino] = [(folder, node.name) for folder in self._nodes.ancestors(node.ino)]
        self._nodes.forget_synced(node.ino)
        self._nodes.update(node.ino, parent=None)

    def succeed(self, node: Ino, successor: Ino) -> None:
        """Another client's version took the name of a node that somebody has open."""
        now = time.monotonic()
        self._unseen = {ino: known for ino, known in self._unseen.items() if self.is_unseen(ino)}
        self._unseen[successor] = node, now

    def opened(self, ino: Ino) -> None:
        """A program opened a file, and so knows what it replaces if it does."""
        self._unseen.pop(ino, None)

    def is_unseen(self, ino: Ino) -> bool:
        """Tell whether a program that replaces this file may well mean the version before it.

        An editor reads a file, another client changes it, and the editor saves by renaming over the name: nobody
        here has seen what would be overwritten. So it is while the old version is open, and for a moment after.
        """
        if ino not in self._unseen:
            return False
        predecessor, since = self._unseen[ino]
        return self._residents.is_open(predecessor) or time.monotonic() - since < _SAVE_S

    def keep_apart(self, ours: Node, theirs: Node) -> str:
        """Return the name for ours beside theirs, which keeps its own. Part of the caller's transaction."""
        assert theirs.parent is not None  # noqa: S101  # it has the name that ours was to get
        copy = free_copy_name(self._nodes, theirs.parent, theirs.name)
        self._store.add_conflict(ours.ino, theirs.ino)
        # The kernel believes that the rename did what it was asked for.
        self._sink.entry_changed(theirs.parent, theirs.name)
        self._sink.entry_changed(theirs.parent, copy)
        return copy

    def is_displaced(self, ino: Ino) -> bool:
        """Tell whether the server gave an open node's place to another one, or to none."""
        node = self._nodes.get(ino) if ino in self._places else None
        return node is not None and not node.linked

    def forget(self, ino: Ino) -> None:
        """The user removed the node: what is written to it from now on goes with its handles, as it should."""
        self._places.pop(ino, None)

    def readmit(self, ino: Ino) -> None:
        """Give a displaced node that is about to be written a name again, or the bytes would go with its handles.

        Its own name if that is free, else that of a conflicted copy; in its folder, or the nearest that still exists.
        Part of the caller's transaction.
        """
        node = self._nodes.get(ino)
        if node is None or node.linked:
            return
        # The place is remembered further: the caller's transaction may fail, and be tried again.
        for parent, name in self._places.get(ino, ()):
            folder = self._nodes.get(parent)
            if folder is None or self._nodes.local_path(parent) is None:
                continue
            free = name if is_free(self._nodes, parent, name) else free_copy_name(self._nodes, parent, name)
            self._nodes.update(ino, parent=parent, name=free, local_only=int(stays_local(free, folder)))
            theirs = self._nodes.child(parent, name)
            if theirs is not None and theirs.ino != ino:
                self._store.add_conflict(ino, theirs.ino)
            self._sink.entry_changed(parent, free)
            return

"""Two contents for one name: the server's keeps the name, ours goes up beside it. Both stay visible."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.placing import free_copy_name
from cloudfs.metadata.takeover import Takeover
from cloudfs.paths import ROOT_PATH, join
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry

__all__ = ["Conflicts"]

_log = logging.getLogger(__name__)


class Conflicts:
    """Carries out the rules of design.md §2. NO CHECKPOINT: each method is one transaction.

    `met` hears of folders in which something of others stood in the way.
    """

    def __init__(
        self, store: Store, takeover: Takeover, sink: ChangeSink, met: Callable[[Ino], None] = lambda _: None
    ) -> None:
        self._store = store
        self._met = met
        self._nodes = store.nodes
        self._takeover = takeover
        self._sink = sink

    def keep_both(self, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> None:
        """Our content and the server's `entry`, which stands at `place`, both survive.

        Ours keeps its inode, so whoever has it open goes on with it; it becomes a new file for the server. The
        server's version appears as a new node under the old name.
        """
        folder, name = place
        self._met(folder)
        current = self._nodes.get(node.ino)
        if current is None:
            return
        node = current
        with self._store.transaction():
            if not node.synced or (node.s_parent, node.s_name) == place:
                self._nodes.forget_synced(node.ino)
                self._store.clear_observed(node.ino)
                self._store.end_attempts(node.ino)
            # Else the server has it elsewhere, and it is moved from there: forgotten it would be there twice.
            renamed = (node.parent, node.name) == place
            if renamed:
                self._nodes.update(node.ino, name=free_copy_name(self._nodes, folder, name))
            if self._nodes.child(folder, name) is None and self._nodes.synced_child(folder, name) is None:
                theirs = self._takeover.insert(folder, entry)
                self._store.add_conflict(node.ino, theirs)
                self._store.pins.share(node.ino, theirs)
        ours = self._nodes.get(node.ino)
        path = join(self._nodes.local_path(folder) or ROOT_PATH, name)
        message = "%s was changed here and on the server; ours is now %s"
        _log.info(message, path, ours.name if ours else "gone", extra={"path": path})
        if renamed and ours is not None:
            self._sink.entry_changed(folder, ours.name)
        self._sink.entry_changed(folder, name)

    def copy_of(self, place: tuple[Ino, str]) -> str:
        """Return a conflicted copy's name that is free beside a place."""
        return free_copy_name(self._nodes, *place)

    def set_aside(self, place: tuple[Ino, str], aside: str, entry: RemoteEntry | None) -> None:
        """What stood at `place` on the server is called `aside` there now; shown as `entry`, if it is known.

        It is no conflict to be decided about: which of the two is whose nobody knows.
        """
        folder, name = place
        self._met(folder)
        with self._store.transaction():
            free = (
                self._nodes.child(folder, aside) is None and self._nodes.synced_child(folder, aside) is None
            )
            if entry is not None and free:
                self._takeover.insert(folder, entry)
        path = join(self._nodes.local_path(folder) or ROOT_PATH, name)
        message = "%s: what the server had there may be a part of an upload that was cut, or another client's: now %s"
        _log.info(message, path, aside, extra={"path": path})
        self._sink.entry_changed(folder, aside)

    def step_aside(self, node: Node) -> None:
        """The server has something else under the name that ours was to get: ours takes another one."""
        current = self._nodes.get(node.ino)
        if current is None or (current.parent, current.name) != (node.parent, node.name):
            return  # it went on to another name while we asked
        assert node.parent is not None  # noqa: S101  # only linked nodes are sent
        parent = node.parent
        self._met(parent)
        copy = free_copy_name(self._nodes, parent, node.name)
        with self._store.transaction():
            self._nodes.update(node.ino, name=copy)
            if not node.folder:
                # What it met has no node yet: `resolve` finds it by its name once it was listed.
                self._store.add_conflict(node.ino, Ino(0))
        path = join(self._nodes.local_path(parent) or ROOT_PATH, node.name)
        _log.info("%s exists on the server already; ours is now %s", path, copy, extra={"path": path})
        self._sink.entry_removed(parent, node.name, node.ino, node.kind)
        self._sink.entry_changed(parent, copy)

"""Makes folders on the server. One that is there already is ours: two folders of one name are one."""

from __future__ import annotations

from collections.abc import Callable

import trio

from cloudfs.errors import AlreadyExists, ParentMissing
from cloudfs.metadata.columns import NS, synced_columns
from cloudfs.paths import join
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.evidence import Evidence
from cloudfs.types import Ino, Kind, RemoteEntry, RemotePath, RemoteVersion

__all__ = ["FolderMaker"]


class FolderMaker:
    """Carries out `MakeFolder` steps.

    `made` hears of folders that are certainly new, and when (trio) they were asked for, `met` of those that may hold
    anything; `collect` drops a node that nobody needs any more.
    """

    def __init__(
        self,
        store: Store,
        remote: Remote,
        conflicts: Conflicts,
        doubts: Doubts,
        made: Callable[[Ino, float], None],
        met: Callable[[Ino], None],
        collect: Callable[[Ino], None],
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._evidence = Evidence(remote)
        self._conflicts = conflicts
        self._doubts = doubts
        self._made = made
        self._met = met
        self._collect = collect

    async def make(self, node: Node) -> None:
        """Create a folder; where a file has its name, ours takes another one. Raises RemoteError."""
        place = (node.parent or node.ino, node.name)
        path = self._path_in(place)
        # What is put into the folder afterwards gives it another time: then its own is sent last, by a step of its own.
        with_time = _has_own_time(node) and not self._nodes.has_children(node.ino)
        asked_at = trio.current_time()
        try:
            with self._doubts.trying(node.ino, place):
                stored = await self._remote.make_folder(
                    path, mtime_s=node.mtime_ns // NS if with_time else None
                )
        except AlreadyExists:
            await self._adopt(node, place, path)
            return
        finally:
            self._collect(node.ino)
        modified_s = node.mtime_ns // NS if stored.modified_s is None else stored.modified_s
        version = RemoteVersion(stored.etag, 0, modified_s)
        entry = RemoteEntry(path, Kind.FOLDER, version, stored.file_id)
        self._commit(node, place, entry, told_time=stored.mtime_kept)
        self._made(node.ino, asked_at)

    async def has_arrived(self, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> bool:
        """Find out whether an earlier try made the folder that stands at `place` now; if so, commit it.

        One that the mount shows elsewhere by now, or no more, has to be empty: what is in it is another client's.
        """
        if entry.kind is not Kind.FOLDER or self._nodes.synced_child(*place) is not None:
            return False
        wanted = (node.parent, node.name) == place
        if not wanted and not await self._evidence.is_empty(entry.path):
            return False
        self._commit(node, place, entry, known=not wanted)
        return True

    def _path_in(self, place: tuple[Ino, str]) -> RemotePath:
        folder = self._nodes.synced_path(place[0])
        if folder is None:
            raise ParentMissing("its folder is not on the server yet", subject=place[1])
        return join(folder, place[1])

    async def _adopt(self, node: Node, place: tuple[Ino, str], path: RemotePath) -> None:
        entry = await self._remote.stat(path)
        current = self._nodes.get(node.ino)
        if current is None or (current.parent, current.name) != place:
            # It went on while we asked. The one on the server is another client's, or was made late by an earlier
            # request of ours: then that is to be found out.
            if node.tried is None:
                self._doubts.settle(node.ino)
            return
        self._doubts.settle(node.ino)
        if entry.kind is not Kind.FOLDER:
            self._conflicts.step_aside(node)
            return
        self._commit(node, place, entry, known=False)

    def _commit(
        self,
        node: Node,
        place: tuple[Ino, str],
        entry: RemoteEntry,
        *,
        known: bool = True,
        told_time: bool = False,
    ) -> None:
        """Note what the server has; not `known`: it may hold anything, and is asked for now, or before its next use.

        `told_time`: the server took over the folder's time. Else one that a program has set is still to be sent.
        """
        columns = synced_columns(place[0], entry) | {"s_name": place[1], "t_parent": None, "t_name": None}
        current = (
            self._nodes.get(node.ino) or node
        )  # something may have been put into it since, which gave it a time
        told_time = told_time and current.mtime_ns == node.mtime_ns
        to_send = self._remote.features.sets_mtime and not told_time and _has_own_time(current)
        s_mtime_ns = current.ctime_ns if to_send else current.mtime_ns
        with self._store.transaction():
            self._nodes.update(node.ino, **columns, s_version=0, s_mtime_ns=s_mtime_ns)
            if not known:
                self._nodes.update(node.ino, listed_at=0.0, listed_etag=None)
        if not known:
            # The kernel may have been told of names that they do not exist, when the folder was ours alone.
            self._met(node.ino)


def _has_own_time(node: Node) -> bool:
    """Tell whether a program has set a folder's time: members coming and going give it that of its last change."""
    return node.mtime_ns != node.ctime_ns

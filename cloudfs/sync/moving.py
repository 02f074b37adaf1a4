"""Moves things on the server to where the mount shows them."""

from __future__ import annotations

from cloudfs.errors import AlreadyExists, Changed, NotFound, ParentMissing
from cloudfs.paths import join
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.blindspots import BlindSpots
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.evidence import Evidence, condition_refused
from cloudfs.sync.upload import Uploader
from cloudfs.types import Ino, RemoteEntry, RemotePath, Stored

__all__ = ["Mover"]


class Mover:
    """Carries out `Move` and `MoveAside` steps."""

    def __init__(
        self, store: Store, remote: Remote, uploader: Uploader, conflicts: Conflicts, doubts: Doubts
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._blind_spots = BlindSpots(store, remote)
        self._evidence = Evidence(remote)
        self._uploader = uploader
        self._conflicts = conflicts
        self._doubts = doubts

    async def move(self, node: Node, place: tuple[Ino, str]) -> bool:
        """Move a node on the server; False when the server has something else there, which keeps the name.

        Raises RemoteError; then nothing was committed but perhaps that the outcome is in doubt.
        """
        self._doubts.require_over(node.ino, node.name)
        source, target = self._path(node, place), self._path_in(place)
        expect = None if node.folder else node.remote_version
        if node.folder:
            await self._require_same(node, source)
        try:
            with self._doubts.trying(node.ino, place):
                stored = await self._remote.move(source, target, expect=expect)
        except AlreadyExists:
            return await self._taken(node, target, place)
        except NotFound:
            entry = await self._evidence.look(target)
            if entry is None or not await self.has_arrived(node, place, entry):
                self._doubts.settle(node.ino)
                raise
            return True
        except Changed:
            self._doubts.settle(node.ino)  # it was refused, and nothing has the new name
            return await self._changed(node, source)
        self._commit(node.ino, place, stored)
        return True

    async def has_arrived(self, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> bool:
        """Find out whether an earlier try succeeded and only its reply was lost; if so, commit it.

        `entry` is what stands at `place` now.
        """
        if not await self._evidence.is_moved(node, self._nodes.synced_path(node.ino), entry):
            return False
        self._commit(node.ino, place, _as_found(node, entry))
        return True

    def _path(self, node: Node, place: tuple[Ino, str]) -> RemotePath:
        path = self._nodes.synced_path(node.ino)
        if path is None:
            # Its folder went while a request about it was under way. Not to be tried again: found out, and given up.
            self._nodes.begin_try(node.ino, node.tried or place)
            raise NotFound("it is not on the server any more", subject=node.name)
        return path

    def _path_in(self, place: tuple[Ino, str]) -> RemotePath:
        folder = self._nodes.synced_path(place[0])
        if folder is None:
            raise ParentMissing("its folder is not on the server yet", subject=place[1])
        return join(folder, place[1])

    async def _require_same(self, node: Node, source: RemotePath) -> None:
        """Raise Changed where something else stands in a folder's place: WebDAV has no condition on folders."""
        entry = await self._evidence.look(source)
        if entry is not None and self._evidence.is_another(node, entry):
            raise Changed("something else has its place by now", subject=source)

    async def _taken(self, node: Node, target: RemotePath, place: tuple[Ino, str]) -> bool:
        entry = await self._evidence.look(target)
        if entry is None:
            # Somebody took its new name, and gave it up again; or nobody did.
            self._doubts.settle_if_over(node.ino)
            raise condition_refused(target)
        if await self.has_arrived(node, place, entry):
            return True
        self._doubts.settle(node.ino)
        known = [] if entry.file_id is None else self._nodes.by_file_id(entry.file_id)
        if len(known) == 1 and known[0].kind is entry.kind and await self._has_left(known[0], entry):
            self._commit(known[0].ino, place, _as_found(known[0], entry))
            raise Changed("an earlier move brought something else of ours there", subject=target)
        if (node.parent, node.name) != place:
            # On its way aside: that name is not one that anybody sees here.
            raise AlreadyExists("the name in between is taken", subject=target)
        self._conflicts.step_aside(node)
        return False

    async def _has_left(self, node: Node, entry: RemoteEntry) -> bool:
        return await self._evidence.has_left(self._nodes.synced_path(node.ino), entry)

    async def _changed(self, node: Node, source: RemotePath) -> bool:
        """The server's file is not the version that was to be moved."""
        entry = await self._evidence.look(source)
        if entry is None or node.s_parent is None or node.s_name is None:
            raise NotFound("it is not on the server any more", subject=source)
        here = node.s_parent, node.s_name
        if await self._uploader.recognise(node, here, entry):
            return True  # what an upload of ours, whose reply was lost, made of it: the next plan moves that
        if entry.version.same_content(node.remote_version):
            raise condition_refused(source)
        if await self._uploader.clear(node, here, entry):
            raise Changed("a part of an upload that was cut stands there", subject=source)
        if not node.content_dirty:
            # The next listing brings their content, and the move goes on with it.
            raise Changed("it was changed on the server", subject=source)
        # Written and moved here, written there: theirs stays where it is, ours is a new file where it went.
        self._conflicts.keep_both(node, here, entry)
        return False

    def _commit(self, ino: Ino, place: tuple[Ino, str], stored: Stored) -> None:
        node = self._nodes.get(ino)
        if node is None:
            return
        columns: dict[str, object] = {
            "s_parent": place[0],
            "s_name": place[1],
            "s_spelling": None,
            "t_parent": None,
            "t_name": None,
        }
        if stored.etag and not node.folder:
            columns["s_etag"] = stored.etag
        if stored.file_id:
            columns["s_file_id"] = stored.file_id
        with self._store.transaction():
            if node.s_parent != place[0]:
                self._distrust(node, place[0])
            self._nodes.update(ino, **columns)

    def _distrust(self, node: Node, folder: Ino) -> None:
        """Count as not seen what was not before a node came into a folder: nothing shows it from now on."""
        if not node.folder and self._blind_spots.hide(node):
            # The folder may have been listed since the file's second: but without it.
            self._nodes.update(folder, listed_there=None, listed_etag=None)
        elif node.folder and not self._nodes.is_seen_whole(node.ino):
            # That something is new in it may have shown in the folders above alone.
            self._nodes.update(node.ino, listed_etag=None)


def _as_found(node: Node, entry: RemoteEntry) -> Stored:
    """Return what to note of a node that was found in its new place.

    Not the ETag of another version: the other client that wrote it may have moved it there as well, and what we send
    next would go over bytes that nobody here has seen.
    """
    known = entry.version.same_content(node.remote_version)
    return Stored(etag=entry.version.etag if known else "", file_id=entry.file_id)

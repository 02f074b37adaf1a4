"""Finds out what became of a request whose reply was lost."""

from __future__ import annotations

from collections.abc import Callable

from cloudfs.errors import Locked
from cloudfs.metadata.takeover import Takeover
from cloudfs.paths import join
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.evidence import Evidence
from cloudfs.sync.folders import FolderMaker
from cloudfs.sync.moving import Mover
from cloudfs.sync.removal import Remover
from cloudfs.sync.upload import Uploader
from cloudfs.types import Ino, RemoteEntry

__all__ = ["Finder"]


class Finder:
    """Carries out `FindOut` steps. `collect` drops a node that nobody needs any more."""

    def __init__(  # noqa: PLR0913, PLR0917  # whoever can leave a doubt has a part in ending it
        self,
        store: Store,
        remote: Remote,
        folders: FolderMaker,
        mover: Mover,
        uploader: Uploader,
        remover: Remover,
        takeover: Takeover,
        doubts: Doubts,
        collect: Callable[[Ino], None],
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._evidence = Evidence(remote)
        self._folders = folders
        self._mover = mover
        self._uploader = uploader
        self._remover = remover
        self._takeover = takeover
        self._doubts = doubts
        self._collect = collect

    async def find_out(self, node: Node) -> bool:
        """Look at the place that was tried, and commit what arrived there. The next plan goes on from that.

        Returns False where another client's thing stands there, which is to be shown soon. Raises RemoteError; then
        the outcome stays in doubt: the look failed, or the server may still be at work.
        """
        if node.tried is None:
            return True
        folder = self._nodes.synced_path(node.tried[0])
        path = None if folder is None else join(folder, node.tried[1])
        entry = None if path is None else await self._evidence.look(path)
        lost = folder is None or (node.synced and self._nodes.synced_path(node.ino) is None)
        late = not lost and self._may_still_come(node.ino)
        if node.removing:
            if entry is None or self._evidence.is_another(node, entry):
                if path is None:
                    await self._remover.commit(node)
                else:
                    await self._remover.commit_gone(node, path)
                return entry is None
        elif entry is not None:
            if await self._is_ours(node, node.tried, entry):
                return True
            if self._was_upload(node, node.tried) and await self._uploader.clear(node, node.tried, entry):
                entry = None
        if not late:
            self._give_up(node.ino)
        elif not self._is_tried_again(node.ino):
            raise Locked("what became of an earlier request is not known yet", subject=node.name)
        return entry is None

    def _was_upload(self, node: Node, place: tuple[Ino, str]) -> bool:
        """Tell whether it may be content that was tried there. Of a move nothing but the node itself can be there."""
        return not node.folder and (not node.synced or self._nodes.synced_child(*place) is not None)

    def _may_still_come(self, ino: Ino) -> bool:
        size = max((attempt.size for attempt in self._store.attempts(ino)), default=0)
        return self._doubts.may_still_come(ino, size)

    def _is_tried_again(self, ino: Ino) -> bool:
        """Have the same tried again, which meets what comes late; False where the node has gone on by now."""
        self._nodes.looked(ino)
        node = self._nodes.get(ino)
        return node is not None and not node.to_be_found

    async def _is_ours(self, node: Node, place: tuple[Ino, str], entry: RemoteEntry) -> bool:
        if node.synced and await self._mover.has_arrived(node, place, entry):
            return True
        if node.folder:
            return not node.synced and await self._folders.has_arrived(node, place, entry)
        return await self._uploader.recognise(node, place, entry)

    def _give_up(self, ino: Ino) -> None:
        """It never arrived: the node is as the server has it otherwise, or not at all."""
        self._doubts.settle(ino)
        node = self._nodes.get(ino)
        if node is not None and node.synced and self._nodes.synced_path(ino) is None:
            self._takeover.drop(
                node
            )  # its folder went meanwhile, when nobody could tell whether it was still in it
        self._collect(ino)

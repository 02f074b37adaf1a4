"""Removes on the server what the mount shows no more, and nothing else.

A file is deleted under the condition that it is the version we know. WebDAV has no such condition for folders,
so a folder is looked through right before its one DELETE, by one request where the server can; what is unknown or
changed in it is kept. Where that takes longer, and folders' ETags tell of changes below them, the look counts only if
nothing changed meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from itertools import chain

import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.content.files import Files
from cloudfs.content.outgoing import Outgoing
from cloudfs.errors import Changed, Locked, NotFound, RemoteError, Unsupported
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.residents import Residents
from cloudfs.paths import ROOT_PATH, parent_of
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.blindspots import BlindSpots
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.evidence import Evidence, base_content, condition_refused
from cloudfs.sync.rescuing import Rescuer
from cloudfs.sync.upload import Uploader
from cloudfs.types import Ino, RemoteEntry, RemotePath, RemoteVersion

__all__ = ["Remover"]

_log = logging.getLogger(__name__)

_BATCH = 64
"""Nodes between two checkpoints: 6 ms on the loop, twice that where the machine is busy."""


_MOST_AT_ONCE = 5000
"""Objects in one look, 0.9 s of the server (protocol.md §4); what has more is looked through folder by folder."""
_ONE_MOMENT = 1000
"""Objects that one answer tells of in 0.1 s: as long as one folder of so many takes."""


class _Sight:
    """What the server has in a folder: all in one answer, as far as that goes, else folder by folder."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._seen: dict[RemotePath, tuple[RemoteEntry, Sequence[RemoteEntry]]] = {}
        self._looks = 0

    async def take(self, path: RemotePath, known: int) -> None:
        """Ask for everything below a folder, in which so many objects are known. Raises NotFound."""
        self._looks += 1
        try:
            tree = await self._remote.list_tree(path, most=2 * known)
        except NotFound:
            raise
        except RemoteError as error:
            _log.debug("%s is looked through folder by folder: %s", path, error)
            return
        seen = {own.path: (own, members) for own, members in tree}
        if path in seen:  # or its ETag would be of after the looks at what is in it
            self._seen = seen
            self._looks += sum(len(members) for _, members in tree) > _ONE_MOMENT

    async def folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        """Return a folder and its members. Raises RemoteError."""
        if path not in self._seen:
            self._looks += 1
            self._seen[path] = await self._remote.list_folder(path)
        return self._seen[path]

    def etag_to_compare(self, path: RemotePath) -> str | None:
        """Return the ETag of before all looks; None where all was seen at one moment."""
        return None if self._looks <= 1 else self._seen[path][0].version.etag


class Remover:
    """Carries out `Remove` steps."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        lister: Lister,
        residents: Residents,
        files: Files,
        outgoing: Outgoing,
        doubts: Doubts,
        uploader: Uploader,
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._lister = lister
        self._residents = residents
        self._files = files
        self._rescuer = Rescuer(store, remote, outgoing)
        self._doubts = doubts
        self._uploader = uploader
        self.is_held: Callable[[Ino], bool] = lambda _: False
        """Whether a folder is kept here though the server shows it no more: see `VanishGuard`."""
        self._evidence = Evidence(remote)
        self._blind_spots = BlindSpots(store, remote)

    async def remove(self, node: Node) -> bool:
        """Delete the server's copy, unless it was changed since: False, it stays and shows up again when it is listed.

        What stays in the mount (a local-only place) gets all its bytes into staging first. Raises RemoteError and
        LocalDamage, and BaseLost where such a file is not in its place on the server any more: a listing tells.
        """
        self._doubts.require_over(node.ino, node.name)
        if node.linked:
            # It stays here, in a local-only place: its bytes must not go with the server's copy.
            if await self._uploader.tail_arrived(node):
                return True  # the next plan removes that
            await self._keep(node)
        path = self._nodes.synced_path(node.ino)
        if path is None:
            await self.commit(
                node
            )  # the folder that it was in is gone, and a listing shows it where it went instead
            return True
        try:
            if node.folder:
                await self._remove_folder(node, path)
            else:
                await self._remove_file(node, path)
        except NotFound:
            await self.commit_gone(node, path)
            return True
        except Changed:
            if await self._holds_shown(node):
                raise  # what is shown of the server's files is to be kept first, at the next try
            # The server's version was changed since: it wins over our removal.
            _log.info("%s was changed on the server: it is not removed", node.name)
            await self.commit(node)
            return False
        await self.commit(node)
        return True

    async def _remove_file(self, node: Node, path: RemotePath) -> None:
        """Delete a file that is as we know it, or as an upload of ours made it whose reply was lost."""
        try:
            if self._blind_spots.hide(node):
                await self._require_known(node, path)
            await self._delete(node, path, node.remote_version)
        except Changed:
            entry = await self._evidence.look(path)
            if entry is not None and entry.version.same_content(node.remote_version):
                raise condition_refused(path) from None
            if entry is None or not await self._is_ours(node, entry):
                raise
            await self._delete(node, path, entry.version)

    async def _delete(self, node: Node, path: RemotePath, expect: RemoteVersion | None = None) -> None:
        """Send the request; of what the mount goes on showing it is noted that we are who removes it.

        So it is noted of every folder, which has no condition: its place is given up only when no earlier request may
        yet take what is made there.
        """
        stays = node.linked and node.s_parent is not None and node.s_name is not None
        place = (node.s_parent or node.ino, node.s_name or "")
        try:
            with self._doubts.trying(node.ino, place) if stays or node.folder else contextlib.nullcontext():
                await self._remote.delete(path, expect=expect)
        except Locked:
            self._doubts.settle_if_over(node.ino)
            raise

    async def _require_known(self, node: Node, path: RemotePath) -> None:
        entry = await self._evidence.look(path)
        if entry is not None and not entry.version.same_content(node.remote_version):
            raise Changed("it was changed on the server", subject=path)

    async def _keep(self, node: Node) -> None:
        """Bring all that stays here, at and below a node, into staging: also what was never listed or read.

        What was removed in it and is still open stays with its readers.
        """
        if not node.folder:
            await self._uploader.tail_arrived(node)  # the server may have nothing else of it any more
            await self._rescuer.rescue(node)
            return
        if node.synced and node.linked:
            await self._lister.refresh(node.ino)
        for member in self._nodes.children(node.ino):
            await self._keep(member)
        for member in self._nodes.synced_children(node.ino):
            if not member.linked and (member.folder or self._residents.is_open(member.ino)):
                await self._keep(member)

    async def _remove_folder(self, node: Node, path: RemotePath) -> None:
        """Delete a folder in one request, but only if nothing in it is unknown or changed."""
        sight = _Sight(self._remote)
        try:
            known = self._nodes.count_synced_from(node.ino, _MOST_AT_ONCE + 1)
            if (
                known <= _MOST_AT_ONCE
                and self._remote.features.depth_infinity
                and await self._has_folders(node)
            ):
                await sight.take(path, known)
            as_known = await self._is_as_known(node, path, sight)
        except Unsupported as error:
            raise Changed("it is a file on the server by now", subject=path) from error
        if as_known:
            await self._require_unchanged(path, sight)
            await self._require_kept(node, path)
            await self._delete(node, path)
            return
        for member in reversed(self._nodes.synced_descendants(node.ino)):
            if not member.folder and not self._needs_server(member.ino):
                await self._remove_if_unchanged(member)
        raise Changed("it holds files that were not known here", subject=path)

    async def _has_folders(self, folder: Node) -> bool:
        with self._store.db.snapshot() as rows:
            for page in rows.synced_below(folder.ino):
                if any(is_folder for _, is_folder in page):
                    return True
                await trio.lowlevel.checkpoint()
        return False

    async def _require_unchanged(self, path: RemotePath, sight: _Sight) -> None:
        """Raise Locked when anything changed in a folder while it was looked through, if its ETag tells."""
        etag = sight.etag_to_compare(path)
        if etag is None or not self._remote.features.deep_etags:
            return
        if (await self._remote.stat(path)).version.etag != etag:
            raise Locked("another client is changing something in it", subject=path)

    async def _require_kept(self, node: Node, path: RemotePath) -> None:
        """Raise Changed when the mount shows a file whose bytes are in the server's folder alone.

        A listing may have brought one since, or one was moved out of the folder since this was planned.
        """
        if await self._holds_shown(node):
            raise Changed("it has files that are not kept here yet", subject=path)

    async def _holds_shown(self, node: Node) -> bool:
        """Tell whether a file that the mount shows, in the folder or moved out of it, has its bytes in it alone.

        NO CHECKPOINT after its last look. What changes while it reads the rows in slices is looked at by itself.
        """
        if not node.folder:
            return False
        with self._nodes.watched() as changed:
            with self._store.db.snapshot() as rows:
                there, shown = (rows.clean_files_below(node.ino, shown=shown) for shown in (False, True))
                for page in chain(there, shown if node.linked else ()):
                    if any(map(self._needs_server, page)):
                        return True
                    await trio.lowlevel.checkpoint()
            return any(self._needs_server(ino) and self._is_below(ino, node.ino) for ino in changed)

    def _is_below(self, ino: Ino, folder: Ino) -> bool:
        return folder in self._nodes.synced_ancestors(ino) or folder in self._nodes.ancestors(ino)

    def _needs_server(self, ino: Ino) -> bool:
        """Tell whether the mount shows a file whose bytes are on the server alone."""
        node = self._nodes.get(ino)
        return (
            node is not None and node.linked and not node.folder and node.size > 0 and not node.content_dirty
        )

    async def _remove_if_unchanged(self, member: Node) -> None:
        path = self._nodes.synced_path(member.ino)
        if path is None:
            return
        try:
            await self._remove_file(member, path)
        except Changed as error:
            _log.debug("not removed: %s", error)
            self._doubts.settle(member.ino)
        except NotFound:
            with contextlib.suppress(Changed):  # it went elsewhere with its folder, and is not removed either
                await self.commit_gone(member, path)
        else:
            await self.commit(member)

    async def _is_as_known(self, folder: Node, path: RemotePath, sight: _Sight) -> bool:
        """Look through a folder; False where anything is news."""
        own, members = await sight.folder(path)
        if own.hidden_members or self._evidence.is_another(folder, own):
            return False  # names that the mount cannot show, or another folder: nobody here has seen what would go
        for number, entry in enumerate(members, 1):
            if number % _BATCH == 0:
                await trio.lowlevel.checkpoint()
            known = self._nodes.synced_child(folder.ino, entry.name)
            if known is None or known.kind is not entry.kind:
                return False
            if known.folder:
                if not await self._is_as_known(known, entry.path, sight):
                    return False
            elif not await self._is_version(known, entry):
                return False
        return True

    async def _is_version(self, known: Node, entry: RemoteEntry) -> bool:
        if known.remote_version.same_content(entry.version):
            return True
        return await self._is_ours(known, entry)

    async def _is_ours(self, node: Node, entry: RemoteEntry) -> bool:
        """Tell whether what is there comes from a request of ours whose reply was lost, or has the known bytes."""
        contents = [*self._store.attempts(node.ino), *base_content(node)]
        if await self._evidence.sent(entry, contents) is not None:
            return True
        place = (node.s_parent or node.ino, node.s_name or "")
        return await self._uploader.is_left_over(node, place, entry)

    async def commit_gone(self, node: Node, path: RemotePath) -> None:
        """Do as `commit`, where nothing is found in its place.

        Raises Changed where its folder is not in its place either: another client may have moved it, and this in it.
        Not of a folder that no listing has gone before somebody answers.
        """
        above = parent_of(path)
        if above != ROOT_PATH:
            entry = await self._evidence.look(above)
            folder = None if node.s_parent is None else self._nodes.get(node.s_parent)
            if folder is None or entry is None or self._evidence.is_another(folder, entry):
                if folder is None or not self.is_held(folder.ino):
                    raise Changed("the folder that it was in is elsewhere by now", subject=path)
                # Should it show up again, what was removed here may be in it: then that is seen anew.
                self._nodes.update(folder.ino, listed_etag=None)
        await self.commit(node)

    async def commit(self, node: Node) -> None:
        """The server has it no more, nor what was in it: what the mount shows of that is new from now on.

        Of a folder that is shown nowhere, nor anything of it, the members go first, in batches: if this breaks off, it
        is still to be removed, and found to be gone. Nobody gets into it meanwhile, and no listing adds anything to it.
        All else goes in one piece: between two a listing might bring something whose bytes nobody has kept.
        """
        if node.folder and not self._shows_any_of(node.ino):
            await self._forget_hidden(node.ino)
        self._doubts.settle(node.ino)
        with self._store.transaction():
            below = self._nodes.synced_descendants(node.ino) if node.folder else []
            for gone in (*reversed(below), node):
                self._forget(gone.ino)

    def _shows_any_of(self, folder: Ino) -> bool:
        current = self._nodes.get(folder)
        return current is None or current.linked or self._nodes.is_shown_in_part(folder)

    async def _forget_hidden(self, top: Ino) -> None:
        folders = [top]
        with self._store.db.snapshot() as rows:
            for known in rows.synced_below(top):
                folders += [ino for ino, is_folder in known if is_folder]
                await trio.lowlevel.checkpoint()
        for folder in reversed(folders):
            last = ""
            while page := self._nodes.moved_after(folder, last, _BATCH):
                # NO CHECKPOINT since the page was read. What went elsewhere on the server meanwhile is not gone.
                if top not in (folder, *self._nodes.synced_ancestors(folder)):
                    break
                last = page[-1].s_name or ""
                with self._store.transaction():
                    for gone in page:
                        if not gone.linked:
                            self._forget(gone.ino)
                reached("batch forgotten")
                await trio.lowlevel.checkpoint()

    def _forget(self, ino: Ino) -> None:
        current = self._nodes.get(ino)
        if current is None:
            return
        self._nodes.forget_synced(ino)
        self._store.clear_observed(ino)
        self._store.end_attempts(ino)
        if not current.linked and not self._residents.is_held(ino):
            self._files.disposal.discard(ino)
            self._nodes.delete(ino)

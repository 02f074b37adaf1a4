"""Carries out what `merge` decided: rows change in short transactions, the kernel is told afterwards.

Every change is checked against its row again right before it is made, because the mount went on while the
listing was under way. A change that no longer fits is left to the next listing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec
import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.concurrency.slices import slices, turns
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.merge import Add, Adopt, Change, Drop, Observe, Refresh, Rename, update
from cloudfs.metadata.permissions import allows, letters_of_share_root
from cloudfs.metadata.placing import free_copy_name
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.setback import Setback
from cloudfs.metadata.vanished import Vanished
from cloudfs.paths import ROOT_PATH, join
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, Kind, RemoteEntry, RemoteVersion

__all__ = ["Takeover", "synced_columns"]

_log = logging.getLogger(__name__)

_BATCH = 64
"""Changes per transaction: 6 ms on the loop, twice that where the machine is busy."""
_MANY = 10_000
"""Changes of which some are picked out between two checkpoints: 1 ms."""
_FOLDERS = 32
"""Folders that are looked at and dropped in one: as long."""

NS = 1_000_000_000


def synced_columns(parent: Ino, entry: RemoteEntry) -> dict[str, object]:
    """Return the synced view's columns of a listed object, all but s_version and s_mtime_ns."""
    return {
        "s_parent": parent,
        "s_name": entry.name,
        "s_spelling": entry.spelling,
        **version_columns(entry.version),
        "s_file_id": entry.file_id,
        "permissions": entry.permissions,
        "mount_root": int(entry.mount_root),
    }


def version_columns(version: RemoteVersion) -> dict[str, object]:
    """Return the columns that name one version of the server's."""
    return {
        "s_etag": version.etag,
        "s_size": version.size,
        "s_modified_s": version.modified_s,
        "s_checksum": version.checksum,
    }


class Takeover:
    """Applies changes to one store. `discard` frees the content of a node whose row goes.

    `may_more` is told when something known is seen to allow more than before.
    """

    def __init__(  # noqa: PLR0913  # all that a listing may concern comes together here
        self,
        store: Store,
        residents: Residents,
        displaced: Displaced,
        sink: ChangeSink,
        *,
        keeps_mtime: Callable[[], bool],
        discard: Callable[[Ino], None],
        guard: VanishGuard | None = None,
        setback: Setback | None = None,
        may_more: Callable[[], None] = lambda: None,
    ) -> None:
        self._may_more = may_more
        self._store = store
        self._nodes = store.nodes
        self._residents = residents
        self._sink = sink
        self._keeps_mtime = keeps_mtime
        self._discard = discard
        self._displaced = displaced
        self._guard = guard
        self._setback = setback
        self.vanished = Vanished(store, residents, discard)

    async def apply(self, folder: Ino, changes: Sequence[Change], *, kept: Collection[Ino] = ()) -> bool:
        """Take over what a whole listing of one folder changes, in batches with a checkpoint between them.

        `kept`: nodes that are not dropped now, though the listing lacks them. False when a change did not fit any
        more, so that only another listing can bring it.
        """
        if self._guard is not None:
            changes = await self._guard.sift(folder, changes)
        if self._setback is not None:
            others: list[Ino] = []
            async for some in turns(changes, _MANY):
                others += [it.node.ino for it in some if isinstance(it, Refresh) and it.content]
            self._setback.begin_listing(folder, others)
        fitted = True
        for part in slices(changes, _BATCH):
            wanted = [it for it in part if not (isinstance(it, Drop) and it.node.ino in kept)]
            batch = [await self._thinned(it) if isinstance(it, Drop) else it for it in wanted]
            announcements: list[Callable[[], None]] = []
            with self._store.transaction():
                for change in batch:
                    fitted = fitted and self._fits(change)
                    announcements += self._one(folder, change)
            for announce in announcements:
                announce()
            reached("batch taken over")
            await trio.lowlevel.checkpoint()
        return fitted

    async def _thinned(self, change: Drop) -> Drop:
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

    def drop(self, node: Node) -> None:
        """Forget a node that the server no longer has; what has work pending becomes new. NO CHECKPOINT."""
        with self._store.transaction():
            announcements = self._drop(node)
        for announce in announcements:
            announce()

    def refresh_folder(
        self, asked: Node, entry: RemoteEntry, *, whole: bool, listed_at: float, listed_there: float
    ) -> None:
        """The folder itself was listed: note its ETag and the time. `asked`: its row before it was asked for.

        `listed_at`, and `listed_there` by the server's clock: Unix s at which it was asked for. What was written since
        may not be in the listing.

        INVARIANT: the ETags of row and listing are equal only where all that the server was ever heard to have in the
        folder was seen. So one that was heard meanwhile (from the listing above) stays, be it older or newer than the
        listing's own: then the two differ, and the folder is asked for again. The same where it became doubtful
        meanwhile.
        """
        node = self._nodes.get(asked.ino)
        if node is None:
            return
        doubted = node.listed_etag is None and asked.listed_etag is not None
        times: dict[str, object] = {}
        if self._takes_mtime(node, entry, content=False):
            times = dict.fromkeys(("mtime_ns", "s_mtime_ns"), entry.version.modified_s * NS)
        version = version_columns(entry.version)
        if node.s_etag != asked.s_etag:
            del version["s_etag"]
        letters = entry.permissions
        if node.mount_root:
            letters = letters_of_share_root(node.permissions, letters)
        self._note_letters(node, letters)
        self._nodes.update(
            node.ino,
            **times,
            **version,
            listed_etag=entry.version.etag if whole and not doubted else None,
            s_file_id=entry.file_id,
            permissions=letters,
            listed_at=listed_at,
            listed_there=listed_there,
        )
        if times or allows(node.permissions, "CK") != allows(letters, "CK"):
            self._sink.node_changed(node.ino, content=False)

    def _fits(self, change: Change) -> bool:
        """Tell whether a node still is what the change was made for."""
        return isinstance(change, Add) or self._nodes.get(change.node.ino) == change.node

    def _one(self, folder: Ino, change: Change) -> list[Callable[[], None]]:
        if isinstance(change, Add):
            return self._add(folder, change.entry)
        if not self._fits(change):
            return []
        match change:
            case Adopt(node, entry):
                self._nodes.update(
                    node.ino, **synced_columns(folder, entry), s_version=0, s_mtime_ns=node.mtime_ns
                )
                # What is in it here is known; what the server has in it is asked for before its next use.
                self._nodes.update(node.ino, listed_at=0.0, listed_etag=None)
                return [lambda: self._sink.node_changed(node.ino, content=False)]
            case Refresh(node, entry, content):
                return self._refresh(node, entry, content=content)
            case Rename(node, entry):
                return self._rename(folder, node, entry)
            case Drop(node):
                return self._drop(node)
            case Observe(node, entry):
                self._nodes.update(node.ino, s_spelling=entry.spelling)
                self._store.observe(node.ino, entry)
                return []

    def _add(self, folder: Ino, entry: RemoteEntry) -> list[Callable[[], None]]:
        parent = self._nodes.get(folder)
        if parent is None or not parent.linked:
            # Removed here meanwhile. What nobody saw in it must stay unknown, or it would be deleted as known.
            return []
        if self._nodes.is_taken(folder, entry.name):
            return []
        moved = self.vanished.find(entry)
        if (
            moved is not None
            and not self._is_other_while_open(moved, entry)
            and not self._is_above(moved, folder)
        ):
            return self._move_in(parent, moved, entry)
        self.insert(folder, entry, above=parent)
        return [lambda: self._sink.entry_changed(folder, entry.name)]

    def _is_other_while_open(self, node: Node, entry: RemoteEntry) -> bool:
        """Tell whether somebody has another version of a file open: the new one gets an inode of its own."""
        if node.folder or node.remote_version.same_content(entry.version):
            return False
        return self._residents.is_open(node.ino)

    def _is_above(self, node: Node, folder: Ino) -> bool:
        """Tell whether a folder lies in another one, which it was moved into here, or of which we know no better."""
        above = (folder, *self._nodes.ancestors(folder), *self._nodes.synced_ancestors(folder))
        return bool(node.folder) and node.ino in above

    def _move_in(self, folder: Node, node: Node, entry: RemoteEntry) -> list[Callable[[], None]]:
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
        self.vanished.found(node)
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
            announcements += self._one(folder.ino, change)
        return announcements

    def insert(
        self,
        folder: Ino,
        entry: RemoteEntry,
        *,
        parent: Ino | None = None,
        name: str | None = None,
        above: Node | None = None,
    ) -> Ino:
        """Add a node for an object that the server has in `folder`, shown there or under `parent` and `name`.

        The shown name must be free. `above`: the row of the folder that shows it, where the caller has just read that.
        """
        mtime_ns = entry.version.modified_s * NS
        version = self._nodes.next_version() if entry.kind is Kind.FILE and entry.version.size else 0
        above = above or self._nodes.get(folder if parent is None else parent)
        return self._nodes.insert(
            parent=folder if parent is None else parent,
            name=entry.name if name is None else name,
            folder=int(entry.kind is Kind.FOLDER),
            size=entry.version.size if entry.kind is Kind.FILE else 0,
            mtime_ns=mtime_ns,
            ctime_ns=mtime_ns,
            version=version,
            s_version=version,
            s_mtime_ns=mtime_ns,
            # A listed name of a local-only form (another client made it) is shown, and stays the server's; what a
            # folder holds that went to a local-only place here goes with it.
            local_only=0 if above is None else above.local_only,
            **synced_columns(folder, entry),
        )

    def _refresh(self, node: Node, entry: RemoteEntry, *, content: bool) -> list[Callable[[], None]]:
        if content and self._setback is not None and self._setback.keeps(node, entry):
            return []
        if content:
            self._store.clear_observed(node.ino)
        if content and self._residents.is_open(node.ino):
            return self._replace_open(node, entry)
        columns = synced_columns(node.s_parent or node.ino, entry)
        mtime_ns = entry.version.modified_s * NS
        self._note_letters(node, entry.permissions)
        if node.folder and entry.permissions != node.permissions:
            # What is in it allows something else too, and no ETag in it tells of that (protocol.md §3.1).
            columns["listed_etag"] = None
        if content:
            version = self._nodes.next_version() if entry.version.size else 0
            columns |= {
                "version": version,
                "s_version": version,
                "size": entry.version.size,
                "ctime_ns": time.time_ns(),
            }
        if self._takes_mtime(node, entry, content=content):
            columns |= {"mtime_ns": mtime_ns, "s_mtime_ns": mtime_ns}
        self._nodes.update(node.ino, **columns)
        return [lambda: self._sink.node_changed(node.ino, content=content)]

    def _note_letters(self, node: Node, told: str | None) -> None:
        if node.permissions is not None and not set(told or "") <= set(node.permissions):
            self._may_more()

    def _takes_mtime(self, node: Node, entry: RemoteEntry, *, content: bool) -> bool:
        if node.mtime_ns != node.s_mtime_ns or node.mtime_ns // NS == entry.version.modified_s:
            return False
        # Where uploads cannot set a time, the server's is only that of the upload: the local one is better.
        return (
            content
            or bool(node.folder)
            or (self._keeps_mtime() and entry.version.modified_s != node.s_modified_s)
        )

    def _replace_open(self, node: Node, entry: RemoteEntry) -> list[Callable[[], None]]:
        """Give a new version of an open file a new inode, so that no reader ever mixes two versions.

        The kernel's pages belong to the inode: with one inode, a reader of the old version would be served
        pages that a reader of the new one had fetched.
        """
        name, parent = node.name, node.parent
        assert parent is not None  # noqa: S101  # merge refreshes content of linked nodes only
        s_parent = node.s_parent
        self._displaced.displace(node)
        successor = self.insert(s_parent or parent, entry, parent=parent, name=name)
        self._displaced.succeed(node.ino, successor)
        self._store.pins.share(node.ino, successor)
        self._nodes.update(successor, mode=node.mode, local_only=node.local_only)
        return [lambda: self._sink.entry_changed(parent, name)]

    def _rename(self, folder: Ino, node: Node, entry: RemoteEntry) -> list[Callable[[], None]]:
        announcements: list[Callable[[], None]] = []
        occupant = self._nodes.child(folder, entry.name)
        if occupant is not None:
            if occupant.synced and occupant.placed:
                return []  # another listing has to tell where that one went
            announcements += self._make_way(folder, occupant)
        old = node.name
        self._nodes.update(node.ino, name=entry.name, s_name=entry.name, s_spelling=entry.spelling)
        announcements += [
            lambda: self._sink.entry_removed(folder, old, node.ino, node.kind),
            lambda: self._sink.entry_changed(folder, entry.name),
        ]
        renamed = self._nodes.get(node.ino)
        # It may have been written there as well: that is decided as for a file that kept its name.
        for change in [] if renamed is None else update(renamed, entry):
            announcements += self._one(folder, change)
        return announcements

    def _make_way(self, folder: Ino, ours: Node) -> list[Callable[[], None]]:
        """Give what was made or moved here a conflicted copy's name: the server has something else under its own."""
        name, copy = ours.name, free_copy_name(self._nodes, folder, ours.name)
        self._nodes.update(ours.ino, name=copy)
        path = join(self._nodes.local_path(folder) or ROOT_PATH, name)
        _log.info("%s exists on the server already; ours is now %s", path, copy, extra={"path": path})
        return [
            lambda: self._sink.entry_removed(folder, name, ours.ino, ours.kind),
            lambda: self._sink.entry_changed(folder, copy),
        ]

    def _drop(self, node: Node) -> list[Callable[[], None]]:
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
        self.vanished.keep(node)
        if self._residents.is_held(node.ino):
            self._displaced.displace(node)
        else:
            self._discard(node.ino)
            self._nodes.delete(node.ino)
        return [] if parent is None else [lambda: self._sink.entry_removed(parent, name, node.ino, node.kind)]

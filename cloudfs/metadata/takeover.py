"""Carries out what `merge` decided: rows change in short transactions, the kernel is told afterwards.

Every change is checked against its row again right before it is made, because the mount went on while the
listing was under way. A change that no longer fits is left to the next listing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence

import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.concurrency.slices import slices, turns
from cloudfs.metadata.arriving import Arriving
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.columns import NS, synced_columns, version_columns
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.dropping import Dropping
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
from cloudfs.types import ContentVersion, Ino, Kind, RemoteEntry

__all__ = ["Takeover"]

_log = logging.getLogger(__name__)

_BATCH = 64
"""Changes per transaction: 6 ms on the loop, twice that where the machine is busy."""
_MANY = 10_000
"""Changes of which some are picked out between two checkpoints: 1 ms."""


class Takeover:
    """Applies changes to one store. `discard` frees the content of a node whose row goes.

    `may_more` is told when something known is seen to allow more than before, `doubt` when listings of a folder that
    are under way may be too old.
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
        doubt: Callable[[Ino], None] = lambda _: None,
    ) -> None:
        self._doubt = doubt
        self._may_more = may_more
        self._store = store
        self._nodes = store.nodes
        self._residents = residents
        self._sink = sink
        self._keeps_mtime = keeps_mtime
        self._displaced = displaced
        self._guard = guard
        self._setback = setback
        self.vanished = Vanished(store, residents, discard)
        self._dropping = Dropping(store, residents, displaced, sink, self.vanished, discard)
        self.arriving = Arriving(
            store, residents, displaced, sink, self._dropping, self.vanished, guard, self._one
        )

    async def apply(self, folder: Ino, changes: Sequence[Change], *, kept: Collection[Ino] = ()) -> bool:
        """Take over what a whole listing of one folder changes, in batches with a checkpoint between them.

        `kept`: nodes that are not dropped now, though the listing lacks them. False when a change did not fit any
        more, so that only another listing can bring it.
        """
        if self._setback is not None:
            # Before the absences: none is believed where this listing shows that the server was set back.
            others: list[Refresh] = []
            async for some in turns(changes, _MANY):
                others += [it for it in some if isinstance(it, Refresh) and it.content]
            self._setback.begin_listing(folder, others)
        if self._guard is not None:
            changes = await self._guard.sift(folder, changes)
        fitted = True
        for part in slices(changes, _BATCH):
            wanted = [it for it in part if not (isinstance(it, Drop) and it.node.ino in kept)]
            batch = [await self._dropping.thinned(it) if isinstance(it, Drop) else it for it in wanted]
            announcements: list[Callable[[], None]] = []
            with self._store.transaction():
                above, versions = self._nodes.get(folder), self._versions(batch)
                for change in batch:
                    if isinstance(change, Add):
                        announcements += self._add(above, change.entry, versions)
                    else:
                        fitted = fitted and self._fits(change)
                        announcements += self._one(folder, change)
            for announce in announcements:
                announce()
            reached("batch taken over")
            await trio.lowlevel.checkpoint()
        self._note_change(folder, changes)
        return fitted

    def _note_change(self, folder: Ino, changes: Sequence[Change]) -> None:
        """Give a known folder in which others came or went the time of now, where the server's says nothing.

        One that keeps no times that are set gives folders that of our own uploads into them: see `_takes_mtime`.
        """
        node = self._nodes.get(folder)
        if self._keeps_mtime() or node is None or not node.listed_at or node.mtime_ns != node.s_mtime_ns:
            return
        if any(isinstance(it, Add | Drop | Rename) for it in changes):
            now_ns = time.time_ns()
            self._nodes.update(folder, mtime_ns=now_ns, s_mtime_ns=now_ns)
            self._sink.node_changed(folder, content=False)

    def drop(self, node: Node) -> None:
        """Forget a node that the server no longer has; what has work pending becomes new. NO CHECKPOINT."""
        with self._store.transaction():
            announcements = self._dropping.drop(node)
        for announce in announcements:
            announce()

    def refresh_folder(
        self, asked: Node, entry: RemoteEntry, *, whole: bool, listed_at: float, listed_there: float | None
    ) -> None:
        """The folder itself was listed: note its ETag and the time. `asked`: its row before it was asked for.

        `listed_at`, and `listed_there` by the server's clock: Unix s at which it was asked for; None: not known. What
        was written since may not be in the listing.

        INVARIANT: the ETags of row and listing are equal only where all that the server was ever heard to have in the
        folder was seen. So one that was heard meanwhile (from the listing above) stays, be it older or newer than the
        listing's own: then the two differ, and the folder is asked for again. The same where it became doubtful
        meanwhile.
        """
        node = self._nodes.get(asked.ino)
        if node is None:
            return
        whole = whole and (node.listed_etag is not None or asked.listed_etag is None)
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
            listed_etag=entry.version.etag if whole else None,
            s_file_id=entry.file_id,
            permissions=letters,
            listed_at=listed_at,
            # Of what was left out nothing was seen then.
            listed_there=listed_there if whole else node.listed_there,
        )
        if times or allows(node.permissions, "CK") != allows(letters, "CK"):
            self._sink.node_changed(node.ino, content=False)

    def _fits(self, change: Change) -> bool:
        """Tell whether a node still is what the change was made for."""
        return isinstance(change, Add) or self._nodes.get(change.node.ino) == change.node

    def _one(self, folder: Ino, change: Change) -> list[Callable[[], None]]:
        if isinstance(change, Add):
            return self._add(self._nodes.get(folder), change.entry, self._versions([change]))
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
                twin = self.arriving.twin(node)
                return self._dropping.drop(node) if twin is None else self.arriving.become_one(node, twin)
            case Observe(node, entry):
                self._nodes.update(node.ino, s_spelling=entry.spelling)
                self._store.observe(node.ino, entry)
                return []

    def _versions(self, changes: Sequence[Change]) -> Iterator[ContentVersion]:
        """Draw the versions of the files that are to be added, together."""
        count = sum(isinstance(it, Add) and _has_content(it.entry) for it in changes)
        return iter(self._nodes.next_versions(count) if count else ())

    def _add(
        self, parent: Node | None, entry: RemoteEntry, versions: Iterator[ContentVersion]
    ) -> list[Callable[[], None]]:
        if parent is None or not parent.linked:
            # Removed here meanwhile. What nobody saw in it must stay unknown, or it would be deleted as known.
            return []
        folder = parent.ino
        if self._nodes.is_taken(folder, entry.name):
            return []
        moved = self.vanished.find(entry)
        if (
            moved is not None
            and not self.arriving.is_other_while_open(moved, entry.version)
            and not self.arriving.is_above(moved, folder)
        ):
            return self.arriving.move_in(parent, moved, entry)
        self._insert(folder, entry, (folder, entry.name), local_only=parent.local_only, versions=versions)
        return [lambda: self._sink.entry_changed(folder, entry.name)]

    def insert(
        self, folder: Ino, entry: RemoteEntry, *, parent: Ino | None = None, name: str | None = None
    ) -> Ino:
        """Add a node for an object that the server has in `folder`, shown there or under `parent` and `name`.

        The shown name must be free.
        """
        place = folder if parent is None else parent, entry.name if name is None else name
        above = self._nodes.get(place[0])
        local_only = 0 if above is None else above.local_only
        return self._insert(
            folder, entry, place, local_only=local_only, versions=self._versions([Add(entry)])
        )

    def _insert(
        self,
        folder: Ino,
        entry: RemoteEntry,
        place: tuple[Ino, str],
        *,
        local_only: int,
        versions: Iterator[ContentVersion],
    ) -> Ino:
        mtime_ns = entry.version.modified_s * NS
        version = next(versions) if _has_content(entry) else 0
        return self._nodes.insert(
            parent=place[0],
            name=place[1],
            folder=int(entry.kind is Kind.FOLDER),
            size=entry.version.size if entry.kind is Kind.FILE else 0,
            mtime_ns=mtime_ns,
            ctime_ns=mtime_ns,
            version=version,
            s_version=version,
            s_mtime_ns=mtime_ns,
            # A listed name of a local-only form (another client made it) is shown, and stays the server's; what a
            # folder holds that went to a local-only place here goes with it.
            local_only=local_only,
            **synced_columns(folder, entry),
        )

    def _refresh(self, node: Node, entry: RemoteEntry, *, content: bool) -> list[Callable[[], None]]:
        if content and self._setback is not None and self._setback.keeps(node, entry):
            return []
        if content:
            self._store.clear_observed(node.ino)
            self._store.end_retimings(node.ino)
        if content and self._residents.is_open(node.ino):
            return self._replace_open(node, entry)
        columns = synced_columns(node.s_parent or node.ino, entry)
        mtime_ns = entry.version.modified_s * NS
        self._note_letters(node, entry.permissions)
        if node.folder and entry.permissions != node.permissions:
            # What is in it allows something else too, and no ETag in it tells of that (protocol.md §3.1).
            columns["listed_etag"] = None
            self._doubt(node.ino)
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
        # Where uploads cannot set a time, the server's is only that of the upload, and a folder's that of the last one
        # into it: the local one is better.
        if node.folder:
            return self._keeps_mtime() or node.listed_at is None
        return content or (self._keeps_mtime() and entry.version.modified_s != node.s_modified_s)

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


def _has_content(entry: RemoteEntry) -> bool:
    """Tell whether an object has bytes: what is empty needs no version."""
    return entry.kind is Kind.FILE and entry.version.size > 0

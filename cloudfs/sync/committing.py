"""Notes what the server has after an upload: the new synced view, in one transaction each. NO CHECKPOINT anywhere."""

from __future__ import annotations

from collections.abc import Callable

from cloudfs.metadata.columns import NS, version_columns
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.packing import Parcel
from cloudfs.types import Ino, RemoteEntry, RemoteVersion, Stored

__all__ = ["Committer", "stored_as", "told_time_ns"]


class Committer:
    """One store's. `collect` drops a node that nobody needs any more."""

    def __init__(self, store: Store, doubts: Doubts, collect: Callable[[Ino], None]) -> None:
        self._store = store
        self._nodes = store.nodes
        self._doubts = doubts
        self._collect = collect

    def commit_same(self, parcel: Parcel) -> RemoteVersion:
        """The bytes are those the server has already: nothing to send but perhaps the time."""
        with self._store.transaction():
            self._nodes.update(parcel.node.ino, s_version=parcel.version)
            self._store.end_attempts(parcel.node.ino)
            self._store.look_again(parcel.node.ino)
            self._store.clear_observed(parcel.node.ino)
        return parcel.node.remote_version

    def commit(self, parcel: Parcel, stored: Stored, checksum: str | None) -> RemoteVersion:
        """Note what an upload has made of a file, and that nobody else claims its place."""
        version = RemoteVersion(
            etag=stored.etag,
            size=parcel.size,
            modified_s=parcel.mtime_s if stored.modified_s is None else stored.modified_s,
            checksum=checksum,
        )
        owner = parcel.onto or parcel.node
        with self._store.transaction():
            current = self._nodes.get(parcel.node.ino)
            self.release_identity(parcel)
            rival = self._nodes.synced_child(*parcel.place)
            if rival is not None and rival.ino != parcel.node.ino:
                # Two of our uploads met in one place. INVARIANT: one node alone claims it, or a removal of the one
                # would remove the other's content.
                if rival.linked and (current is None or not current.linked):
                    self._store.end_attempts(parcel.node.ino)
                    self._nodes.end_try(parcel.node.ino)
                    # What is there now may be either's: no version of it is ours, so it is looked at and sent again.
                    self._nodes.update(rival.ino, s_version=-1)
                    return version
                self._nodes.forget_synced(rival.ino)
                self._collect(rival.ino)
            if current is not None and current.synced and parcel.onto is not None:
                self._leave_behind(current)
            self._nodes.update(
                parcel.node.ino,
                s_parent=parcel.place[0],
                s_name=parcel.place[1],
                s_spelling=owner.s_spelling,
                s_version=parcel.version,
                s_mtime_ns=parcel.mtime_ns,
                **version_columns(version),
                s_file_id=stored.file_id or owner.s_file_id,
                permissions=owner.permissions,
                t_parent=None,
                t_name=None,
            )
            self._store.end_attempts(parcel.node.ino)
            self._store.clear_observed(parcel.node.ino)
        return version

    def release_identity(self, parcel: Parcel) -> None:
        """The file whose place was taken is nothing to the server any more."""
        if parcel.onto is None:
            return
        self._store.pins.hand_on(parcel.onto.ino, parcel.node.ino)
        self._nodes.forget_synced(parcel.onto.ino)
        self._store.clear_observed(parcel.onto.ino)
        self._collect(parcel.onto.ino)

    def _leave_behind(self, node: Node) -> None:
        """The content went to another place than the node had on the server: the old one is to be removed.

        Earlier contents may have arrived there.
        """
        self._nodes.forget_synced(node.ino)
        left = self._nodes.insert(
            parent=None,
            name=node.name,
            folder=0,
            size=node.s_size or 0,
            mtime_ns=node.mtime_ns,
            ctime_ns=node.ctime_ns,
            s_parent=node.s_parent,
            s_name=node.s_name,
            s_spelling=node.s_spelling,
            s_version=node.s_version,
            s_mtime_ns=node.s_mtime_ns,
            **version_columns(node.remote_version),
            s_file_id=node.s_file_id,
            permissions=node.permissions,
        )
        self._store.hand_on_attempts(node.ino, left)
        # Or what another client wrote there within the known version's second would be removed with its ETag.
        self._store.hand_on_observed(node.ino, left)
        self._doubts.hand_on(node.ino, left)


def told_time_ns(node: Node, entry: RemoteEntry, *, sets_mtime: bool) -> int:
    """Return the local time that the server was told with an upload, as far as the server shows it."""
    added_s = entry.version.modified_s - node.mtime_ns // NS
    told = not sets_mtime or added_s in {0, 1}
    return node.mtime_ns if told else entry.version.modified_s * NS


def stored_as(entry: RemoteEntry) -> Stored:
    """Return what a request that made this would have answered."""
    return Stored(etag=entry.version.etag, file_id=entry.file_id, modified_s=entry.version.modified_s)

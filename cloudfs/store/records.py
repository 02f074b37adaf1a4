"""Rows as frozen records. A record is a snapshot: after an await, read it again."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cloudfs.ranges import RangeSet
from cloudfs.types import ContentVersion, Ino, Kind, Pin, RemoteVersion

__all__ = ["Attempt", "Conflict", "Link", "Node", "SafeState", "StagedRow"]


class Node(msgspec.Struct, frozen=True, gc=False):
    """One row of `nodes`; the columns are explained in schema.py. Field order is the column order."""

    ino: Ino
    parent: Ino | None
    name: str
    folder: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int | None
    version: ContentVersion
    local_only: int
    s_parent: Ino | None
    s_name: str | None
    s_version: ContentVersion | None
    s_mtime_ns: int | None
    s_etag: str | None
    s_size: int | None
    s_modified_s: int | None
    s_checksum: str | None
    s_file_id: str | None
    permissions: str | None
    mount_root: int
    listed_at: float | None
    """Unix s; None: nobody has seen into the folder; 0: made here, and nobody has seen what else the server has."""
    t_parent: Ino | None
    t_name: str | None
    dirty: int
    t_looked: int = 0
    listed_etag: str | None = None
    s_spelling: str | None = None
    listed_there: float | None = None
    """Unix s by the server's clock."""
    meant: int = 0

    @property
    def kind(self) -> Kind:
        """File or folder, for ever."""
        return Kind.FOLDER if self.folder else Kind.FILE

    @property
    def synced(self) -> bool:
        """The server has, or had when we last agreed, this node."""
        return self.s_parent is not None

    @property
    def linked(self) -> bool:
        """The mount shows it under a name."""
        return self.parent is not None

    @property
    def tombstone(self) -> bool:
        """Removed here, and the server has yet to be told."""
        return self.parent is None and self.s_parent is not None

    @property
    def placed(self) -> bool:
        """The server has it in the same folder and under the same name as the mount."""
        return self.s_parent is not None and self.parent == self.s_parent and self.name == self.s_name

    @property
    def tried(self) -> tuple[Ino, str] | None:
        """Where a request under way, or one whose reply was lost, puts it on the server, or takes it away from."""
        return None if self.t_parent is None or self.t_name is None else (self.t_parent, self.t_name)

    @property
    def removing(self) -> bool:
        """Such a request takes it off the server."""
        return self.tried is not None and self.tried == (self.s_parent, self.s_name)

    @property
    def to_be_found(self) -> bool:
        """What became of such a request is to be found out before anything else is done; not before the same again."""
        if self.local_only or self.parent is None:
            wanted = self.removing
        else:
            wanted = self.tried == (self.parent, self.name) and not self.placed
        return self.tried is not None and not (self.t_looked and wanted)

    @property
    def content_dirty(self) -> bool:
        """The bytes here are not those of the synced version."""
        return not self.folder and self.version != self.s_version

    def sent_since(self, mark: ContentVersion) -> bool:
        """Tell whether the server has, in this place, bytes that were begun here after `mark`, then the last version.

        Then it has all that was written before: what is dirty has been written since.
        """
        begun_here = self.s_version is not None and mark < self.s_version < self.version
        return begun_here and self.placed and self.tried in {None, (self.parent, self.name)}

    @property
    def remote_version(self) -> RemoteVersion:
        """The server's name of the synced content; meaningful only where `synced`."""
        return RemoteVersion(self.s_etag or "", self.s_size or 0, self.s_modified_s or 0, self.s_checksum)


class SafeState(msgspec.Struct, frozen=True):
    """What a staging file holds at one moment; columns as in `staged`."""

    size: int
    present: bytes
    base_limit: int

    def joined(self, other: SafeState | None) -> SafeState:
        """Return what is on the disk where both are, neither being from before a cut: the longer sync may end last."""
        if other is None or other.base_limit != self.base_limit:
            return self
        present = RangeSet.unpack(self.present)
        for start, stop in RangeSet.unpack(other.present):
            present.add(start, stop)
        return SafeState(max(self.size, other.size), present.pack(), self.base_limit)


class StagedRow(msgspec.Struct, frozen=True):
    """One row of `staged`: which bytes a staging file holds and where the others come from."""

    ino: Ino
    version: ContentVersion
    size: int
    present: bytes
    base: ContentVersion
    base_limit: int
    base_remote: RemoteVersion | None
    checksum: str | None = None
    safe_size: int | None = None
    safe_present: bytes | None = None
    safe_limit: int | None = None
    base_seen: float | None = None
    """When `base_remote` was seen on the server, in Unix s by its clock."""

    @property
    def state(self) -> SafeState:
        """What the staging file holds."""
        return SafeState(self.size, self.present, self.base_limit)

    @property
    def safe(self) -> SafeState | None:
        """What it held when it was last known to be on the disk."""
        if self.safe_size is None or self.safe_present is None or self.safe_limit is None:
            return None
        return SafeState(self.safe_size, self.safe_present, self.safe_limit)

    @property
    def is_safe(self) -> bool:
        """Tell whether a power cut takes nothing of it: nothing written is always safe."""
        return not self.present or self.settled

    @property
    def settled(self) -> bool:
        """Tell whether all that it says is known to be on the disk: what was there before it is not needed any more.

        Of a file that was just emptied nothing can be lost, but what it held before is all that there is of it.
        """
        return self.safe == self.state

    def made_safe(self, state: SafeState) -> StagedRow:
        """Return the row with `state` known to be on the disk."""
        return msgspec.structs.replace(
            self, safe_size=state.size, safe_present=state.present, safe_limit=state.base_limit
        )


class Attempt(msgspec.Struct, frozen=True):
    """An upload that was begun and whose end is not known."""

    ino: Ino
    version: ContentVersion
    size: int
    checksum: str
    began_s: float = 0.0
    """When it was tried first, Unix s by our clock; 0: not known, or nothing of which a part may arrive."""
    ended_s: float = 0.0
    """When the last try ended that may have left a part; 0: not known, as where the process died in one."""


class Conflict(msgspec.Struct, frozen=True):
    """Two versions that both survived: ours under a new name, the server's under the old one."""

    ours: Ino
    theirs: Ino
    found_at: float


class Link(NamedTuple):
    """A node, or a folder above one, on the way up to the root."""

    ino: Ino
    name: str
    pin: Pin | None
    """What was said about this very node."""

"""Words that every floor shares. A mix-up that would corrupt data gets a type of its own."""

from __future__ import annotations

from enum import Enum
from typing import NewType

import msgspec

__all__ = [
    "BLOCK_SIZE",
    "ROOT",
    "Annotations",
    "ContentVersion",
    "Ino",
    "Kind",
    "Octets",
    "Pin",
    "RemoteEntry",
    "RemotePath",
    "RemoteVersion",
    "Stored",
]

Ino = NewType("Ino", int)
"""Inode number: a node's identity for ever, never reused, also what the kernel sees."""

ContentVersion = NewType("ContentVersion", int)
"""Number of one exact content of one file, drawn from a sequence that never repeats.

Blocks and staging files are keyed by (Ino, ContentVersion), so bytes of two versions cannot meet.
0 is the empty content that needs no bytes at all.
"""

RemotePath = NewType("RemotePath", str)
"""Decoded NFC path below the account's root: "/" or "/folder/name", never with a trailing slash."""

Octets = bytes | memoryview
"""Bytes that nobody changes any more: what a view shows is as final as what bytes hold."""

ROOT = Ino(1)

BLOCK_SIZE = 1024 * 1024
"""Bytes in one cached block. SOURCE: design.md §7, a 1 MiB diskcache value costs 0.29 ms to read."""


class Kind(Enum):
    """What a node is. Nextcloud stores nothing else; symbolic links and devices are refused."""

    FILE = "file"
    FOLDER = "folder"


class Pin(Enum):
    """What somebody said about a file's bytes, or those of all files in a folder."""

    ALWAYS_LOCAL = "always-local"
    """They are brought here, kept up to date, and never evicted."""
    ONLINE_ONLY = "online-only"
    """They stay on the server until a program reads them; then they may be evicted again."""


class RemoteVersion(msgspec.Struct, frozen=True, gc=False):
    """One version of a file as the server names it.

    An ETag alone is not enough: on Nextcloud's local storage it is md5(mtime second, inode, size),
    so two contents of one size written in one second share it (protocol.md §3.2).
    """

    etag: str
    """As in the header, without quotes and W/ (see `remote.etags`); "" where the server has none."""
    size: int
    modified_s: int
    """The server's Last-Modified as Unix seconds; only evidence of a change, never shown."""
    checksum: str | None = None
    """ALGORITHM:hex as stored by whoever uploaded; None where the server has none."""

    def same_content(self, other: RemoteVersion) -> bool:
        """Tell whether both surely name the same bytes."""
        if self.size != other.size:
            return False
        if self.checksum and other.checksum and _algorithm(self.checksum) == _algorithm(other.checksum):
            return self.checksum.lower() == other.checksum.lower()
        if self.etag or other.etag:
            return self.etag == other.etag and bool(self.checksum) == bool(other.checksum)
        return self.modified_s == other.modified_s


def _algorithm(checksum: str) -> str:
    return checksum.partition(":")[0].upper()


class RemoteEntry(msgspec.Struct, frozen=True, gc=False):
    """One object of a listing."""

    path: RemotePath
    kind: Kind
    version: RemoteVersion
    """For a folder only the ETag (where there is one) and the time mean anything."""
    file_id: str | None = None
    """Nextcloud's oc:fileid: survives renames. None on plain servers."""
    permissions: str | None = None
    """Nextcloud's oc:permissions letters (protocol.md §2.2); None on plain servers: all allowed."""
    mount_root: bool = False
    """The root of a received share or an external storage: deleting it means leaving it."""
    quota_free: int | None = None
    """Bytes still free for this folder; None where the server does not tell or there is no limit."""
    quota_used: int | None = None
    fingerprint: str | None = None
    """Nextcloud's oc:data-fingerprint, one for the whole server: another one means that a backup was restored."""
    hidden_members: int = 0
    """Of a folder, in its own listing: members left out because no file here can have their names, and `unsized`.

    The members that are listed are then not all there are: what would take the others along must not be done.
    """
    unsized: tuple[str, ...] = ()
    """Of a folder, in its own listing: names of files whose size the server does not know yet. They are there, and
    nothing else can be said of them."""
    spelling: str | None = None
    """The last segment as the server spells it, where that is not our path's NFC. A server that compares bytes knows it
    by that alone."""

    @property
    def name(self) -> str:
        """Last segment of the path; "" for the root."""
        return self.path.rpartition("/")[2]


class Annotations(msgspec.Struct, frozen=True):
    """What people have attached to a file or folder on the server. None of it changes an ETag (protocol.md §3.1)."""

    favorite: bool = False
    """For this account."""
    tags: tuple[str, ...] = ()
    """The account's own, then everybody's."""
    shared_with: tuple[str, ...] = ()
    """To whom this account gives it, for people: names, "group NAME", "a link"."""
    owner: str = ""
    """Whose it is, by display name."""
    comments: int = 0
    unread_comments: int = 0


class Stored(msgspec.Struct, frozen=True):
    """What the server says it made of an upload, a move or a new folder."""

    etag: str
    file_id: str | None
    modified_s: int | None = None
    """Last-Modified the object now has, where known."""
    mtime_kept: bool = False
    """The server took over the modification time that we asked for."""
    checksum_kept: bool = True
    """The server lists the checksum that was sent along; what keeps none at all is no matter of a single file."""
    checksum: str | None = None
    """What it lists where it does not: nothing, or that of an earlier content."""

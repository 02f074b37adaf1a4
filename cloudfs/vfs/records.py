"""What the file system's operations take and give; no kernel or FUSE types."""

from __future__ import annotations

from enum import Flag, auto
from typing import NewType

import msgspec

from cloudfs.paths import NAME_MAX_BYTES
from cloudfs.types import Ino, Kind

__all__ = ["Attributes", "FolderEntry", "HandleId", "Opened", "RenameMode", "Space"]

HandleId = NewType("HandleId", int)
"""One open file or folder; unique while the daemon runs."""


class Attributes(msgspec.Struct, frozen=True):
    """Attributes of a node as the mount shows them. Owner and group are the mounting user's."""

    ino: Ino
    kind: Kind
    permissions: int
    """The twelve low mode bits."""
    size: int
    """Bytes; 0 for folders."""
    mtime_ns: int
    ctime_ns: int
    links: int
    """1 for a file, 0 once it is unlinked, 2 for a folder."""
    exact: bool = True
    """The modification time is; that of a file that is being written is shown by the second."""


class FolderEntry(msgspec.Struct, frozen=True):
    """One name in an open folder."""

    name: str
    attributes: Attributes
    position: int
    """Where to continue after this entry: stable while other entries come and go."""


class Opened(msgspec.Struct, frozen=True):
    """An opened file."""

    handle: HandleId
    keep_cache: bool
    """The kernel's cached pages of this inode are of the version opened now: it may keep them."""


class RenameMode(Flag):
    """Flags of renameat2(2)."""

    REPLACE = 0
    NO_REPLACE = auto()
    EXCHANGE = auto()


class Space(msgspec.Struct, frozen=True):
    """Answer to statfs: the account's quota in bytes, from memory."""

    total: int
    free: int
    name_bytes: int = NAME_MAX_BYTES
    """The longest name that anything new can have. Programs shorten the names that they make up to this, so it is not
    the longest that the server knows: a renamed file and a folder may have more."""
    limited: bool = True
    """False: the server names no limit, and the figures are mere placeholders."""
    whole: bool = False
    """A version that takes another one's place needs room for all of it, not only for what it is larger by."""

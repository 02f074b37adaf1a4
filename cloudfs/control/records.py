"""What the requests of `methods` take and answer; `protocol` has the rest. Paths are in the mount, beginning with /."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cloudfs.bandwidth import Limits

__all__ = [
    "Attached",
    "CacheInfo",
    "Checked",
    "Cleared",
    "FileInfo",
    "FileState",
    "FirstAnswer",
    "Here",
    "Limits",
    "Nothing",
    "PathOf",
    "Paused",
    "Reloaded",
    "Space",
    "State",
    "Transfer",
    "WaitFor",
    "Watch",
]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Paused(msgspec.Struct, frozen=True):
    """Result of pause and resume."""

    since: float | None
    """Unix s; null: nothing is paused."""
    pending: int
    """Changes that are not on the server yet."""
    in_flight: int
    """Of these, small requests that are still under way."""


class Reloaded(msgspec.Struct, frozen=True):
    """Result of reload: the keys of the account's file that have other values than those in force."""

    changed: list[str]
    """As in `bandwidth.up`: they hold from now on."""
    later: list[str]
    """They hold after the next mount."""
    limits: Limits = Limits()


class Transfer(msgspec.Struct, frozen=True):
    """Bytes on their way at this moment."""

    path: str
    direction: Literal["up", "down"]
    done_bytes: int
    """Of the file for uploads; of the part that is fetched for downloads."""
    size_bytes: int
    bytes_per_s: float
    """Since this request began."""


class Space(msgspec.Struct, frozen=True):
    """What the account may still store on the server, and what it stores, in bytes."""

    free: int
    used: int


class Watch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of watch: a status as an event whenever it has changed, until the client hangs up."""

    every_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    """Never more often."""


class WaitFor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of first_answer: so long at most it may take."""

    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0


class FirstAnswer(msgspec.Struct, frozen=True):
    """Result of first_answer: how it stands with the server once it was asked for the first time since the mount."""

    state: str
    """As in status."""
    reason: str
    """As in status; also where it is online and yet did not answer as it should."""
    untrusted: bool
    """As in status."""
    known: bool
    """False: it has not answered by then."""


class PathOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of list, info and annotations."""

    path: str = "/"


State = Literal["synced", "pending", "sending", "blocked", "conflict", "local"]
"""synced: the server has it as it is here. pending: it is still to be sent. sending: it just is. blocked: it cannot be
sent before somebody acts. conflict: two versions lie side by side. local: its name is one that never goes up."""

Here = Literal["all", "part", "none"]
"""How much of a file's content can be read without the server; of a folder, whether it was ever listed."""


class FileState(msgspec.Struct, frozen=True):
    """One line of list; its result has those of a folder's members, by name, or a file's own."""

    path: str
    kind: Literal["file", "folder"]
    size: int
    modified: float
    """Unix s."""
    state: State
    here: Here
    here_bytes: int


class FileInfo(msgspec.Struct, frozen=True):
    """Result of info: everything that is known of one file or folder."""

    file: FileState
    inode: int
    why: list[str]
    """Sentences: why it is in this state, and why so much of it is here."""
    version: int
    """Number of the content that the mount shows; it has a meaning on this machine only."""
    synced_version: int | None
    server_path: str | None
    """Where the server has it, as far as is known; null: it does not."""
    file_id: str | None
    etag: str | None
    checksum: str | None
    server_size: int | None
    server_modified: float | None
    """Unix s."""
    permissions: str | None
    """As the server says it; null: not told."""
    is_open: bool
    """A program has it open, or it is just being sent."""
    reason: str = ""
    """Why it could not be sent so far."""
    next_step: str = ""
    tries: int = 0
    next_try_s: float | None = None
    """In so many seconds."""
    staged_bytes: int = 0
    """Changed bytes that are kept until the server has them."""
    other: str | None = None
    """The other file of a conflict."""
    members: int | None = None
    """Of a folder: so many are known."""
    listed_at: float | None = None
    """Of a folder: Unix s; null: never."""
    brought_by: str | None = None
    """The program (15 letters at most) that was the first to read this version while not all of it was here; null: none
    that is remembered, or its name is not known. It may have been evicted since."""
    brought_at: float | None = None
    """When that was, Unix s."""


class Attached(msgspec.Struct, frozen=True):
    """Result of annotations: what people have attached to a file or folder on the server, asked for just now."""

    told: bool
    """False: nothing of it is known, as `reason` says."""
    reason: str = ""
    favorite: bool = False
    tags: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()
    owner: str = ""
    comments: int = 0
    unread_comments: int = 0


class CacheInfo(msgspec.Struct, frozen=True):
    """Result of cache: what of the server's contents is kept on this machine. Bytes."""

    folder: str
    used_bytes: int
    limit_bytes: int
    blocks: int
    hits: int
    """Blocks that were found since the mount, and"""
    misses: int
    """that were not."""
    keep_free_bytes: int
    """So much of the disk is left alone;"""
    disk_free_bytes: int
    """less than that, and nothing is kept."""
    changed_bytes: int
    """Beside the cache: changed bytes that the server does not have yet. They are never cleared."""
    memory_bytes: int
    encrypted: str = ""
    """The cipher that all of it is sealed with; "": it is plain."""


class Cleared(msgspec.Struct, frozen=True):
    """Result of cache_clear."""

    freed_bytes: int
    left_bytes: int
    """What changed files were made from, and is needed until they are sent."""


class Checked(msgspec.Struct, frozen=True):
    """Result of cache_verify, and, with what was found so far, its events."""

    files: int
    """Looked at, whole ones and parts."""
    bytes: int
    compared: int
    """Of the files: all of it is here, and it was compared with the server's checksum."""
    wrong: list[str]
    """Paths of those that did not fit, and were dropped: they are fetched again when they are read."""
    damaged: int
    """Blocks that the disk gave back otherwise than they were stored; dropped, too."""

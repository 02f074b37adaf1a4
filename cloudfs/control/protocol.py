r"""The control protocol, version 1: JSON, one message per line, over a Unix socket of the same user.

    -> {"v": 1, "id": 7, "method": "sync_wait", "params": {"path": "/docs", "timeout_s": 60}}
    <- {"v": 1, "id": 7, "progress": {"pending": 3, "in_flight": 1}}         (any number of these)
    <- {"v": 1, "id": 7, "result": {"pending": 0, "blocked": []}}            (or "error", and then no more)

The requests in `methods` and `records` tell of their progress as `event`s; a `null` one says that the daemon lives.
A client sends one request at a time. INVARIANT: within one version, fields are only ever added, and both
sides ignore what they do not know.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from cloudfs.control.pinning import KeptState
from cloudfs.control.records import Limits, Space, Transfer
from cloudfs.errors import ExitCode, UserError

__all__ = [
    "MAX_LINE_BYTES",
    "OTHER_VERSION",
    "VERSION",
    "Blocked",
    "ConflictPair",
    "Damaged",
    "Decide",
    "Decided",
    "Fault",
    "HeldDeletions",
    "LoggedIn",
    "Method",
    "Progress",
    "Reply",
    "Request",
    "Resolution",
    "Resolve",
    "Side",
    "Status",
    "SyncOutcome",
    "SyncWait",
    "Unmount",
    "Unmounted",
    "decode_line",
    "encode_line",
]

Side = Literal["here", "server"]

VERSION = 1
OTHER_VERSION = "It is of another version than this program: unmount and mount again to have the same."
MAX_LINE_BYTES = 64 * 1024
"""Longest request; replies may be longer, as a list of what is blocked may be."""

Method = Literal["status", "sync_wait", "unmount", "conflicts", "resolve", "deletions", "log_in"]


class Request(msgspec.Struct, frozen=True):
    """What a client asks."""

    v: int
    id: int
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class Fault(msgspec.Struct, frozen=True):
    """A failure in words for a person."""

    code: int
    """The `ExitCode` for a command that ends with this."""
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: UserError) -> Fault:
        """Put a UserError on the wire."""
        return cls(int(error.code), error.message, error.hint)

    def as_error(self) -> UserError:
        """Take it off the wire; codes that this version does not know become INTERNAL."""
        known = self.code in ExitCode.__members__.values()
        return UserError(
            self.message, hint=self.hint, code=ExitCode(self.code) if known else ExitCode.INTERNAL
        )


class Progress(msgspec.Struct, frozen=True):
    """How far a `sync_wait` is."""

    pending: int
    in_flight: int


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an answer: progress, an event, an error, or else the result."""

    v: int
    id: int
    result: msgspec.Raw = msgspec.Raw(b"")
    error: Fault | None = None
    progress: Progress | None = None
    event: msgspec.Raw = msgspec.Raw(b"")
    """Another line follows."""


class Blocked(msgspec.Struct, frozen=True):
    """Something that waiting alone will not bring to the server."""

    path: str
    """In the mount, beginning with /."""
    reason: str
    next_step: str


class Damaged(msgspec.Struct, frozen=True):
    """A file whose content on the server does not fit the checksum that the server has for it."""

    path: str
    """In the mount, beginning with /."""
    said: str
    """The server's checksum."""
    came: str
    """That of the bytes that came."""
    readable: bool
    """The same bytes came twice and are given to programs; else reading fails with EIO."""
    next_step: str


class HeldDeletions(msgspec.Struct, frozen=True):
    """Deletions of much at once that wait for a person's word."""

    side: Side
    """here: the server does not show it any more, and it stays here. server: deleted here, and it stays there."""
    count: int
    """Files and folders."""
    paths: list[str]
    """Some of the topmost, in the mount, beginning with /."""
    since: float
    """Unix seconds."""
    older: int = 0
    """here: files that keep their version though the server shows an older one."""
    set_back: bool = False
    """here: the server was set back to a backup, so that nothing it lacks is believed to be deleted."""


class Status(msgspec.Struct, frozen=True):
    """What `cloudfs status --json` prints."""

    version: str
    pid: int
    account: str
    url: str
    user: str
    mount_point: str
    state: str
    """online, failing (it answers, with nothing but errors), offline, maintenance, throttled, needs-login,
    or waiting for the keyring."""
    pending: int
    """Nodes whose change is not on the server yet."""
    in_flight: int
    """Of these, being sent at this moment."""
    blocked: list[Blocked]
    conflicts: int
    cache_bytes: int
    uptime_s: float
    requests: dict[str, int] = {}
    """Kernel requests so far, by name."""
    reason: str = ""
    """Why it is not online."""
    pending_bytes: int = 0
    """What the contents to be sent add up to."""
    deletions: list[HeldDeletions] = []
    since: float | None = None
    """Unix seconds: since when it is not online."""
    damaged: list[Damaged] = []
    wipe_asked: bool = False
    """The server asks for a remote wipe: that everything of the account be removed from this device."""
    changes: str = "on use"
    """How changes of others are found out: push, polling, or on use (of each folder)."""
    changes_since: float = 0.0
    """Unix s."""
    paused_since: float | None = None
    """Unix s; null: nothing is paused."""
    transfers: list[Transfer] = []
    """Of known size; small files that go up together are only counted in `in_flight`."""
    space: Space | None = None
    """null: not known, or without a limit."""
    used_bytes: int | None = None
    """What the account stores on the server, with a limit or without; null: not known."""
    cache_limit_bytes: int = 0
    server: str = ""
    """What the server is, for people."""
    kept: KeptState = KeptState()
    """What is always kept here."""
    limits: Limits = Limits()
    cache_hits: int = 0
    """Blocks that were found in the cache since the mount, and"""
    cache_misses: int = 0
    """that were not."""
    encrypted: str = ""
    """The cipher that all that is kept here is sealed with; "": it is plain."""
    untrusted: bool = False
    """It is offline as the server's certificate is not trusted here, or has none of the pinned keys."""
    memory_closed: bool | None = None
    """No debugger and no core file shows the daemon's memory; null: it does not tell."""


class ConflictPair(msgspec.Struct, frozen=True):
    """Two versions of one file; the result of `conflicts` is a list of these."""

    path: str
    """The server's version, in the mount, beginning with /."""
    copy: str
    """Ours, beside it."""
    found_at: float
    """Unix seconds."""
    size: int
    copy_size: int
    modified: float
    """Unix seconds."""
    copy_modified: float


Resolution = Literal["keep-mine", "keep-theirs", "keep-both"]


class Resolve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of resolve; the result is {}."""

    path: str
    """Either of the two, in the mount, beginning with /."""
    decision: Resolution


class Decide(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of deletions."""

    side: Side
    decision: Literal["accept", "restore"]


class Decided(msgspec.Struct, frozen=True):
    """Result of deletions."""

    done: int
    """Files and folders that it was carried out for."""
    left: int
    """Those that it could not be carried out for, at least not yet."""


class LoggedIn(msgspec.Struct, frozen=True):
    """Result of log_in: the daemon has read its secret file again. The secret itself never passes here."""

    state: str
    """As in `Status`, after the server was asked."""
    reason: str = ""


class SyncWait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of sync_wait."""

    path: str = "/"
    """In the mount, beginning with /."""
    timeout_s: Annotated[float, msgspec.Meta(ge=0, le=31 * 86400)] | None = None


class SyncOutcome(msgspec.Struct, frozen=True):
    """Result of sync_wait."""

    pending: int
    """0: everything below the path is on the server."""
    blocked: list[Blocked]
    timed_out: bool = False


class Unmount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of unmount."""

    lazy: bool = False
    """Detach even while programs use the mount: they lose their open files."""


class Unmounted(msgspec.Struct, frozen=True):
    """Result of unmount; the daemon ends after this answer."""

    pending: int
    """Changes that stay on this machine until the next mount."""
    pending_bytes: int = 0
    """What their contents add up to."""


T = TypeVar("T")


def encode_line(message: Request | Reply) -> bytes:
    """Return the message as one line."""
    return msgspec.json.encode(message) + b"\n"


def decode_line(line: bytes, kind: type[T]) -> T:
    """Return the message in a line; raises msgspec.MsgspecError or ValueError."""
    try:
        return msgspec.json.decode(line, type=kind)
    except RecursionError as error:
        # For a thousand brackets, also in a part that is not looked at.
        raise msgspec.DecodeError("it is nested too deeply") from error

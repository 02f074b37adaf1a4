"""What a program does, as data: a history is a list of these, so a failing one can be read, kept and played again.

A failing list, as Hypothesis or `simulate` prints it, is Python that can be pasted into a test.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloudfs.vfs.records import RenameMode

__all__ = [
    "Answer",
    "Append",
    "Chmod",
    "Close",
    "Create",
    "Decide",
    "Drain",
    "EmptyFor",
    "Exchange",
    "Extend",
    "Flush",
    "Forget",
    "Fsync",
    "Kill",
    "KillSoon",
    "LogIn",
    "LoseLogin",
    "Maintenance",
    "Mkdir",
    "On",
    "Open",
    "Operation",
    "OtherDelete",
    "OtherMkdir",
    "OtherMove",
    "OtherMoveSeen",
    "OtherReplace",
    "OtherRetype",
    "OtherRewrite",
    "OtherSetBack",
    "OtherShorten",
    "OtherWrite",
    "PlugIn",
    "PushBreaks",
    "Read",
    "ReadFile",
    "Refresh",
    "Regret",
    "Rename",
    "RenameNoReplace",
    "Restart",
    "Rewrite",
    "Rmdir",
    "Save",
    "SaveByRename",
    "SetTime",
    "TakeBack",
    "Truncate",
    "TruncateFile",
    "Unlink",
    "Unplug",
    "Wait",
    "Write",
]


@dataclass(frozen=True)
class Create:
    """Make a file that must not exist, and keep it open."""

    path: str
    slot: int = 0


@dataclass(frozen=True)
class Open:
    path: str
    slot: int = 0
    writes: bool = True
    truncate: bool = False


@dataclass(frozen=True)
class Write:
    slot: int
    offset: int
    size: int


@dataclass(frozen=True)
class Append:
    slot: int
    size: int


@dataclass(frozen=True)
class TruncateFile:
    """ftruncate(2)."""

    slot: int
    size: int


@dataclass(frozen=True)
class Read:
    slot: int
    offset: int
    size: int


@dataclass(frozen=True)
class Flush:
    slot: int


@dataclass(frozen=True)
class Fsync:
    slot: int


@dataclass(frozen=True)
class Close:
    slot: int


@dataclass(frozen=True)
class Truncate:
    path: str
    size: int


@dataclass(frozen=True)
class ReadFile:
    path: str


@dataclass(frozen=True)
class Save:
    """Open with O_TRUNC or create, write all, close."""

    path: str
    size: int


@dataclass(frozen=True)
class TakeBack:
    """Save, and some time later what was saved at the path before."""

    path: str
    size: int
    seconds: float


@dataclass(frozen=True)
class Extend:
    """Open, write at the end, close: what was written and not sent is written further."""

    path: str
    size: int


@dataclass(frozen=True)
class SaveByRename:
    """Write a new file beside it, rename it over: how editors save."""

    path: str
    size: int
    beside: str = "new"


@dataclass(frozen=True)
class Mkdir:
    path: str


@dataclass(frozen=True)
class Rmdir:
    path: str


@dataclass(frozen=True)
class Unlink:
    path: str


@dataclass(frozen=True)
class Rename:
    source: str
    target: str

    @property
    def mode(self) -> RenameMode:
        return RenameMode.REPLACE


@dataclass(frozen=True)
class RenameNoReplace(Rename):
    @property
    def mode(self) -> RenameMode:
        return RenameMode.NO_REPLACE


@dataclass(frozen=True)
class Exchange(Rename):
    @property
    def mode(self) -> RenameMode:
        return RenameMode.EXCHANGE


@dataclass(frozen=True)
class SetTime:
    path: str
    mtime_s: int


@dataclass(frozen=True)
class Chmod:
    path: str
    mode: int


@dataclass(frozen=True)
class Forget:
    """The kernel drops its cached entries."""


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Drain:
    """Wait until everything is on the server, and compare."""


@dataclass(frozen=True)
class Rewrite:
    """Cut an open file to nothing, write it anew and flush it."""

    slot: int
    size: int


@dataclass(frozen=True)
class Refresh:
    """List every folder anew."""


@dataclass(frozen=True)
class Unplug:
    """The server answers nothing for a time."""

    seconds: float


@dataclass(frozen=True)
class OtherWrite:
    """Another client creates or overwrites a file; `checksum`: it says the checksum, as sync clients do."""

    path: str
    size: int
    checksum: bool = True


@dataclass(frozen=True)
class OtherDelete:
    path: str


@dataclass(frozen=True)
class OtherMkdir:
    path: str


@dataclass(frozen=True)
class OtherMove:
    source: str
    target: str


@dataclass(frozen=True)
class OtherMoveSeen:
    """Another client moves something while every known folder is just being listed, all at the same moment."""

    source: str
    target: str


@dataclass(frozen=True)
class Restart:
    """Unmount and mount."""


@dataclass(frozen=True)
class Kill:
    """kill -9 and mount."""


@dataclass(frozen=True)
class KillSoon:
    """kill -9 so many steps of the scheduler from now on, whatever is under way then, and mount."""

    steps: int


@dataclass(frozen=True)
class OtherSetBack:
    """The server is set back to a backup, in which a file has an older version."""

    path: str
    size: int


@dataclass(frozen=True)
class Answer:
    """Somebody answers about deletions that wait: those made here, or those that the server shows."""

    accept: bool
    made_here: bool


@dataclass(frozen=True)
class Regret:
    """Remove a file, and have what was removed brought back after so many seconds: the removal may be under way."""

    path: str
    seconds: float


@dataclass(frozen=True)
class Decide:
    """Write to the end of a conflicted copy, decide about it, and write on so long after that began.

    `how`: as in `cloudfs conflicts`.
    """

    which: int
    how: str
    after_s: float


@dataclass(frozen=True)
class OtherRetype:
    """Another client puts a folder where a file was, or a file where a folder was."""

    path: str
    size: int = 5


@dataclass(frozen=True)
class OtherRewrite:
    """Another client overwrites a file within the second of its last change: the server keeps the ETag."""

    path: str
    size: int


@dataclass(frozen=True)
class OtherShorten:
    """Another client takes from the end of a file, but so many bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class OtherReplace:
    """Another client moves something over what has the name."""

    source: str
    target: str


@dataclass(frozen=True)
class Maintenance:
    """The server answers 503 for a time."""

    seconds: float


@dataclass(frozen=True)
class EmptyFor:
    """The account looks empty for a time."""

    seconds: float


@dataclass(frozen=True)
class PlugIn:
    """The network is back."""


@dataclass(frozen=True)
class PushBreaks:
    """The connection on which the server tells of changes breaks; what it tells until the next one is lost."""


@dataclass(frozen=True)
class LoseLogin:
    """From now on the server answers 401."""


@dataclass(frozen=True)
class LogIn:
    """The user logs in again and mounts again."""


@dataclass(frozen=True)
class On:
    """Do something on one of two mounts of the account."""

    mount: int
    what: Operation


Operation = (
    Create
    | Open
    | Write
    | Append
    | TruncateFile
    | Read
    | Flush
    | Fsync
    | Close
    | Truncate
    | ReadFile
    | Save
    | TakeBack
    | SaveByRename
    | Extend
    | Mkdir
    | Rmdir
    | Unlink
    | Rename
    | SetTime
    | Chmod
    | Forget
    | Wait
    | Drain
    | Restart
    | Kill
    | Rewrite
    | Refresh
    | Unplug
    | OtherWrite
    | OtherDelete
    | OtherMkdir
    | OtherMove
    | OtherMoveSeen
    | KillSoon
    | OtherRetype
    | OtherSetBack
    | OtherShorten
    | Answer
    | Regret
    | Decide
    | OtherReplace
    | OtherRewrite
    | Maintenance
    | EmptyFor
    | LoseLogin
    | PlugIn
    | PushBreaks
    | LogIn
    | On
)

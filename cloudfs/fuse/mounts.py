"""What is mounted where: the kernel's own table, and a question that a hung mount cannot hang."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from cloudfs.errors import ExitCode, UserError

__all__ = [
    "FS_TYPE",
    "PROBE",
    "MountEntry",
    "abort",
    "abort_connection",
    "all_mounts",
    "detach",
    "fusermount",
    "mounts_at",
    "probe",
    "source_of",
]

_MNT_FORCE = 1
"""SOURCE: umount(2). It aborts the connection, also where the mount is busy (EBUSY) and stays."""
FS_TYPE = "fuse.cloudfs"
SOURCE_PREFIX = "cloudfs#"

_PROGRAM = """
import os, sys
try:
    os.statvfs(sys.argv[1]), os.stat(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""

PROBE = (sys.executable, "-I", "-S", "-c", _PROGRAM)
"""Asks a mount for an answer and exits with the errno it got. A process of its own, made by exec: a thread
that waits in our own mount keeps /dev/fuse open and cannot even be killed."""


class MountEntry(msgspec.Struct, frozen=True):
    """One line of /proc/self/mountinfo."""

    mount_id: int
    device: str
    """major:minor; the minor number names the connection."""
    path: str
    fs_type: str
    source: str
    options: frozenset[str]
    """Of the mount (nosuid, nodev), and of the file system itself; FUSE has user_id=N there."""

    @property
    def connection(self) -> str:
        """The number of its FUSE connection."""
        return self.device.partition(":")[2]

    @property
    def account(self) -> str | None:
        """The cloudfs account mounted here; None for every other file system."""
        if self.fs_type == FS_TYPE and self.source.startswith(SOURCE_PREFIX):
            return self.source.removeprefix(SOURCE_PREFIX)
        return None

    @property
    def ours(self) -> bool:
        """A cloudfs mount made by this user."""
        return self.account is not None and f"user_id={os.getuid()}" in self.options


def source_of(account: str) -> str:
    """Return the name under which an account's mount appears in `mount` and `df`."""
    return SOURCE_PREFIX + account


def mounts_at(path: str, table: str | None = None) -> list[MountEntry]:
    """Return the mounts whose root is exactly `path`, the visible one last; never touches `path` itself.

    `path` is absolute with its parents resolved. `table` is the text to read instead of the kernel's.
    """
    return [entry for entry in all_mounts(table) if entry.path == path]


def all_mounts(table: str | None = None) -> list[MountEntry]:
    """Return every mount that this process sees, in the order they were made."""
    if table is None:
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    entries = (_parse(line) for line in table.splitlines())
    return [entry for entry in entries if entry is not None]


def _parse(line: str) -> MountEntry | None:
    """Parse one line: id parent major:minor root path options [tags…] - type source super-options."""
    front, _, back = line.partition(" - ")
    fields, tail = front.split(" "), back.split(" ")
    if len(fields) < 6 or len(tail) < 3 or not fields[0].isdigit():
        return None
    return MountEntry(
        mount_id=int(fields[0]),
        device=fields[2],
        path=_unescape(fields[4]),
        fs_type=tail[0],
        source=_unescape(tail[1]),
        options=frozenset(f"{fields[5]},{tail[2]}".split(",")),
    )


def _unescape(text: str) -> str:
    r"""Undo the kernel's \ooo for blanks, backslashes and `#`."""
    raw = text.encode(errors="surrogateescape")
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), raw))


def probe(path: str, timeout_s: float = 5.0) -> int:
    """Return 0 when `path` answers, else the errno; ETIMEDOUT when it does not answer at all.

    Blocks up to `timeout_s`: not for the loop.
    """
    child = subprocess.Popen([*PROBE, path], stdin=subprocess.DEVNULL)
    try:
        return child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        # In the kernel it may not even die: leave it behind rather than wait with it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
        return errno.ETIMEDOUT


def fusermount() -> str:
    """Return the path of fusermount3; UserError NO_FUSE when it is not installed."""
    program = shutil.which("fusermount3")
    if program is None:
        raise UserError(
            "The program fusermount3 is not installed.",
            hint="Install the package fuse3 (Debian, Ubuntu: sudo apt install fuse3).",
            code=ExitCode.NO_FUSE,
        )
    return program


def abort(entry: MountEntry) -> None:
    """Have the kernel give up every request of a mount, its own and those of programs. Raises OSError.

    Anybody can do it to a mount of theirs below /sys/fs/fuse/connections, where that is mounted; else only root.
    """
    try:
        abort_connection(entry.connection)
    except OSError:
        libc = ctypes.CDLL(None, use_errno=True)
        if os.geteuid() != 0:
            raise
        if libc.umount2(os.fsencode(entry.path), _MNT_FORCE) and ctypes.get_errno() != errno.EBUSY:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())) from None


def abort_connection(number: str) -> None:
    """Do so with a mount that may be in no tree any more. Raises OSError, also where that folder is not mounted.

    NOTE: numbers are used again. Only for a connection that somebody is known to keep open.
    """
    Path(f"/sys/fs/fuse/connections/{number}/abort").write_text("1", encoding="ascii")


def detach(path: str) -> bool:
    """Take a dead or busy mount out of the tree, at once (`fusermount3 -uz`); True when that worked."""
    command = [fusermount(), "-uz", "--", path]
    return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0

"""One daemon per account: a lock that the kernel keeps, and a note of who holds it.

The lock ends with its process, however that ends; the note may be old and is believed only while the lock is held.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cloudfs.errors import ExitCode, UserError

__all__ = ["LOCK_NAME", "Hold", "Holder", "find_holder", "hold"]

LOCK_NAME = "lock"


class Holder(msgspec.Struct, frozen=True):
    """Who holds an account."""

    pid: int
    mount_point: str
    socket_folder: str
    """Where its control socket is: a client may see another XDG_RUNTIME_DIR than the daemon did."""
    waiting: str = ""
    """What it waits for before it mounts, in words; there is no socket yet."""
    connection: str = ""
    """The number of its FUSE connection while it is mounted."""


class Hold:
    """The held lock of one account."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note(self, holder: Holder) -> None:
        """Tell others who holds it."""
        # In one write, over all of the former note: who reads it meanwhile would take an empty one for nobody's.
        former = os.fstat(self._descriptor).st_size
        os.pwrite(self._descriptor, msgspec.json.encode(holder).ljust(former), 0)


@contextmanager
def hold(state: Path, account: str) -> Iterator[Hold]:
    """Hold the account for the time of the block; UserError ALREADY_MOUNTED when another process does."""
    descriptor = os.open(state / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if not _lock(descriptor):
            raise _taken(account, _read(descriptor))
        yield Hold(descriptor)
    finally:
        os.close(descriptor)


def find_holder(state: Path) -> Holder | None:
    """Return who holds the account now, None when nobody does. Creates nothing."""
    try:
        descriptor = os.open(state / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    # A few tries: somebody who only looks (`find_holder`) holds it for microseconds.
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def _read(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 64 * 1024, 0), type=Holder)
    except msgspec.MsgspecError:
        return None  # held, but the note is not written yet


def _taken(account: str, holder: Holder | None) -> UserError:
    who = f" at {holder.mount_point} by the process {holder.pid}" if holder else " by another process"
    return UserError(
        f"The account {account} is already mounted{who}.",
        hint=f"Use that mount, or end it first with `cloudfs unmount {account}`.",
        code=ExitCode.ALREADY_MOUNTED,
    )

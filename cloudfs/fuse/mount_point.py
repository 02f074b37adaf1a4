"""Is this folder fit to be mounted on? Each way it may not be gets one sentence and a next step."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.mounts import MountEntry, all_mounts, detach, fusermount, mounts_at, probe

__all__ = [
    "DEAD",
    "absolute",
    "check",
    "check_fuse",
    "claim",
    "claimed",
    "dead_mounts",
    "locate",
    "may_allow_other",
]

log = logging.getLogger(__name__)

DEAD = frozenset({errno.ENOTCONN, errno.ECONNABORTED})
"""What a mount answers whose daemon is gone: "Transport endpoint is not connected"."""


def check_fuse(
    device: str = "/dev/fuse",
    table: str = "/etc/mtab",
    *,
    allow_other: bool = False,
    rules: str = "/etc/fuse.conf",
) -> None:
    """Raise UserError NO_FUSE where this machine or user cannot make FUSE mounts; with `allow_other`, for all users."""
    fusermount()
    if allow_other and not may_allow_other(rules):
        raise UserError(
            f"This user may not let others into a mount: {rules} does not allow it.",
            hint=f"Ask the administrator for the line user_allow_other in {rules}, or take `allow_other` out of the"
            " account's file.",
            code=ExitCode.NO_FUSE,
        )
    if not Path(device).exists():
        raise UserError(
            "The kernel's FUSE device /dev/fuse does not exist.",
            hint="Load it with `sudo modprobe fuse`; in a container, start it with --device /dev/fuse.",
            code=ExitCode.NO_FUSE,
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise UserError(
            "This user may not open /dev/fuse.",
            hint="Ask the administrator to make /dev/fuse readable and writable for you (mode 0666).",
            code=ExitCode.NO_FUSE,
        )
    # fusermount3 mounts without it, but unmounts for others than root only what is in it.
    if os.geteuid() != 0 and not Path(table).exists():
        raise UserError(
            f"This system has no {table}: nobody but root could unmount what is mounted.",
            hint=f"Ask the administrator: `sudo ln -s ../proc/self/mounts {table}`.",
            code=ExitCode.NO_FUSE,
        )


def may_allow_other(rules: str = "/etc/fuse.conf") -> bool:
    """Tell whether this user may let others into a mount. SOURCE: mount.fuse3(8), fusermount3's reading of the file."""
    if os.geteuid() == 0:
        return True
    try:
        lines = Path(rules).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return "user_allow_other" in {line.partition("#")[0].strip() for line in lines}


def locate(path: str) -> str:
    """Return the absolute path with its parents resolved; the last part is not touched, as it may hang."""
    if not path:
        raise UserError(
            "The mount point is empty text.",
            hint="Name a folder; the current one is `.`.",
            code=ExitCode.MOUNT_POINT,
        )
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{path!r} is not UTF-8 text.",
            hint="Mount on a folder whose path is.",
            code=ExitCode.MOUNT_POINT,
        ) from error
    place = absolute(path)
    if place.name in {"", ".."}:
        return os.path.realpath(place)
    return str(Path(os.path.realpath(place.parent)) / place.name)


def absolute(path: str) -> Path:
    """Return the path from the root on, with ~ replaced where there is such a user; nothing is looked at.

    Raises UserError USAGE where the working folder, on which it depends, was removed.
    """
    # Not Path.expanduser and Path.resolve: they raise RuntimeError for an unknown user and for links in a circle.
    place = Path(os.path.expanduser(path))  # noqa: PTH111
    if place.is_absolute():
        return place
    try:
        return Path.cwd() / place
    except OSError as error:
        raise UserError(
            f"{path} cannot be found: the folder that you are in does not exist any more.",
            hint="Change to another folder, or name the path from / on.",
            code=ExitCode.USAGE,
        ) from error


def claim(path: str) -> str:
    """Return the path to mount on, after clearing away a dead mount of ours that a killed daemon left.

    Raises UserError MOUNT_POINT. Changes nothing else. Blocks for seconds at worst: not for the loop.
    """
    place = locate(path)
    while mounted := mounts_at(place):
        if not _clear_if_dead(mounted[-1]):
            break
    if not mounted:
        place = os.path.realpath(place)  # only now: there is no mount of ours that it could wait for
    _check_fit(place)
    return place


@contextmanager
def claimed(path: str) -> Iterator[str]:
    """Claim a folder as `claim` does, and keep every other daemon from mounting there for the time of the block.

    Of two that begin at once both would find nothing mounted, and the upper one would be unmounted for the lower.
    """
    place = claim(path)
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _lock(descriptor):
            raise _refused(f"Another account is just being mounted at {place}.", "Choose another folder.")
        if mounts_at(place):
            claim(path)  # mounted in the moment between: this tells what
        yield place
    finally:
        os.close(descriptor)


def _lock(folder: int) -> bool:
    """Lock a folder until it is closed; False where somebody else has. True also where none can be locked (NFS)."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.debug("the mount point cannot be locked: %s", error)
    return True


def check(path: str) -> str:
    """Return the absolute path of a folder that may be mounted on, as far as a look without any change can tell.

    Raises UserError MOUNT_POINT. Of what is mounted there `claim` tells. Blocks: not for the loop.
    """
    place = locate(path)
    if not mounts_at(place):
        _check_fit(os.path.realpath(place))
    return place


def dead_mounts() -> list[MountEntry]:
    """Return the mounts of this user whose daemon is gone. Blocks for seconds at worst: not for the loop."""
    return [entry for entry in all_mounts() if entry.ours and probe(entry.path) in DEAD]


def _clear_if_dead(entry: MountEntry) -> bool:
    """Look at the visible mount of the place; True when it was a dead one of ours and is gone now."""
    answer = probe(entry.path)
    if answer in DEAD and entry.ours and detach(entry.path):
        log.warning(
            "cleared the mount of account %s that a killed daemon left at %s", entry.account, entry.path
        )
        return True
    if answer in DEAD:
        raise _dead(entry.path)
    if answer == errno.ETIMEDOUT:
        raise _refused(
            f"The mount at {entry.path} does not answer.",
            f"Detach it with `fusermount3 -uz {quote(entry.path)}`.",
        )
    if entry.account is not None:
        raise _refused(
            f"{entry.path} is already the mount of the account {entry.account}.",
            f"Unmount it with `cloudfs unmount {quote(entry.path)}`, or choose another folder.",
        )
    return False


def _check_fit(place: str) -> None:
    _check_folder(place)
    _check_empty(place)


def _check_folder(place: str) -> None:
    try:
        mode = Path(place).stat().st_mode
    except OSError as error:
        raise _cannot_use(place, error) from error
    if not stat.S_ISDIR(mode):
        raise _refused(f"The mount point {place} is not a folder.", "Choose or make an empty folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _refused(
            f"The mount point {place} is not writable for you.",
            "Choose a folder that you own, such as ~/Cloud.",
        )


def _check_empty(place: str) -> None:
    try:
        with os.scandir(place) as entries:
            first = next(entries, None)
    except OSError as error:
        raise _cannot_use(place, error) from error
    if first is not None:
        raise _refused(
            f"The mount point {place} is not empty (it holds {first.name!r}).",
            "Choose an empty folder: a mount would hide what is in there.",
        )


def _cannot_use(place: str, error: OSError) -> UserError:
    if error.errno == errno.ENOENT:
        return _refused(
            f"The mount point {place} does not exist.", f"Make it with `mkdir -p {quote(place)}`."
        )
    if error.errno in DEAD:
        return _dead(place)
    return _refused(
        f"The mount point {place} cannot be used: {error.strerror}.", "Choose an empty folder you own."
    )


def _dead(place: str) -> UserError:
    return _refused(
        f"{place} is a dead mount: its program is gone (Transport endpoint is not connected).",
        f"Detach it with `fusermount3 -uz {quote(place)}` and try again.",
    )


def _refused(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.MOUNT_POINT)

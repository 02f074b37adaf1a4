"""Why a mount could not be unmounted, in sentences for people with the right next step."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from shlex import quote

from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.mounts import MountEntry
from cloudfs.paths import is_below

__all__ = ["SILENT", "is_busy", "why_mounted"]

SILENT = "it did not end"
"""Instead of fusermount3's words, where there were none in time."""


def why_mounted(place: str, mount_id: int, said: str, mounts: Sequence[MountEntry]) -> UserError:
    """Explain why a mount is still there. `said`: by fusermount3 (it speaks English only); `mounts`: all there are."""
    inside = [entry.path for entry in mounts if entry.path != place and is_below(entry.path, place)]
    at_place = [entry for entry in mounts if entry.path == place]
    if at_place and at_place[-1].mount_id != mount_id:
        over = at_place[-1]
        return _refused(
            f"{place} cannot be unmounted: another file system ({over.fs_type}) was mounted over it.",
            f"Unmount that one first: `umount {quote(place)}`, with sudo where root has mounted it.",
        )
    if inside:
        return _refused(
            f"{place} is in use: {inside[-1]} is mounted inside it.",
            f"Unmount that one first: `umount {quote(inside[-1])}`.",
        )
    if is_busy(said):
        return _refused(
            f"{place} is in use: a program has a file or a working folder there.",
            f"Find it with `fuser -vm {quote(place)}` and end it, or use `cloudfs unmount --lazy`.",
        )
    if said == SILENT:
        return _refused(
            f"{place} is still mounted: fusermount3 did not end in time.",
            "Try once more; `cloudfs unmount --lazy` detaches it at once.",
        )
    if any(os.strerror(code) in said for code in (errno.EPERM, errno.EACCES)):
        return _refused(
            f"{place} cannot be unmounted: fusermount3 has no right to ({_last(said)}).",
            "It has to belong to root and be setuid: reinstall the package fuse3, or use `sudo umount`.",
        )
    return _refused(
        f"{place} cannot be unmounted: {_last(said)}.",
        "Where that does not tell what to do, `cloudfs unmount --lazy` detaches it.",
    )


def is_busy(said: str) -> bool:
    """Tell whether fusermount3 says that somebody is in the mount."""
    return os.strerror(errno.EBUSY) in said


def _last(said: str) -> str:
    """Return the last line, which is the one that counts."""
    return (said.strip().splitlines() or ["fusermount3 failed without a word"])[-1].rstrip(".")


def _refused(message: str, hint: str) -> UserError:
    return UserError(message, hint=hint, code=ExitCode.MOUNT_POINT)

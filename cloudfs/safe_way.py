"""The way to a folder of ours: whether somebody else could put another one in its place.

Whoever may write to a folder may rename what is in it, and put something else there: a folder, or a link. In a sticky
one (/tmp) only to what is his. SOURCE: rename(2), inode(7).
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Unsafe", "find_unsafe"]

_MOST_LINKS = 40
"""SOURCE: path_resolution(7)."""


class Unsafe(NamedTuple):
    """A folder or link on the way, and what is wrong with it."""

    place: str
    is_open: bool
    """It is a folder that every user may write to; else it belongs to another user."""
    owner: int


def find_unsafe(path: Path) -> Unsafe | None:
    """Return the first thing on the way to `path` by which others could lead it elsewhere. Raises OSError.

    The folder of each link counts, too. What is missing is made by us. To root another user's folder is as good as its
    own, as whoever starts it there has chosen that user (a container's volume), but not where all may put things.
    """
    for folder, place, is_last in _lookups(str(path)):
        with suppress(FileNotFoundError):
            mode = os.stat(folder).st_mode  # noqa: PTH116  # texts
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                return Unsafe(folder, is_open=True, owner=os.stat(folder).st_uid)  # noqa: PTH116
            found = os.lstat(place)
            if is_last and not stat.S_ISLNK(found.st_mode):
                continue  # who makes it looks at it
            if os.geteuid() == 0 and not mode & stat.S_IWOTH:
                continue
            if found.st_uid not in {0, os.geteuid()} and found.st_uid not in _nobody():
                return Unsafe(place, is_open=False, owner=found.st_uid)
    return None


def _lookups(path: str) -> Iterator[tuple[str, str, bool]]:
    """Give each folder in which a name is looked up, what it stands for there, and whether it is the last."""
    place, links, left = "/", 0, deque(path.split("/"))
    while left:
        name = left.popleft()
        if name in {"", ".", ".."}:
            place = os.path.dirname(place) if name == ".." else place  # noqa: PTH120  # there is no link in it
            continue
        folder, place = place, os.path.join(place, name)  # noqa: PTH118
        yield folder, place, not left
        try:
            target = os.readlink(place)  # noqa: PTH115
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOENT}:
                raise
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        left.extendleft(reversed(target.split("/")))
        place = "/" if target.startswith("/") else folder


def _nobody() -> Collection[int]:
    """Return whose, in a user namespace as of a container, everything is that belongs to nobody in it, `/` too."""
    try:
        if Path("/proc/self/uid_map").read_bytes().split() == [b"0", b"0", b"4294967295"]:
            return ()
        return (int(Path("/proc/sys/kernel/overflowuid").read_bytes()),)
    except (OSError, ValueError):
        return ()

"""Which inodes of a mount somebody watches with inotify, as the kernel tells of our own user's processes.

Nobody else can watch a mount that is made without allow_other. SOURCE: proc(5), /proc/PID/fdinfo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cloudfs.types import Ino

__all__ = ["watched_inodes"]

_LINE = re.compile(r"^inotify wd:\d+ ino:([0-9a-f]+) sdev:([0-9a-f]+) ", re.MULTILINE)
_MINOR_BITS = 20


def watched_inodes(device: int, proc: Path = Path("/proc")) -> frozenset[Ino]:
    """Return the watched inodes of the file system with this st_dev. A millisecond for every ten processes or so."""
    kernel_device = (os.major(device) << _MINOR_BITS) | os.minor(device)
    found: set[Ino] = set()
    for process in _members(proc):
        if process.name.isdecimal():
            for text in _inotify_instances(process):
                found.update(
                    Ino(int(ino, 16)) for ino, on in _LINE.findall(text) if int(on, 16) == kernel_device
                )
    return frozenset(found)


def _inotify_instances(process: Path) -> Iterator[str]:
    """Yield what is watched by each instance; a process that ends meanwhile, or is another user's, has none."""
    for descriptor in _members(process / "fd"):
        try:
            if str(descriptor.readlink()) == "anon_inode:inotify":
                yield (process / "fdinfo" / descriptor.name).read_text(encoding="ascii", errors="replace")
        except OSError:
            continue


def _members(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []

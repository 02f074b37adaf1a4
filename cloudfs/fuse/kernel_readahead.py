"""How far the kernel reads ahead of a program: 128 KiB by itself, which costs more requests of it than need be."""

from __future__ import annotations

import logging
from pathlib import Path

__all__ = ["READ_AHEAD_KIB", "widen"]

log = logging.getLogger(__name__)

READ_AHEAD_KIB = 256
"""A stream takes a fifth less of our CPU than with 128 (docs/PERFORMANCE.md). Not more: it is also what has to come,
before the program has its page, where one is touched through mmap; from the network that is to be 256 KiB at most."""
_DEVICES = Path("/sys/class/bdi")


def widen(device: str, devices: Path = _DEVICES) -> bool:
    """Have the kernel read that far ahead in the mount of that `device` (major:minor); True where it does now.

    Only root may, and only once the kernel has the answer to INIT, which sets it to 128 at most. For other users
    the package has a rule of udev's that does the same. What is larger already stays.
    SOURCE: Documentation/ABI/testing/sysfs-class-bdi; fs/fuse/inode.c, process_init_reply.
    """
    setting = devices / device / "read_ahead_kb"
    try:
        if int(setting.read_text()) < READ_AHEAD_KIB:
            setting.write_text(str(READ_AHEAD_KIB))
    except (OSError, ValueError) as error:
        log.debug("the kernel reads ahead as far as it does by itself: %s", error)
        return False
    return True

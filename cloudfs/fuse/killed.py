"""A daemon that was killed and is not gone: a thread of it waits in the kernel.

The thread tells the kernel of a changed name, and waits for a folder that a program has locked; the program waits for
the daemon. Neither can be killed, and the device stays open, so the kernel does not see that nobody will answer. Only
aborting the connection frees both.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from cloudfs.fuse.mounts import abort, abort_connection, mounts_at

__all__ = ["end_killed"]

log = logging.getLogger(__name__)

_LOOKS = 50
_LOOK_S = 0.02


def end_killed(pid: int, place: str, connection: str) -> None:
    """Free what a killed daemon still holds: the account, and the programs that wait for it. Blocks for a second.

    `place`: where it was mounted; `connection`: the number of its FUSE connection, or "", for a mount that was detached
    since. Does nothing for a daemon that lives.
    """
    if not _is_killed(pid):
        return
    try:
        entries = [entry for entry in mounts_at(place) if entry.ours]
        for entry in entries:
            abort(entry)
        if connection and not entries:
            abort_connection(connection)
    except OSError as error:
        log.error("cannot abort the mount at %s, whose daemon was killed: %s", place, error)  # noqa: TRY400
    for _ in range(_LOOKS):
        if len(_threads(pid)) <= 1:
            return
        time.sleep(_LOOK_S)


def _is_killed(pid: int) -> bool:
    """Tell whether a process has ended but for some of its threads."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "Z"


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []

"""What the daemons of a test, processes of their own, say in their logs and hold open.

A daemon is known by the home (CLOUDFS_HOME) that it works in. Homes of a test are in its own folder; those of wider
fixtures are found by what they have mounted.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from cloudfs.control.instance import find_holder
from tests.tooling.leaks import DATABASE, Mount

__all__ = ["DaemonLogs", "complain", "held_by", "homes_of", "leaked_by", "leaked_in"]

GRACE_S = 10.0
"""How long an upload or a reader that is under way may take to let go of what it holds."""

_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (?=[A-Z]+ )", re.MULTILINE)
_HARMLESS = ("INFO ", "DEBUG ")
_CRASH = "Traceback (most recent call last)"
_DELETED = " (deleted)"


class DaemonLogs:
    """Reads each line of the logs once, so that a test answers for what was said in it and in nobody else's time."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}

    def news(self, homes: Iterable[Path]) -> list[str]:
        """Return the records from WARNING on that are new, and crashes; each without its time."""
        return [
            text
            for home in homes
            for log in sorted(home.glob("state/*/daemon.log*"))
            for text in alarming(self._rest(log))
        ]

    def _rest(self, log: Path) -> str:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = self._read.get(log, 0)
            file.seek(begin if begin <= size else 0)
            data = file.read()
        self._read[log] = size
        return data.decode(errors="replace")


def alarming(text: str) -> list[str]:
    """Return what of a log is from WARNING on, or is a crash, whatever it stands under."""
    unstamped, *records = _RECORD.split(text)
    loud = [record for record in records if not record.startswith(_HARMLESS)]
    crashes = [part for part in (unstamped, *records) if _CRASH in part and part not in loud]
    return [part.rstrip("\n") for part in loud + crashes]


def homes_of(mounts: Iterable[Mount]) -> set[Path]:
    """Return the homes of the daemons that mounted these.

    Only those that one may look into: for root, all. For others, logs of wider fixtures are read at the end only.
    """
    targets = {mount.target for mount in mounts}
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if not targets.intersection(map(os.fsdecode, words)):
                continue
            environ = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        name = b"CLOUDFS_HOME="
        found |= {Path(os.fsdecode(word.removeprefix(name))) for word in environ if word.startswith(name)}
    return found


def held_by(home: Path) -> Counter[str]:
    """Count what the daemons of a home have open and should let go of, by name.

    That is any deleted file, any block, and any further descriptor of a staging file: one of each may stay open for
    as long as the file is there.
    """
    targets = Counter(_open_files(home))
    staged = {target for target in targets if "/staging-" in target and not target.endswith(_DELETED)}
    blocks = {target for target in targets if f"{home}/cache/" in target and not DATABASE.search(target)}
    deleted = {target for target in targets if target.endswith(_DELETED)}
    return Counter({target: targets[target] for target in blocks | deleted}) + Counter(
        {target: targets[target] - 1 for target in staged}
    )


def _open_files(home: Path) -> Iterator[str]:
    for state in home.glob("state/*"):
        holder = find_holder(state)
        if holder is None:
            continue
        for target in _descriptors(Path(f"/proc/{holder.pid}/fd")):
            if target.startswith(f"{home}/"):
                yield target


def _descriptors(folder: Path) -> Iterator[str]:
    try:
        links = list(folder.iterdir())
    except OSError:
        return
    for link in links:
        try:
            yield os.readlink(link)
        except OSError:
            continue


def leaked_by(home: Path, before: Counter[str]) -> list[str]:
    """Return what daemons of a home hold beyond `before` after the grace time, unless a program uses the mount."""
    deadline = time.monotonic() + GRACE_S
    while leaked := sorted(held_by(home) - before):
        if time.monotonic() > deadline:
            return [] if _in_use(home) else leaked
        time.sleep(0.02)
    return []


def _in_use(home: Path) -> bool:
    holders = [holder for state in home.glob("state/*") if (holder := find_holder(state))]
    inside = tuple(f"{holder.mount_point}/" for holder in holders)
    return any(
        target.startswith(inside)
        for folder in Path("/proc").glob("[0-9]*/fd")
        for target in _descriptors(folder)
    )


def leaked_in(before: dict[Path, Counter[str]]) -> list[str]:
    """Return a sentence for each descriptor that daemons hold, by home, beyond what they held before."""
    return [
        f"descriptor left open by the daemon: {target}"
        for home, held in before.items()
        for target in leaked_by(home, held)
    ]


def complain(home: Path) -> None:
    """Have the test fail, if it has not yet, for what the daemons of a home hold: they are about to be ended.

    As a record that the test does not expect: it goes through where a failure of its own would hide another one.
    """
    for sentence in leaked_in({home: Counter()}):
        logging.getLogger("cloudfs.guards").error(sentence)

"""What a test may leave behind on the machine: no descriptor, no mount."""

from __future__ import annotations

import gc
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DATABASE", "Mount", "is_of_engine", "leaked_descriptors", "mounts_below", "open_descriptors"]

GRACE_S = 2.0
"""How long threads and servers of a finished test may take to close what they hold."""

KNOWN = frozenset({"/dev/null", "/dev/urandom"})
"""Opened once by libraries and kept for the life of the process; harmless."""

DATABASE = re.compile(r"\.(db|sqlite)(-wal|-shm|-journal)?$")
"""A file of SQLite's: each thread that uses one has a connection of its own."""


def open_descriptors() -> Counter[str]:
    """Count this process's descriptors by what they are open on.

    Not by number: one that was closed and given out again is neither a leak nor proof of none.
    """
    found: Counter[str] = Counter()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found[str(descriptor.readlink()).removesuffix(" (deleted)")] += 1
        except FileNotFoundError:  # the descriptor of this very listing
            continue
    return found


def is_of_engine(target: str) -> bool:
    """Tell whether an engine that outlives the test may have this open at its end: connections, databases, staging."""
    return (
        target.startswith(("socket:", "anon_inode:"))
        or DATABASE.search(target) is not None
        or ("/staging-" in target and Path(target).exists())
    )


def leaked_descriptors(before: Counter[str], spared: Callable[[str], bool] = lambda _: False) -> list[str]:
    """Return what is open more often than before, once garbage is collected and the grace time is over."""
    if not _surplus(before, spared):
        return []
    gc.collect()
    deadline = time.monotonic() + GRACE_S
    while (leaked := _surplus(before, spared)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return leaked


def _surplus(before: Counter[str], spared: Callable[[str], bool]) -> list[str]:
    more = (open_descriptors() - before).elements()
    return sorted(target for target in more if target not in KNOWN and not spared(target))


@dataclass(frozen=True)
class Mount:
    """Something mounted."""

    target: str
    kind: str

    def detach(self) -> None:
        """Take it out of the tree, also when it is dead or in use."""
        command = ["fusermount3", "-uz"] if self.kind.startswith("fuse") else ["umount", "--lazy"]
        subprocess.run([*command, self.target], check=False, timeout=20)


def mounts_below(folder: Path) -> list[Mount]:
    """Return what is mounted inside `folder`, the newest first.

    Only there, since other mounts may come and go meanwhile: those of whoever runs the tests.
    """
    mounts = []
    for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        _, target, kind = line.split(" ")[:3]
        if _unescape(target).startswith(f"{folder}/"):
            mounts.append(Mount(_unescape(target), kind))
    return mounts[::-1]


def _unescape(target: str) -> str:
    # The kernel writes space, tab, newline and (last, so that it makes no new escapes) backslash in octal.
    for code in ("040", "011", "012", "134"):
        target = target.replace(f"\\{code}", chr(int(code, 8)))
    return target

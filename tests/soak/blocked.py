"""What a person does about a file that is blocked as the version that it was added to is nowhere to be had any more.

docs/SEMANTICS.md, "If it is nowhere to be had": what was written is kept and can be read, and nothing else of the file;
it is over once the file is removed. Reads past the page cache, which would ask for whole pages of what is not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["give_up"]

_WHY = "replaced the version that this file was edited from"


def give_up(mount: Path, blocked: Iterable[dict[str, Any]], tails: Iterable[bytes]) -> list[str]:
    """Remove the files that are blocked for that reason; return those of the tails that stood at their ends."""
    found: list[str] = []
    known = set(tails)
    for trouble in blocked:
        if _WHY in trouble["reason"]:
            path = mount / trouble["path"].lstrip("/")
            found += [tail.decode() for tail in _at_the_end(path, known)]
            path.unlink()
    return found


def _at_the_end(path: Path, known: set[bytes]) -> list[bytes]:
    found: list[bytes] = []
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        end = os.fstat(fd).st_size
        while tail := next((tail for tail in known if _stands(fd, end, tail)), None):
            found.append(tail)
            end -= len(tail)
    finally:
        os.close(fd)
    return found


def _stands(fd: int, end: int, tail: bytes) -> bool:
    try:
        return len(tail) <= end and os.pread(fd, len(tail), end - len(tail)) == tail
    except OSError:
        return False  # not all of that was written here

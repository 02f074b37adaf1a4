"""Small programs that work in a mount, where no common one does. Run as scripts: the bench itself touches no mount."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

STATS = 500_000
SAVES = 50
_LINES = 500
SAVED_BYTES = len("saved 00\n") * _LINES


def stats(folder: str) -> None:
    """Look at all files of a tree again and again; print the time without Python's start and the first walk."""
    paths = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]  # noqa: PTH118
    for path in paths:
        os.stat(path)  # noqa: PTH116  # the kernel knows them now
    began_s = time.perf_counter()
    for _ in range(STATS // len(paths)):
        for path in paths:
            os.stat(path)  # noqa: PTH116  # a Path costs more than the call
    print(time.perf_counter() - began_s)


def saves(name: str) -> None:
    """Save a document as editors do: a new file, renamed over the old one."""
    document = Path(name)
    for number in range(SAVES):
        beside = document.with_name(f".{document.name}.{number:02}")
        beside.write_text(f"saved {number:02}\n" * _LINES)
        beside.replace(document)


if __name__ == "__main__":
    {"stats": stats, "saves": saves}[sys.argv[1]](sys.argv[2])

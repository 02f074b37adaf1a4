"""Reads all of a mount, in a process of its own: python -m tests.soak.look ROOT MOUNT. Prints path → SHA-1 as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.soak.notes import Contents

__all__ = ["look"]


def look(contents: Contents, mount: Path) -> dict[str, str | None]:
    """Return what a mount shows: folders as None, what cannot be read as a sentence."""
    found: dict[str, str | None] = {}
    for folder, folders, files in os.walk(mount):
        for name in folders:
            found[os.path.relpath(f"{folder}/{name}", mount)] = None
        for name in files:
            path = Path(folder, name)
            try:
                data = path.read_bytes()
                size = path.stat().st_size
            except OSError as error:
                found[os.path.relpath(path, mount)] = f"cannot be read: {error.strerror}"
                continue
            digest = contents.keep(data)
            said = (
                digest if size == len(data) else f"{digest} has {len(data)} bytes, and is said to have {size}"
            )
            found[os.path.relpath(path, mount)] = said
    return found


if __name__ == "__main__":
    json.dump(look(Contents(Path(sys.argv[1]) / "contents"), Path(sys.argv[2])), sys.stdout)

"""Names of sockets in a folder, however long its path is: a Unix address holds 107 bytes only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["short_address"]


@contextmanager
def short_address(folder: Path, name: str) -> Iterator[str]:
    """Yield an address of the socket `name` in `folder` for bind and connect, valid within the block.

    It goes through the folder's descriptor, so that it is short, and names the folder that was opened even
    when its path comes to mean another one.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)

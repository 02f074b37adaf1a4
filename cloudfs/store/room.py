"""Disk space that the database has already, so that a full disk does not stop it.

A database that cannot commit cannot note that the server has a file, whose staging file would give the space back: a
disk that is filled to the last byte, by whomever, would stay full. So the files that a commit or a checkpoint grows
are given their blocks beforehand, beyond their ends. Nobody can take them, and SQLite does not see them.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from pathlib import Path

__all__ = ["Room"]

_log = logging.getLogger(__name__)

_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE."""

_SHM_BYTES = 64 * 1024
"""The index of a WAL of 8,000 pages."""


class Room:
    """Blocks for a database at `path`, its WAL and its shared memory; `wal_bytes` = 0: none."""

    def __init__(self, path: Path, wal_bytes: int) -> None:
        """Open the files; the database is open already. INVARIANT: SQLite's connection is closed before this.

        Closing any descriptor of a file drops the locks that the process, and so SQLite, has on it.
        """
        self._wal_bytes = wal_bytes
        self._complained = False
        self._files: list[int] = []
        if wal_bytes:
            for suffix in ("", "-wal", "-shm"):
                descriptor = os.open(path.with_name(path.name + suffix), os.O_RDWR | os.O_CLOEXEC)
                self._files.append(descriptor)

    def take(self) -> bool:
        """Allocate what is missing; True when nothing is. Blocks for a moment; 5 µs where all is there."""
        if not self._files:
            return True
        database, wal, shm = self._files
        wanted = (
            (wal, self._wal_bytes),
            (database, os.fstat(database).st_size + self._wal_bytes // 2),
            (shm, _SHM_BYTES),
        )
        missing = [(descriptor, size) for descriptor, size in wanted if not _allocated(descriptor, size)]
        return sum(self._allocate(descriptor, size) for descriptor, size in missing) == len(missing)

    def close(self) -> None:
        """Close the descriptors; the blocks beyond the database's end stay with it."""
        for descriptor in self._files:
            os.close(descriptor)
        self._files.clear()

    def _allocate(self, descriptor: int, size: int) -> bool:
        if _libc.fallocate(descriptor, _KEEP_SIZE, 0, size) == 0:
            return True
        if not self._complained:
            self._complained = True
            why = os.strerror(ctypes.get_errno())
            _log.warning("no disk space can be put by for the database, so a full disk may stop it: %s", why)
        return False


def _allocated(descriptor: int, size: int) -> bool:
    with contextlib.suppress(OSError):
        return os.fstat(descriptor).st_blocks * 512 >= size
    return False


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

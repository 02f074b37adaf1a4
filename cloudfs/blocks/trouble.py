"""What can go wrong with the cache, told apart by what helps: nothing, evicting, or starting again empty.

The errors of SQLite, diskcache and the file system are translated here, and only here.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import diskcache

from cloudfs.errors import CloudfsError

__all__ = ["CacheDamaged", "CacheTrouble", "ForeignRow", "NoRoom", "translated"]

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""SQLITE_ERROR: our statements are right, so it means that the tables are not ours."""


class CacheTrouble(CloudfsError):
    """The cache could not do it this time. Never the reader's problem: it counts as a miss."""


class NoRoom(CacheTrouble):
    """The limit, the disk or its keep-free guard is reached, and eviction could not help."""

    def __init__(self, shortage_bytes: int) -> None:
        super().__init__(f"no room for a block: {shortage_bytes} bytes short")
        self.shortage_bytes = shortage_bytes


class CacheDamaged(CacheTrouble):
    """A database of the cache is not what it must be: only a new folder helps."""


class ForeignRow(OSError):
    """A row or file that we cannot have written. An OSError: diskcache takes that for a missing value."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EBADMSG, what)


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of the cache's disk and databases into CacheTrouble, with its cause."""
    try:
        yield
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise _trouble(error) from error


def _trouble(error: BaseException) -> CacheTrouble:
    """Say what an error means, by the first cause of its chain.

    diskcache rolls back after an error, and the roll-back fails where SQLite has rolled back already: the
    last error hides the one that counts.
    """
    chain = [error]
    while (earlier := chain[-1].__context__) is not None:
        chain.append(earlier)
    if any(_is_full(link) for link in chain):
        return NoRoom(0)
    first = next((link for link in reversed(chain) if isinstance(link, sqlite3.Error)), error)
    return (CacheDamaged if _is_damage(first) else CacheTrouble)(f"{type(first).__name__}: {first}")


def _is_full(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return _primary_code(error) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def _is_damage(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        code = _primary_code(error)
        return code is None or code in _DAMAGE
    # A missing value file is a miss and comes not here: what is missing is the whole folder.
    return isinstance(error, (ForeignRow, FileNotFoundError))


def _primary_code(error: sqlite3.Error) -> int | None:
    """Return SQLite's result code without its details; None for an error of the Python module itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

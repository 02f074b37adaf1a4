"""What is cached, how long and what checksum each block must have, and which was used last.

diskcache can say whether a key exists in 45 µs, and cannot be asked for "blocks 0 to 63 of this file" or "the
least recently used that is not pinned". This index answers on the loop (18 µs at a million rows), and its
rows cost no Python objects: a million cached blocks are 49 MB of file and at most 10 MB of page cache.

It is a second SQLite database of this project beside `store/`, and the only one outside it: it shares the
cache's folder and fate, is thrown away whenever it looks wrong, and nothing that matters is in it.

Two connections: `_reader` belongs to the loop, `_writer` to whichever single thread holds the store's write
lock. WAL lets the loop read while a thread writes. synchronous=NORMAL: after power loss the last rows may
be missing, but the file is sound; what the rows say is checked against the bytes on every read anyway.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.types import ContentVersion, Ino

__all__ = ["BlockIndex", "BlockRow", "NewRow", "empty_log"]

_FORMAT = 2
"""Raised when the tables change: an index of another format is thrown away with its blocks."""

_SCHEMA = """
CREATE TABLE blocks (
    ino INTEGER NOT NULL,
    version INTEGER NOT NULL,
    idx INTEGER NOT NULL,      -- number of the block in its file
    length INTEGER NOT NULL,   -- bytes the value must have
    checksum INTEGER NOT NULL, -- mark of the value (`values.Values`)
    used INTEGER NOT NULL,     -- tick of the last use; larger is later, equal values mean nothing
    PRIMARY KEY (ino, version, idx)
) WITHOUT ROWID;
CREATE INDEX blocks_by_use ON blocks (used);
CREATE TABLE facts (
    name TEXT PRIMARY KEY,     -- 'closed': 1 when the last owner closed the index in order
    value INTEGER NOT NULL
) WITHOUT ROWID;
"""

_FIND = "SELECT length, checksum FROM blocks WHERE ino = ? AND version = ? AND idx = ?"
_SPAN = "SELECT idx FROM blocks WHERE ino = ? AND version = ? AND idx BETWEEN ? AND ?"
_IN_ORDER = "SELECT idx FROM blocks WHERE ino = ? AND version = ? ORDER BY idx"
_OLDEST = "SELECT ino, version, idx, length, used FROM blocks ORDER BY used LIMIT ?"
_OF_VERSION = "SELECT idx FROM blocks WHERE ino = ? AND version = ? LIMIT ?"
_HELD = "SELECT coalesce(sum(length), 0) FROM blocks WHERE ino = ? AND version = ?"
_VERSIONS = (
    "SELECT ino, version, count(*) FROM blocks WHERE (ino, version) > (?, ?)"
    " GROUP BY ino, version ORDER BY ino, version LIMIT ?"
)
_ADD = "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM blocks WHERE ino = ? AND version = ? AND idx = ?"
_TOUCH = "UPDATE blocks SET used = max(used, ?) WHERE ino = ? AND version = ? AND idx = ?"
_TOTALS = "SELECT count(*), coalesce(sum(length), 0), coalesce(max(used), 0) FROM blocks"
_EMPTY_LOG = "PRAGMA wal_checkpoint(TRUNCATE)"
_CLOSED = "INSERT OR REPLACE INTO facts VALUES ('closed', ?)"


class NewRow(NamedTuple):
    """What to remember of a block that was stored."""

    key: BlockKey
    length: int
    checksum: int
    tick: int


class BlockRow(NamedTuple):
    """A block the evictor may take."""

    key: BlockKey
    length: int
    used: int


class BlockIndex:
    """The table of cached blocks. Raises sqlite3.Error; the volume translates.

    INVARIANT: `blocks` and `bytes` are count and summed lengths of the table's rows.
    """

    def __init__(self, path: Path) -> None:
        """Open the index, or make it. sqlite3.DatabaseError when the file is none of ours."""
        self._writer = _connect(path, timeout_s=5.0, cache_kib=8192)
        try:
            self._make_tables()
            self.was_closed = self._take_over()
            totals: tuple[int, int, int] = self._writer.execute(_TOTALS).fetchone()
            self.blocks, self.bytes, self.last_tick = totals
            # The reader is used on the loop: with WAL it never waits for a writer, and must not start to.
            self._reader = _connect(path, timeout_s=0.0, cache_kib=2048)
        except BaseException:
            self._writer.close()
            raise

    # On the loop: cheap, no thread.

    def find(self, key: BlockKey) -> tuple[int, int] | None:
        """Return the length and checksum the block must have, None when it is not cached."""
        row: tuple[int, int] | None = self._reader.execute(_FIND, key).fetchone()
        return row

    def missing(self, ino: Ino, version: ContentVersion, indexes: Sequence[int]) -> list[int]:
        """Return those of `indexes` that are not cached, in their order."""
        if not indexes:
            return []
        low, high = min(indexes), max(indexes)
        if high - low > 8 * len(indexes):  # scattered: the span would mostly be rows nobody asked for
            return [index for index in indexes if not self.find(BlockKey(ino, version, index))]
        present = {index for (index,) in self._reader.execute(_SPAN, (ino, version, low, high))}
        return [index for index in indexes if index not in present]

    def held(self, ino: Ino, version: ContentVersion) -> list[int]:
        """Return the indexes of the cached blocks of one version, in order."""
        return [index for (index,) in self._reader.execute(_IN_ORDER, (ino, version))]

    def oldest(self, count: int) -> list[BlockRow]:
        """Return the `count` least recently used blocks, oldest first."""
        rows = self._reader.execute(_OLDEST, (count,)).fetchall()
        return [
            BlockRow(BlockKey(ino, version, idx), length, used) for ino, version, idx, length, used in rows
        ]

    def of_version(self, ino: Ino, version: ContentVersion, count: int) -> list[BlockKey]:
        """Return at most `count` cached blocks of one version."""
        rows = self._reader.execute(_OF_VERSION, (ino, version, count)).fetchall()
        return [BlockKey(ino, version, index) for (index,) in rows]

    # In a thread, one at a time.

    def held_bytes(self, ino: Ino, version: ContentVersion) -> int:
        """Return how much of one version is cached; 15 ms for 100 GB of it."""
        (held,) = self._reader.execute(_HELD, (ino, version)).fetchone()
        return int(held)

    def versions_after(self, last: tuple[int, int], count: int) -> list[tuple[Ino, ContentVersion, int]]:
        """Return the next cached versions in order, and how many blocks of each there are."""
        return self._reader.execute(_VERSIONS, (*last, count)).fetchall()

    def add(self, rows: Iterable[NewRow]) -> None:
        """Enter blocks that were just stored, in one transaction; older rows of their keys are replaced."""
        blocks = size = 0
        with self._writer:
            self._writer.execute("BEGIN")
            for row in rows:
                old = self._writer.execute(_FIND, row.key).fetchone()
                self._writer.execute(_ADD, (*row.key, row.length, row.checksum, row.tick))
                blocks += old is None
                size += row.length - (old[0] if old else 0)
        self.blocks += blocks
        self.bytes += size

    def remove(self, keys: Iterable[BlockKey]) -> int:
        """Take blocks out, in one transaction; return how many bytes they had."""
        lengths = []
        with self._writer:
            self._writer.execute("BEGIN")
            for key in keys:
                row = self._writer.execute(_FIND, key).fetchone()
                if row is not None:
                    self._writer.execute(_REMOVE, key)
                    lengths.append(row[0])
        self.blocks -= len(lengths)
        self.bytes -= sum(lengths)
        return sum(lengths)

    def touch(self, ticks: Mapping[BlockKey, int]) -> None:
        """Write down when blocks were used, in one transaction; unknown blocks are passed over."""
        with self._writer:
            self._writer.execute("BEGIN")
            self._writer.executemany(_TOUCH, ((tick, *key) for key, tick in ticks.items()))

    def knows(self, key: BlockKey) -> tuple[int, int] | None:
        """Do as `find`, on the writing side."""
        row: tuple[int, int] | None = self._writer.execute(_FIND, key).fetchone()
        return row

    def empty_log(self) -> None:
        """Move everything from the write-ahead log to the database, and give the log's space back."""
        self._writer.execute(_EMPTY_LOG).fetchall()

    def close(self, *, in_order: bool) -> None:
        """Close both connections; `in_order` says that no value is left without its row."""
        try:
            if in_order:
                self._writer.execute(_CLOSED, (1,))
        finally:
            self._reader.close()
            self._writer.close()

    def _make_tables(self) -> None:
        (written,) = self._writer.execute("PRAGMA user_version").fetchone()
        if written == _FORMAT:
            return
        if written:
            raise sqlite3.DatabaseError("an index of another format")
        self._writer.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")

    def _take_over(self) -> bool:
        """Return whether the last owner closed in order, and note that there is an owner now."""
        row = self._writer.execute("SELECT value FROM facts WHERE name = 'closed'").fetchone()
        # Durable, this once: after power loss an older "closed" must not come back to life.
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.execute(_CLOSED, (0,))
        self._writer.execute("PRAGMA synchronous = NORMAL")
        return row is None or bool(row[0])


def empty_log(path: Path) -> None:
    """Do the same for the database of somebody else."""
    connection = sqlite3.connect(path, timeout=1, isolation_level=None)
    try:
        connection.execute(_EMPTY_LOG).fetchall()
    finally:
        connection.close()


def _connect(path: Path, *, timeout_s: float, cache_kib: int) -> sqlite3.Connection:
    # check_same_thread: opened and closed in worker threads, used by one thread at a time.
    connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    except BaseException:
        connection.close()
        raise
    return connection

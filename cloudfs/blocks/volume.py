"""One cache folder: values in diskcache, rows in the index. Blocking.

    FOLDER/index.db        what is cached (`index`)
    FOLDER/cache.db        diskcache: keys, and values below 32 KiB
    FOLDER/xx/I.V.B.val    values from 32 KiB on

The two databases are not one transaction. The order makes every crash harmless: a value is stored before its
row, a row is removed before its value. What can be left over is a value without a row: no reader finds
it, and `upkeep.sweep` removes it. After power loss a row can be left without its value, or with one of zeros
(diskcache never fsyncs): length and checksum of the row tell, on every read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import diskcache

from cloudfs.blocks.index import BlockIndex, BlockRow, NewRow, empty_log
from cloudfs.blocks.rawdisk import BlockKey, RawDisk
from cloudfs.blocks.scattering import scatter
from cloudfs.blocks.trouble import ForeignRow, NoRoom, translated
from cloudfs.blocks.valuefile import Borrowed
from cloudfs.blocks.values import Values
from cloudfs.types import ContentVersion, Ino, Octets

__all__ = ["NewBlock", "Volume"]

_KEYS = "SELECT rowid, key FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?"

_SETTINGS = {
    "eviction_policy": "none",
    "cull_limit": 0,  # diskcache itself never removes anything
    "disk_min_file_size": 32 * 1024,
    "sqlite_cache_size": 256,  # pages per thread; the default of 8192 could grow to 32 MiB in each
    "sqlite_mmap_size": 0,  # a disk error under a mapping is SIGBUS: the end of the mount
}


class NewBlock(NamedTuple):
    """A block to keep; `tick` says when it was used."""

    key: BlockKey
    data: Octets
    tick: int


class Volume:
    """The blocks of one store. One thread at a time may call the changing methods; `load` any number."""

    def __init__(self, folder: Path, store_id: str, form: Values) -> None:
        """Open the folder, or make it; `form` is how its blocks are written. Raises CacheTrouble, CacheDamaged."""
        self.folder = folder
        self.form = form
        self.store_id = store_id
        self._tidy = True
        """Nothing is left over that the next owner would have to sweep."""
        with translated():
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                scatter(folder)
            self.index = BlockIndex(folder / "index.db")
            try:
                self._values = diskcache.Cache(str(folder), timeout=5, disk=RawDisk, **_SETTINGS)
                self._values.disk.borrowed = Borrowed() if form.copies else None
            except BaseException:
                self.index.close(in_order=False)
                raise

    # On the loop: cheap, no thread. All raise CacheTrouble.

    def find(self, key: BlockKey) -> tuple[int, int] | None:
        """Return the length and checksum the block must have, None when it is not cached."""
        with translated():
            return self.index.find(key)

    def missing(self, ino: Ino, version: ContentVersion, indexes: Sequence[int]) -> list[int]:
        """Return those of `indexes` that are not cached, in their order."""
        with translated():
            return self.index.missing(ino, version, indexes)

    def oldest(self, count: int) -> list[BlockRow]:
        """Return the `count` least recently used blocks, oldest first."""
        with translated():
            return self.index.oldest(count)

    def of_version(self, ino: Ino, version: ContentVersion, count: int) -> list[BlockKey]:
        """Return at most `count` cached blocks of one version."""
        with translated():
            return self.index.of_version(ino, version, count)

    def held(self, ino: Ino, version: ContentVersion) -> list[int]:
        """Return the indexes of the cached blocks of one version, in order."""
        with translated():
            return self.index.held(ino, version)

    def held_bytes(self, ino: Ino, version: ContentVersion) -> int:
        """Return how much of one version is cached."""
        with translated():
            return self.index.held_bytes(ino, version)

    def versions_after(self, last: tuple[int, int], count: int) -> list[tuple[Ino, ContentVersion, int]]:
        """Return the next cached versions in order, and how many blocks of each there are."""
        with translated():
            return self.index.versions_after(last, count)

    # In threads.

    def load(self, key: BlockKey, length: int, wanted_checksum: int) -> bytes | None:
        """Read a block; None when it is missing or not the bytes that were stored. Raises CacheTrouble."""
        with translated():
            data: bytes | memoryview | None = self._values.get(key.text(self.store_id))
        return None if data is None else self.form.open(key, data, length, wanted_checksum)

    def store(self, blocks: Sequence[NewBlock], keep_free_bytes: int) -> None:
        """Keep blocks, all or none; storing the same again only touches it.

        One transaction in each database, whatever their number: a commit costs as much as writing a block's file.
        Raises NoRoom (also when fewer than `keep_free_bytes` would be left on the disk) and CacheTrouble;
        then nothing of the new ones is left behind.
        """
        with translated():
            shortage_bytes = keep_free_bytes + sum(len(block.data) for block in blocks) - self.free_bytes()
            if shortage_bytes > 0:
                raise NoRoom(shortage_bytes)
            marks = [self.form.known_by(block.data) for block in blocks]
            fresh, known = [], {}
            for block, mark in zip(blocks, marks, strict=True):
                if mark is not None and self.index.knows(block.key) == (len(block.data), mark):
                    known[block.key] = block.tick
                else:
                    fresh.append((block, mark))
            try:
                self.index.add(self._replace(fresh))
            except BaseException:
                for block, _ in fresh:
                    self._discard(block.key)
                raise
            if known:
                self.index.touch(known)

    def remove(self, keys: Sequence[BlockKey]) -> int:
        """Remove blocks; return how many bytes they had. Raises CacheTrouble."""
        try:
            return self._remove(keys)
        except NoRoom:
            # The disk is so full that not even a removal can be written down. Files need no writing to go,
            # and write-ahead logs that are empty again have room for the rest.
            for key in keys:
                self._values.disk.remove(key.file_name())
            self.empty_logs()
            return self._remove(keys)

    def empty_logs(self) -> None:
        """Give the space of the databases' write-ahead logs back, up to 8 MiB. Raises CacheTrouble."""
        with translated():
            self.index.empty_log()
            empty_log(self.folder / "cache.db")

    def remove_values(self, texts: Iterable[str]) -> None:
        """Remove values by diskcache's keys, in one transaction. Raises CacheTrouble."""
        with translated(), self._values.transact():
            for text in texts:
                self._values.delete(text)

    def has_row(self, key: BlockKey) -> bool:
        """Tell whether the index has the block; unlike the index's own, for worker threads."""
        with translated():
            return self.index.knows(key) is not None

    def value_keys(self, after: int, count: int) -> list[tuple[int, str]]:
        """Return up to `count` of diskcache's keys, those of values without a row too, each with its place.

        The first ones with `after` 0, then those after the last place. Each call has its own connection: diskcache's
        iterator keeps that of the thread it began in, and the next step may run in another. Raises CacheTrouble.
        """
        with translated(), closing(sqlite3.connect(self.folder / "cache.db", timeout=5)) as database:
            rows = database.execute(_KEYS, (after, count)).fetchall()
            if any(type(key) is not str for _, key in rows):
                raise ForeignRow("a key that is no plain string")
        return rows

    def touch(self, ticks: dict[BlockKey, int]) -> None:
        """Write down when blocks were last used. Raises CacheTrouble."""
        with translated():
            self.index.touch(ticks)

    def free_bytes(self) -> int:
        """Return what an ordinary user may still write on this disk. Raises CacheTrouble."""
        with translated():
            disk = os.statvfs(self.folder)
        return disk.f_bavail * disk.f_frsize

    def close(self, in_order: bool) -> None:  # noqa: FBT001  # handed through in_disk_thread
        """Close; `in_order` says that there is nothing to sweep next time."""
        with translated():
            try:
                self.index.close(in_order=in_order and self._tidy)
            finally:
                self._values.close()

    def _remove(self, keys: Sequence[BlockKey]) -> int:
        with translated():
            freed_bytes = self.index.remove(keys)
            tidy, self._tidy = self._tidy, False
            self.remove_values(key.text(self.store_id) for key in keys)
            self._tidy = tidy
        return freed_bytes

    def _replace(self, blocks: Sequence[tuple[NewBlock, int | None]]) -> list[NewRow]:
        """Write the values of blocks, each with the mark that is known of it so far."""
        rows = []
        with self._values.transact():
            for block, known in blocks:
                text = block.key.text(self.store_id)
                value, mark = self.form.close(block.key, block.data, known)
                # Not left to set(): it would delete the old value file after the new one took its name.
                self._values.delete(text)
                self._values.set(text, value)
                rows.append(NewRow(block.key, len(block.data), mark, block.tick))
        return rows

    def _discard(self, key: BlockKey) -> None:
        """Leave nothing of a block that could not be stored whole; as far as the disk still answers."""
        self._values.disk.remove(key.file_name())
        try:
            self._values.delete(key.text(self.store_id))
        except (sqlite3.Error, diskcache.Timeout):
            self._tidy = False

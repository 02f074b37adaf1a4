"""diskcache's file layer, cut down to bytes: it cannot pickle, unpickle or leave its folder.

Three differences from `diskcache.Disk`:

- Keys are strings and values are bytes. A row that claims to be a pickle, a text or a number is no block
  of ours: reading it raises, which diskcache reports as a miss, and nothing of it is ever decoded.
- Value files are named after their key. A block that is stored again after a crash overwrites its orphan, and
  what a file belongs to can be told without a search. 256 folders: a million blocks are 4,000 a folder.
- A value is written with one write(2), see `valuefile`. The original iterates over its *lines*: a random MiB costs
  6.5 ms of CPU to set, against 2.1 ms this way (measured).
"""

from __future__ import annotations

import os
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW

from cloudfs.blocks.trouble import ForeignRow
from cloudfs.blocks.valuefile import Borrowed, ValueWriter, read_value
from cloudfs.types import ContentVersion, Ino

__all__ = ["BlockKey", "RawDisk", "value_files"]

_PART = re.compile(r"[0-9a-f]{2}", re.ASCII)
_FILE_NAME = re.compile(r"[0-9a-f]{2}/([0-9]{1,20})\.([0-9]{1,20})\.([0-9]{1,20})\.val", re.ASCII)


class BlockKey(NamedTuple):
    """Identity of one block: its bytes never change, since a content version never does."""

    ino: Ino
    version: ContentVersion
    block: int
    """Number of the block in its file; it starts at block * BLOCK_SIZE."""

    def text(self, store_id: str) -> str:
        """Return the key diskcache knows the block by."""
        return f"{store_id}:{self.ino}:{self.version}:{self.block}"

    @classmethod
    def of_text(cls, text: str) -> BlockKey:
        """Read what `text` wrote; ValueError on anything else."""
        _, ino, version, index = text.split(":")
        return cls(Ino(int(ino)), ContentVersion(int(version)), int(index))

    def file_name(self) -> str:
        """Return the path of the block's value file below the cache folder."""
        stem = f"{self.ino}.{self.version}.{self.block}"
        return f"{zlib.crc32(stem.encode()) & 0xFF:02x}/{stem}.val"

    @classmethod
    def of_file_name(cls, name: str) -> BlockKey | None:
        """Read what `file_name` wrote; None for every other name."""
        match = _FILE_NAME.fullmatch(name)
        if match is None:
            return None
        ino, version, index = map(int, match.groups())
        key = cls(Ino(ino), ContentVersion(version), index)
        return key if key.file_name() == name else None


class RawDisk(diskcache.Disk):
    """Plain string keys, plain bytes values, files of mode 0600 that stay below the folder."""

    def __init__(self, directory: str, **settings: object) -> None:
        """Take diskcache's settings; it makes one such object for each cache."""
        super().__init__(directory, **settings)  # type: ignore[no-untyped-call]  # it has no types
        self._writer = ValueWriter()
        self.borrowed: Borrowed | None = None
        """Where values are read into that are opened at once; None: each into memory of its own."""

    def put(self, key: object) -> tuple[str, bool]:
        """Return the key as it goes into the table; TypeError for anything but a string."""
        if type(key) is not str:
            raise TypeError("a block key is a string")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return a key of the table; ForeignRow when it is no plain string."""
        if not raw or type(key) is not str:
            raise ForeignRow("a key that is no plain string")
        return key

    def store(
        self,
        value: object,
        read: object,
        key: object = None,
    ) -> tuple[int, int, str | None, sqlite3.Binary | None]:
        """Write a value; small ones stay in the table. TypeError for anything but bytes."""
        if type(value) not in {bytes, memoryview} or read or type(key) is not str:
            raise TypeError("a block is bytes under a string key")
        assert isinstance(value, bytes | memoryview)  # noqa: S101  # for mypy
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, sqlite3.Binary(value)
        name = BlockKey.of_text(key).file_name()
        self._writer.write(os.path.join(self._directory, name), value)  # noqa: PTH118  # 30 µs less per block
        return len(value), MODE_BINARY, name, None

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes | memoryview:
        """Read a value; ForeignRow for every row that `store` cannot have made, CacheTrouble for lack of means."""
        if mode == MODE_RAW and type(value) is bytes and not read:
            return value
        if mode == MODE_BINARY and value is None and not read:
            path = self._path(filename)
            return read_value(path) if self.borrowed is None else self.borrowed.read(path)
        raise ForeignRow("a value that is no plain bytes")

    def remove(self, file_path: object) -> None:
        """Delete a value file; one that is missing, or a name that is not ours, is left as it is."""
        with suppress(OSError):
            os.unlink(self._path(file_path))  # noqa: PTH108  # as in store

    def _path(self, name: object) -> str:
        if type(name) is not str or BlockKey.of_file_name(name) is None:
            raise ForeignRow("a value file with a foreign name")
        return os.path.join(self._directory, name)  # noqa: PTH118  # as in store


def value_files(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder of value files with the names in it, one folder at a time."""
    # Not one after the other of the 256 that there may be: a small cache has few, and every start after a kill looks.
    with suppress(FileNotFoundError):
        for name in sorted(filter(_PART.fullmatch, os.listdir(folder))):  # noqa: PTH208  # names are all that is asked
            part = folder / name
            with suppress(FileNotFoundError):
                yield part, os.listdir(part)  # noqa: PTH208

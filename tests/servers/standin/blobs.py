"""Contents of files: immutable, in memory while small, else files of the server's own folder."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

IN_MEMORY_BYTES = 256 * 1024
BLOCK_BYTES = 256 * 1024


class Blob:
    """One immutable content. Copies share it; its file goes away with the last reference."""

    def __init__(self, size_bytes: int, data: bytes | None = None, path: Path | None = None) -> None:
        self.size_bytes = size_bytes
        self._data = data
        self._path = path

    def open(self) -> BinaryIO:
        """A reader at the start of the content; it outlives the blob's replacement."""
        if self._path is not None:
            return self._path.open("rb")
        return io.BytesIO(self._data or b"")

    def read(self) -> bytes:
        """The whole content."""
        with self.open() as stream:
            return stream.read()

    def blocks(self, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes ``start … start + length`` in blocks of bounded size."""
        remaining = self.size_bytes - start if length is None else length
        with self.open() as stream:
            stream.seek(start)
            while remaining > 0 and (block := stream.read(min(BLOCK_BYTES, remaining))):
                remaining -= len(block)
                yield block


EMPTY = Blob(0, b"")


class BlobWriter:
    """Takes blocks and becomes a `Blob`; unfinished ones leave nothing behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory: bytearray | None = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self.size_bytes = 0

    def write(self, block: bytes) -> None:
        """Append a block."""
        self.size_bytes += len(block)
        if self._memory is not None and self.size_bytes <= IN_MEMORY_BYTES:
            self._memory += block
            return
        if self._file is None:
            self._spill()
        assert self._file is not None
        self._file.write(block)

    def _spill(self) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        if self._memory is not None:
            self._file.write(self._memory)
            self._memory = None

    def finish(self, size_bytes: int | None = None) -> Blob:
        """The content written so far, or only its first ``size_bytes``."""
        size = self.size_bytes if size_bytes is None else size_bytes
        if self._file is None or self._path is None:
            return Blob(size, bytes(self._memory or b"")[:size])
        self._file.truncate(size)
        self._file.close()
        blob = Blob(size, path=self._path)
        weakref.finalize(blob, _unlink, self._path)
        return blob

    def discard(self) -> None:
        """Forget what was written."""
        if self._file is not None and self._path is not None:
            self._file.close()
            _unlink(self._path)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


class BlobStore:
    """Where the contents of one server live."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def writer(self) -> BlobWriter:
        """A new, empty content."""
        return BlobWriter(self.folder)

    def of(self, data: bytes) -> Blob:
        """A content of these bytes."""
        return self.joined([Blob(len(data), data)])

    def adopted(self, path: Path) -> Blob:
        """A content read from somebody else's file, which is never written or deleted."""
        return Blob(path.stat().st_size, path=path)

    def joined(self, parts: Iterable[Blob]) -> Blob:
        """The parts one after the other."""
        writer = self.writer()
        for part in parts:
            for block in part.blocks():
                writer.write(block)
        return writer.finish()

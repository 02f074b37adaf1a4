"""One value, one file: written whole or not at all, past the page cache where that is quicker.

A block is read through the kernel's page cache of the *mount* already. Written through the page cache of the cache's
own disk it would lie in memory a second time, and finding 256 fresh pages costs more than the disk: 1 GiB of blocks
took 2.9 s of CPU in the kernel and 0.5 s with O_DIRECT (2 cores, virtio disk, ext4). A slow disk is better off with the
page cache, which takes what comes and writes it later. So speed decides, block by block.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from contextlib import suppress

from cloudfs.blocks.trouble import CacheTrouble
from cloudfs.octets import address_of
from cloudfs.types import BLOCK_SIZE, Octets

__all__ = ["Borrowed", "ValueWriter", "read_value"]

_ALIGNMENT = 4096
"""O_DIRECT wants memory, offset and length in multiples of the disk's sector; no disk has larger ones."""

_LARGEST = BLOCK_SIZE + _ALIGNMENT
"""A block that is sealed takes a sector more."""

_SLOW_S_PER_BYTE = 1 / 50e6
_SLOW_WRITES = 4
_SLOW_FOR_S = 30.0
"""A disk that writes less than 50 MB/s some times in a row is for so long one to write to later."""

_NOT_ITS_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ValueWriter:
    """Writes value files; one thread at a time."""

    def __init__(self) -> None:
        self._supported = True
        """No file system refused O_DIRECT so far (FUSE, some network and stacked ones do)."""
        self._slow_writes = 0
        self._slow_until_s = 0.0
        self._aligned: mmap.mmap | None = None

    def write(self, path: str, value: Octets) -> None:
        """Create or replace the file (0600) with these bytes, making its folder where needed.

        Raises OSError; then there is no file of that name.
        """
        try:
            if not self._goes_direct(len(value)) or not self._write_direct(path, value):
                _write(path, value, 0)
        except OSError:
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108  # 30 µs less per block
            raise

    def _goes_direct(self, size: int) -> bool:
        return (
            self._supported
            and size % _ALIGNMENT == 0
            and size <= _LARGEST
            and time.monotonic() >= self._slow_until_s
        )

    def _write_direct(self, path: str, value: Octets) -> bool:
        """Return False where the file system does not do that."""
        began_s = time.monotonic()
        try:
            if (address_of(value) or 1) % _ALIGNMENT == 0:
                _write(path, value, os.O_DIRECT)
            else:
                with self._copied(value) as aligned:
                    _write(path, aligned, os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._supported = False
            return False
        self._note_speed(len(value), time.monotonic() - began_s)
        return True

    def _copied(self, value: Octets) -> memoryview:
        """Return the same bytes, until the next call, in memory that is aligned."""
        buffer = self._aligned = self._aligned or mmap.mmap(-1, _LARGEST)
        buffer[: len(value)] = value
        return memoryview(buffer)[: len(value)]

    def _note_speed(self, size: int, took_s: float) -> None:
        self._slow_writes = self._slow_writes + 1 if took_s > size * _SLOW_S_PER_BYTE else 0
        if self._slow_writes >= _SLOW_WRITES:
            self._slow_writes = 0
            self._slow_until_s = time.monotonic() + _SLOW_FOR_S


def read_value(path: str) -> bytes:
    """Return the file's bytes. Raises OSError, and CacheTrouble where the process lacks the means to read any file."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # as above
            return file.read()
    except OSError as error:
        if error.errno in _NOT_ITS_FAULT:  # no OSError, or diskcache would call the block missing
            raise CacheTrouble(f"a block could not be read: {error.strerror}") from error
        raise


class Borrowed(threading.local):
    """A buffer of each thread for values that are looked at, and copied in that, before the thread reads the next one.

    Finding memory for a MiB costs as much as opening one that is sealed.
    """

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_LARGEST))

    def read(self, path: str) -> memoryview:
        """Return the file's bytes until the next call; errors as `read_value`."""
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # as above
                return self._buffer[: file.readinto(self._buffer)]
        except OSError as error:
            if error.errno in _NOT_ITS_FAULT:
                raise CacheTrouble(f"a block could not be read: {error.strerror}") from error
            raise


def _write(path: str, value: Octets, flags: int) -> None:
    try:
        fd = _open_new(path, flags)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120  # as above
        fd = _open_new(path, flags)
    try:
        # A short write has no errno of its own; the next write would have said this.
        if os.write(fd, value) != len(value):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)


def _open_new(path: str, flags: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)

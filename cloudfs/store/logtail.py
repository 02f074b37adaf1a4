"""What lies in a write-ahead log behind its end: commits that SQLite passes over without a word.

SQLite reads a log up to the first frame that does not fit its checksum, and takes that for one whose writing was cut
off. That is what a kill leaves. Behind one that was damaged later there is all that was committed since: acknowledged
changes, whose files the start would take for nobody's.

One commit behind the end tells nothing: killed in the midst of it, it may be there to its end, and nobody was told. The
log's index does not know it yet, and is not made anew while another process has it open; or it was so large that SQLite
took the checksums of its first frames anew behind its last one. With two, the first was over before the second began.

After a power cut the same means nothing: frames reach the disk in any order, and what was not synced may be missing.
SOURCE: https://www.sqlite.org/fileformat2.html#the_write_ahead_log and https://www.sqlite.org/walformat.html.
SQLCipher's logs are the same: its checksums are those of the sealed pages.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

__all__ = ["boot_id", "commits_behind"]

_LOG = struct.Struct(">IIIIIIII")
"""Magic, version, page size, number of the checkpoint, two salts, two sums."""
_FRAME = struct.Struct(">IIIIII")
"""Page, size of the database after a commit (0: none), two salts, two sums."""
_SUMS = struct.Struct(">II")
_MAGIC = 0x377F0683
"""Or one less: then sums are taken of little-endian words."""
_PAGE_BYTES = 4096
"""Of all databases here."""
_IN_INDEX = struct.Struct("=16xI")
"""How many frames count, in the log's index: in the order of this machine."""
_SUMMED = 8
"""Bytes of a frame's head that its checksum is about."""


def boot_id() -> str:
    """Return the name of the machine's present life, '' where the kernel does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class _Log(NamedTuple):
    descriptor: int
    page_bytes: int
    words: str
    """The order of the bytes in what is summed up, as `struct` has it."""
    salts: tuple[int, ...]
    """Of its frames; the rest of an older log, in which it is written, has others."""


def commits_behind(path: Path, index: int) -> int:
    """Return how many whole commits the log of the database `path` has behind its end; 2 stands for more.

    For whoever has just opened it and read from it, and not written yet. `index` is an open descriptor of the log's
    index (`-shm`), to be closed after the connection: closing any of a file drops the locks that SQLite has on it.
    Where a file cannot be read: 0.
    """
    with suppress(OSError, struct.error):
        (counted,) = _IN_INDEX.unpack(os.pread(index, _IN_INDEX.size, 0))
        # Of the log itself it locks nothing.
        descriptor = os.open(path.with_name(path.name + "-wal"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return sum(1 for _ in islice(_commits(_understood(descriptor), counted), 2))
        finally:
            os.close(descriptor)
    return 0


def _understood(descriptor: int) -> _Log:
    raw = os.pread(descriptor, _LOG.size, 0)
    magic, _, page_bytes, _, *salts, first, second = _LOG.unpack(raw)
    log = _Log(descriptor, page_bytes, ">" if magic & 1 else "<", tuple(salts))
    if magic | 1 == _MAGIC and _summed(log, raw[: -_SUMS.size], 0, 0) == (first, second):
        return log
    # Its own head is damaged, for which SQLite passes over all of it: what it was is told by the first frame.
    log = _Log(descriptor, _PAGE_BYTES, "<" if sys.byteorder == "little" else ">", ())
    return log._replace(salts=_head(log, 0)[2:4])


def _commits(log: _Log, counted: int) -> Iterator[int]:
    """Look at each head, 9 µs; a log has 4,000 frames, or some times as many after a burst of changes."""
    frames = (os.fstat(log.descriptor).st_size - _LOG.size) // (_FRAME.size + log.page_bytes)
    return (number for number in range(counted + 1, frames) if _is_whole_commit(log, number))


def _is_whole_commit(log: _Log, number: int) -> bool:
    """Tell whether a frame, counted from 0, ends a transaction of this log, and fits the frame before it.

    What a transaction wrote that was taken back has no end.
    """
    _, after, *salts_and_sums = _head(log, number)
    if not after or (*salts_and_sums[:2],) != log.salts:
        return False
    *_, first, second = _head(log, number - 1)
    raw = os.pread(log.descriptor, _FRAME.size + log.page_bytes, _at(log, number))
    return _summed(log, raw[:_SUMMED] + raw[_FRAME.size :], first, second) == (*salts_and_sums[2:],)


def _head(log: _Log, number: int) -> tuple[int, ...]:
    return _FRAME.unpack(os.pread(log.descriptor, _FRAME.size, _at(log, number)))


def _at(log: _Log, number: int) -> int:
    return _LOG.size + number * (_FRAME.size + log.page_bytes)


def _summed(log: _Log, data: bytes, first: int, second: int) -> tuple[int, int]:
    words = struct.unpack(f"{log.words}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second

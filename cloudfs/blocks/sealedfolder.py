"""The folder of dirty files, sealed: the same calls as `dirtyfolder`, in the format of `slots`.

What a program was told is safe stays so in the midst of a write: nothing is written over that a kill or a power cut
could make the last of a chunk. What does not open any more, or is gone, is damage, and never zeros: which chunks have
to be there is known from the row of the file (`probe`) and from what was written since. Which of them may be holes all
the same, because zeros were never written, the file itself says under its seal (`admit_holes`).
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cloudfs.blocks.dirtyfolder import DirtyFolder, reading, writing
from cloudfs.blocks.sealing import Keys, Seal
from cloudfs.blocks.slots import (
    CHUNK_BYTES,
    REGION_BYTES,
    SLOT_BYTES,
    SLOTS,
    Rewritten,
    find,
    pack,
    slot_at,
)
from cloudfs.errors import LocalDamage, PosixError
from cloudfs.ranges import RangeSet

__all__ = ["SealedFolder"]

_log = logging.getLogger(__name__)

_META = 0
"""The region of what is known of the whole file."""
_SIZE = struct.Struct("<Q")
_MOST_HOLES = 4000
"""As many fit into a chunk; smaller ones are written out as chunks of nothing."""
_PUNCH_HOLE_KEEP_SIZE = 3
_MOST_BYTES = (1 << 63) // REGION_BYTES * CHUNK_BYTES - 2 * CHUNK_BYTES
"""No offset in the file is beyond what the kernel takes."""
_LABEL = b"label"


class _File:
    """What is known of one file; all of it under `lock`."""

    def __init__(self, seal: Seal, *, created: bool) -> None:
        self.seal = seal
        self.lock = threading.Lock()
        self.syncing = threading.Lock()
        """One fsync at a time: each vouches for the slots that were the latest when it began."""
        self.size = 0
        self.regions = 1
        """Beyond these nothing was ever written."""
        self.expected = RangeSet()
        """Chunks that have to be there."""
        self.holes = RangeSet()
        """Chunks that need not be there, though they count as written."""
        self.untold = False
        """What it tells is out of date; the next fsync sees to that."""
        self.rewritten: dict[int, Rewritten] = {}
        """By region. Of any other one the slot that counts is on the disk, or the only one."""
        self.settled = created
        """Nothing is left of an earlier life whose newest slots may not be on the disk yet."""


class SealedFolder(DirtyFolder):
    """Dirty files that nobody reads without the key."""

    tells_holes = True

    def __init__(self, folder: Path, max_open: int, keep_free_bytes: int, keys: Keys, store_id: str) -> None:
        """Open the folder, or make it; `store_id` names the database whose inodes and versions its names are."""
        super().__init__(folder, max_open, keep_free_bytes)
        self._keys = keys
        self.sealed_as = store_id
        self._known: dict[str, _File] = {}
        self._knowing = threading.Lock()

    def create(self, name: str) -> None:
        """Make an empty file. Raises PosixError, LocalDamage if there is one."""
        super().create(name)
        self._known[name] = _File(self._seal(name), created=True)

    def probe(self, name: str, present: RangeSet | None = None) -> None:
        """Raise LocalDamage unless the file can be opened; from now on the bytes `present` have to be in it."""
        with reading(name), self.borrow(name):
            file = self._file(name)
        with file.lock:
            for start, stop in present or ():
                chunks = start // CHUNK_BYTES, -(-stop // CHUNK_BYTES)
                for first, last in file.holes.gaps(*chunks):
                    file.expected.add(first, last)

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes. Raises LocalDamage."""
        with reading(name), self.borrow(name) as fd:
            file = self._file(name)
            if offset + size > file.size:
                raise LocalDamage(f"staging file {name} ends at {file.size}, not {offset + size}")
            parts = []
            for chunk, start, stop in _pieces(offset, size):
                with file.lock:
                    data = self._chunk(name, file, fd, chunk)
                part = data if (start, stop) == (0, len(data)) else data[start:stop]
                parts.append(part if len(part) == stop - start else part.ljust(stop - start, b"\0"))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pwrite(self, name: str, offset: int, data: bytes, to_the_last: bool = False) -> None:  # noqa: FBT001, FBT002  # as its parent
        """Write all of `data`; each chunk whole or not at all. Raises PosixError, LocalDamage."""
        rest = memoryview(data)
        with self._changing(name, offset + len(data)) as (file, fd):
            if self._keep_free_bytes and not to_the_last:
                self._require_free(len(data) + SLOT_BYTES)
            for chunk, start, stop in _pieces(offset, len(data)):
                piece, rest = rest[: stop - start], rest[stop - start :]
                with file.lock:
                    self._put_part(name, file, fd, chunk, start, piece)

    def truncate(self, name: str, size: int) -> None:
        """Set the length. Raises PosixError, LocalDamage."""
        with self._changing(name, size) as (file, fd), file.lock:
            if size == file.size:
                return
            if size > file.size:
                _try_size(fd, slot_at(size // CHUNK_BYTES + 2, 0))
            else:
                if file.holes:  # its new end may lie in one: then no chunk reaches that far
                    self._tell(file, fd, size)
                self._cut(name, file, fd, size)
            self._tell(file, fd, size)
            file.size = size

    def admit_holes(self, name: str, present: RangeSet) -> bool:
        """What is not `present` of the file's length is zero and counts as written from now on; False: it did already.

        Durable after a sync. Raises PosixError.
        """
        with self._changing(name) as (file, fd), file.lock:
            end = -(-file.size // CHUNK_BYTES)
            holes = file.holes.copy()
            for start, stop in present.gaps(0, file.size):
                holes.add(-(-start // CHUNK_BYTES), end if stop == file.size else stop // CHUNK_BYTES)
            if holes == file.holes:
                return False
            ranges = sorted(holes, key=lambda hole: hole[0] - hole[1])
            file.holes = RangeSet(ranges[:_MOST_HOLES])
            for first, last in ranges[_MOST_HOLES:]:
                for chunk in range(first, last):
                    self._put_part(name, file, fd, chunk, 0, memoryview(b""))
            self._tell(file, fd, file.size)
            return True

    def sync(self, name: str, folder_too: bool) -> None:  # noqa: FBT001  # as its parent
        """Make the file durable, and on request the folder's entry of it. Raises PosixError."""
        with self._synced([name]) as failed:
            if failed:
                raise failed[name]
            super().sync(name, folder_too)

    def sync_many(self, names: list[str]) -> dict[str, PosixError]:
        """Make files and their names durable; those that are gone do not matter. As its parent."""
        with self._synced(names) as failed:
            failed.update(super().sync_many([name for name in names if name not in failed]))
        return failed

    def length(self, name: str) -> int:
        """Return the file's length. Raises LocalDamage."""
        with reading(name):
            return self._file(name).size

    def delete(self, name: str) -> None:
        """Delete the file; none is no error. Raises PosixError."""
        super().delete(name)
        self._known.pop(name, None)

    def beside(self, folder: Path) -> DirtyFolder:
        """Open another folder of this form: of a database that is lost, whose id is in the folder's name."""
        return SealedFolder(folder, 1, 0, self._keys, folder.name.partition("-")[2])

    def inherit(self, lost: DirtyFolder, old: str, new: str, present: RangeSet) -> None:
        """Seal a file of a lost database anew, as what it is here; durable when this returns.

        Raises PosixError, and LocalDamage where some of it does not open.
        """
        assert isinstance(lost, SealedFolder)  # noqa: S101  # `beside` made it
        lost.probe(old, present)
        size, holes = lost.length(old), lost.holes_of(old)
        self.create(new)
        try:
            self._copy(lost, old, new, present, holes)
            self.truncate(new, size)
            self.admit_holes(new, _outside(size, holes))
            self.sync(new, folder_too=True)
        except BaseException:
            self.delete(new)
            raise

    def written(self, name: str) -> RangeSet:
        """Return which of its bytes are no holes, roughly."""
        return _outside(self.length(name), self.holes_of(name))

    def holes_of(self, name: str) -> RangeSet:
        """Return the chunks of a file that need not be there. Raises LocalDamage."""
        with reading(name):
            return self._file(name).holes.copy()

    def _copy(self, lost: SealedFolder, old: str, new: str, present: RangeSet, holes: RangeSet) -> None:
        for start, stop in present:
            for chunk, first, last in _pieces(start, stop - start):
                if not holes.covers(chunk, chunk + 1):
                    at = chunk * CHUNK_BYTES + first
                    self.pwrite(new, at, lost.pread(old, at, last - first), to_the_last=True)

    def pack_label(self, name: str, text: bytes) -> bytes:
        """Seal what a file says of itself."""
        return self._seal(name).wrap(text, _LABEL)

    def unpack_label(self, name: str, label: bytes) -> bytes:
        """Return what a file says of itself; b"" where that is not what was said of it."""
        return self._seal(name).unwrap(label, _LABEL) or b""

    # One file

    def _seal(self, name: str) -> Seal:
        return self._keys.seal(f"staged {self.sealed_as} {name}")

    def _file(self, name: str) -> _File:
        """Return what is known of a file, reading what it tells where nothing is. Raises OSError."""
        known = self._known.get(name)
        if known is not None:
            return known
        with self._knowing, self.borrow(name) as fd:
            if (known := self._known.get(name)) is None:
                known = self._known[name] = _load(self._seal(name), fd)
        return known

    @contextmanager
    def _changing(self, name: str, end: int = 0) -> Iterator[tuple[_File, int]]:
        with writing(name), self.borrow(name) as fd:
            if end > _MOST_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            file = self._file(name)
            if not file.settled:
                # What an earlier life wrote last may not be on the disk; what it wrote before that, it may need yet.
                self.sync(name, folder_too=True)
            yield file, fd

    def _chunk(self, name: str, file: _File, fd: int, chunk: int) -> bytes:
        """Return a chunk's bytes; zeros behind them were left out."""
        region = chunk + 1
        if region >= file.regions:
            data, missing = b"", True
        else:
            found = find(file.seal, fd, region)
            data, missing = found.data, found.slot is None
            kept = file.rewritten.get(region)
            # Not an older slot where the one that was written last in this life is damaged.
            missing = missing or (kept is not None and kept.latest != found.slot)
            if found.torn and not missing:
                _log.info("staging file %s: a write to byte %d was cut off", name, chunk * CHUNK_BYTES)
        if missing and file.expected.covers(chunk, chunk + 1):
            raise LocalDamage(
                f"staging file {name}: what was written at byte {chunk * CHUNK_BYTES} is damaged"
            )
        return b"" if missing else data

    def _put_part(self, name: str, file: _File, fd: int, chunk: int, start: int, piece: memoryview) -> None:
        """Write a part of a chunk, with what it holds already around that."""
        whole = start == 0 and (len(piece) == CHUNK_BYTES or chunk * CHUNK_BYTES + len(piece) >= file.size)
        before = b"" if whole else self._chunk(name, file, fd, chunk)
        data: bytes | memoryview
        if len(before) > start + len(piece) or start:
            data = b"".join((before[:start].ljust(start, b"\0"), piece, before[start + len(piece) :]))
        else:
            data = bytes(piece) if len(piece) < CHUNK_BYTES else piece
        self._put(file, fd, chunk + 1, data)
        file.expected.add(chunk, chunk + 1)
        if file.holes.covers(chunk, chunk + 1):
            file.holes = _without(file.holes, chunk)
            file.untold = True
        file.size = max(file.size, chunk * CHUNK_BYTES + start + len(piece))

    def _put(self, file: _File, fd: int, region: int, data: bytes | memoryview) -> None:
        """Write a region into a slot that nothing depends on; what is there counts until all of it is written."""
        kept = file.rewritten.get(region)
        slot, number = 0, 1
        if kept is None and region < max(file.regions, 1):
            found = find(file.seal, fd, region)
            number = found.number + 1
            if found.slot is not None:
                kept = Rewritten(found.slot, None, found.slot, found.number)
        if kept is not None:
            slot, number = kept.free, kept.number + 1
        _write(fd, pack(file.seal, region, slot, number, data), slot_at(region, slot))
        if kept is not None:
            file.rewritten[region] = kept._replace(latest=slot, number=number)
        file.regions = max(file.regions, region + 1)

    def _cut(self, name: str, file: _File, fd: int, size: int) -> None:
        whole, rest = divmod(size, CHUNK_BYTES)
        chunks = whole + bool(rest)
        # First, since what is left of the last chunk takes a slot, for which a full disk may have no room yet.
        os.ftruncate(fd, min(os.fstat(fd).st_size, slot_at(chunks + 1, 0)))
        file.regions = min(file.regions, chunks + 1)
        file.size = min(file.size, chunks * CHUNK_BYTES)
        file.rewritten = {region: kept for region, kept in file.rewritten.items() if region <= chunks}
        file.expected.discard_from(chunks)
        file.holes.discard_from(chunks)
        if rest and len(data := self._chunk(name, file, fd, whole)) > rest:
            self._put(file, fd, chunks, data[:rest])

    def _tell(self, file: _File, fd: int, size: int) -> None:
        """Have the file say what cannot be seen from its chunks."""
        self._put(file, fd, _META, _SIZE.pack(size) + file.holes.pack())
        file.untold = False

    @contextmanager
    def _synced(self, names: Iterable[str]) -> Iterator[dict[str, PosixError]]:
        """What is the latest when the block begins is on the disk when it ends well, but for what it says has failed.

        That holds already what is wrong with those that cannot be synced.
        """
        failed: dict[str, PosixError] = {}
        begun: dict[str, tuple[_File, list[int]]] = {}
        with ExitStack() as held:
            try:
                for name in sorted(set(names)):
                    try:
                        with writing(name), suppress(FileNotFoundError):
                            file = self._file(name)
                            held.enter_context(file.syncing)
                            begun[name] = file, self._begin_sync(name, file)
                    except PosixError as error:
                        failed[name] = error
                yield failed
            except BaseException:
                for file, regions in begun.values():
                    _give_up(file, regions)
                raise
            for name, (file, regions) in begun.items():
                if name in failed:
                    _give_up(file, regions)
                else:
                    self._end_sync(name, file, regions)

    def _begin_sync(self, name: str, file: _File) -> list[int]:
        with file.lock:
            if file.untold and name in self._known:
                with writing(name), suppress(FileNotFoundError), self.borrow(name) as fd:
                    self._tell(file, fd, file.size)
            begun = list(file.rewritten)
            for region in begun:
                kept = file.rewritten[region]
                file.rewritten[region] = kept._replace(syncing=kept.latest)
        return begun

    def _end_sync(self, name: str, file: _File, begun: list[int]) -> None:
        """Give back the slots of which nothing is needed any more: an old one must not come back for a damaged one."""
        with file.lock:
            file.settled = True
            stale: list[tuple[int, int]] = []
            for region in begun:
                kept = file.rewritten.get(region)
                if kept is None or kept.syncing is None:  # cut off meanwhile
                    continue
                if kept.latest != kept.syncing:
                    file.rewritten[region] = kept._replace(durable=kept.syncing, syncing=None)
                    continue
                del file.rewritten[region]
                stale += [(region, slot) for slot in range(SLOTS) if slot != kept.latest]
            if stale and name in self._known:
                with writing(name), suppress(FileNotFoundError), self.borrow(name) as fd:
                    for region, slot in stale:
                        _clear(fd, slot_at(region, slot))


def _load(seal: Seal, fd: int) -> _File:
    """Find out what is known of a file that an earlier life left. Raises OSError."""
    file = _File(seal, created=False)
    file.regions = max(1, -(-os.fstat(fd).st_size // slot_at(1, 0)))
    told, told_size = find(seal, fd, _META).data, 0
    if len(told) >= _SIZE.size:
        (told_size,) = _SIZE.unpack_from(told)
        file.holes = RangeSet.unpack(told[_SIZE.size :])
    end = 0
    if file.regions > 1:
        last = find(seal, fd, file.regions - 1)
        end = (file.regions - 2) * CHUNK_BYTES + len(last.data)
    file.size = max(told_size, end)  # its chunks may reach further than what it told
    return file


def _give_up(file: _File, begun: list[int]) -> None:
    with file.lock:
        for region in begun:
            if (kept := file.rewritten.get(region)) is not None:
                file.rewritten[region] = kept._replace(syncing=None)


def _pieces(offset: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Cut [offset, offset + size) into parts of chunks: number, and where it begins and ends in the chunk."""
    stop = offset + size
    while offset < stop:
        chunk, start = divmod(offset, CHUNK_BYTES)
        end = min(CHUNK_BYTES, start + stop - offset)
        yield chunk, start, end
        offset += end - start


def _outside(size: int, holes: RangeSet) -> RangeSet:
    """Return the bytes of a file outside of its holes, which are chunks."""
    inside = RangeSet((start * CHUNK_BYTES, min(stop * CHUNK_BYTES, size)) for start, stop in holes)
    return RangeSet(inside.gaps(0, size))


def _without(ranges: RangeSet, number: int) -> RangeSet:
    return RangeSet(
        part
        for start, stop in ranges
        for part in ((start, min(stop, number)), (max(start, number + 1), stop))
        if part[0] < part[1]
    )


def _try_size(fd: int, size: int) -> None:
    """Raise OSError, EFBIG, where the local file system has no file of that size."""
    before = os.fstat(fd).st_size
    if size > before:
        os.ftruncate(fd, size)
        os.ftruncate(fd, before)


def _write(fd: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _clear(fd: int, offset: int) -> None:
    """Have nothing of a slot open any more, and its space back where the file system gives it."""
    if _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, offset, SLOT_BYTES) != 0 and os.pread(fd, 4, offset).strip(
        b"\0"
    ):
        os.pwrite(fd, bytes(32), offset)

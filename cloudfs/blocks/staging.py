"""Dirty bytes: what programs wrote and the server does not have yet. The only home of these bytes.

    STAGING/<ino>.<version>     one sparse file per content version, 0600, in a folder of mode 0700

Nothing is evicted here and nothing is deleted but by `delete`, which the owner calls when the server has the
bytes or nobody wants them. There is no index: which ranges of a file mean something is in the metadata
database, durable before the bytes count. A name that is no `<ino>.<version>` is reported and left alone.

Errors of writing are PosixError with ENOSPC, EDQUOT or EFBIG where the disk says so and EIO otherwise; errors
of reading back are LocalDamage: those bytes were there once.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from cloudfs.blocks.dirtyfolder import STAGED_NAME, DirtyFolder
from cloudfs.blocks.sealedfolder import SealedFolder
from cloudfs.blocks.sealing import Keys
from cloudfs.concurrency.threads import in_disk_thread, in_read_thread, in_sync_thread
from cloudfs.errors import LocalDamage, PosixError
from cloudfs.ranges import RangeSet
from cloudfs.types import ContentVersion, Ino

__all__ = ["LABEL", "MAX_OPEN", "StagedFile", "Staging", "file_name", "numbers_of"]

LABEL = "user.cloudfs"
"""The extended attribute by which a staging file says what it is."""

_log = logging.getLogger(__name__)

_PIECE_BYTES = 1024 * 1024
MAX_OPEN = 128
"""Descriptors kept open at most; the usual limit of a process is 1024, and connections need some too."""


class Staging:
    """The folder of dirty files. Its callers keep one writer per file; threads are handled here."""

    def __init__(
        self,
        folder: Path,
        *,
        max_open: int = MAX_OPEN,
        keep_free_bytes: int = 0,
        sealed: tuple[Keys, str] | None = None,
    ) -> None:
        """Open the folder, or make it (blocking, at start). Raises OSError.

        Writes that would leave less than `keep_free_bytes` of the disk fail with ENOSPC: a disk that is full to the
        last byte would stop the database, too, and with it what frees space here. With `sealed`, the account's keys
        and the database's id, nobody reads the files without the keys.
        """
        self._folder = (
            DirtyFolder(folder, max_open, keep_free_bytes)
            if sealed is None
            else SealedFolder(folder, max_open, keep_free_bytes, *sealed)
        )

    async def create(self, ino: Ino, version: ContentVersion) -> StagedFile:
        """Make the empty staging file of a new content version.

        Its name is durable after the file's first `sync`. Raises PosixError, LocalDamage if it exists: a
        version is never drawn twice.
        """
        name = file_name(ino, version)
        await in_disk_thread(self._folder.create, name)
        return StagedFile(self._folder, name)

    async def open(self, ino: Ino, version: ContentVersion, present: RangeSet | None = None) -> StagedFile:
        """Open a staging file that `create` made, maybe in an earlier life. LocalDamage if it is not there.

        `present`: the bytes that have to be in it, as far as that can be told.
        """
        name = file_name(ino, version)
        await in_read_thread(self._folder.probe, name, present)
        return StagedFile(self._folder, name)

    async def delete(self, ino: Ino, version: ContentVersion) -> None:
        """Delete a staging file and its bytes; none is no error. Not durable: `scan` may find it again."""
        await in_disk_thread(self._folder.delete, file_name(ino, version))

    async def sync_many(
        self, files: list[tuple[Ino, ContentVersion]]
    ) -> dict[tuple[Ino, ContentVersion], PosixError]:
        """Make staging files durable, names included; those that are gone do not matter.

        Returns what is wrong with those that are not durable (`is_lost`). Raises PosixError where all may be concerned.
        """
        names = {file_name(*file): file for file in files}
        failed = await in_sync_thread(self._folder.sync_many, list(names))
        return {names[name]: error for name, error in failed.items()}

    def is_lost(self, ino: Ino, version: ContentVersion) -> bool:
        """The disk has failed to take some of a file in this life of the process: no sync will succeed."""
        return self._folder.is_lost(file_name(ino, version))

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def sealed_as(self) -> str:
        """The id of the database without which its files, kept elsewhere, cannot be opened; "": they are plain."""
        return self._folder.sealed_as

    # Of a database that is lost. Blocking.

    def beside(self, folder: Path) -> Staging:
        """Open what is in another folder, in the same form; end with `close`. Raises OSError."""
        lost = Staging.__new__(Staging)
        lost._folder = self._folder.beside(folder)  # noqa: SLF001  # another one of us
        return lost

    def inherit(
        self,
        lost: Staging,
        old: tuple[Ino, ContentVersion],
        new: tuple[Ino, ContentVersion],
        present: RangeSet,
    ) -> None:
        """Have a file of a lost database, the bytes `present` of it, as one of ours. Raises OSError, LocalDamage."""
        self._folder.inherit(lost._folder, file_name(*old), file_name(*new), present)

    def copy_from(self, other: Staging, ino: Ino, version: ContentVersion, present: RangeSet) -> None:
        """Make a file as one of another folder, in the form of this one; durable when this returns.

        Raises PosixError, and LocalDamage where some of what is `present` is not there.
        """
        name = file_name(ino, version)
        other.expect(ino, version, present)
        written = other._folder.written(name)
        self._folder.create(name)
        copied = RangeSet()
        for start, stop in present:
            for first, last, there in written.pieces(start, stop):
                if not there:
                    continue  # zeros that were never written
                for at in range(first, last, _PIECE_BYTES):
                    size = min(_PIECE_BYTES, last - at)
                    self._folder.pwrite(name, at, other._folder.pread(name, at, size), to_the_last=True)
                copied.add(first, last)
        self._folder.truncate(name, max(other._folder.length(name), self._folder.length(name)))
        self._folder.admit_holes(name, copied)
        self._folder.sync(name, folder_too=True)

    def expect(self, ino: Ino, version: ContentVersion, present: RangeSet) -> None:
        """From now on these bytes have to be in a file. Raises LocalDamage where it cannot be opened."""
        self._folder.probe(file_name(ino, version), present)

    def read_now(self, ino: Ino, version: ContentVersion, offset: int, size: int) -> bytes:
        """Read a part of a file. Raises LocalDamage."""
        return self._folder.pread(file_name(ino, version), offset, size)

    def label_of(self, ino: Ino, version: ContentVersion) -> bytes:
        """Return what a file says of itself; b"" for nothing that can be believed."""
        name = file_name(ino, version)
        with contextlib.suppress(OSError):
            return self._folder.unpack_label(name, os.getxattr(self.path / name, LABEL))
        return b""

    def close(self) -> None:
        """Do as `aclose`."""
        self._folder.close()

    def label(self, ino: Ino, version: ContentVersion, text: bytes) -> None:
        """Have a staging file say what it is; 3 µs, on the caller's thread. Never fails: it is a second life belt."""
        name = file_name(ino, version)
        with contextlib.suppress(OSError):
            os.setxattr(self.path / name, LABEL, self._folder.pack_label(name, text))

    def unlabel(self, ino: Ino, version: ContentVersion) -> None:
        """Have a staging file say nothing any more: it is given up. Never fails."""
        with contextlib.suppress(OSError):
            os.removexattr(self.path / file_name(ino, version), LABEL)

    def length(self, ino: Ino, version: ContentVersion) -> int:
        """Return a staging file's size; -1 where there is none. Blocking."""
        try:
            return self._folder.length(file_name(ino, version))
        except LocalDamage:
            return -1

    def holds_bytes(self, ino: Ino, version: ContentVersion) -> bool:
        """Tell whether a staging file is more than holes; True where it cannot be read. Blocking."""
        with contextlib.suppress(LocalDamage):
            return bool(self._folder.written(file_name(ino, version)))
        return True

    def scan(self) -> list[tuple[Ino, ContentVersion]]:
        """List the staging files, for the repair at start. Blocking: one call per file. Logs foreign names."""
        ours, foreign = self._folder.listing()
        for name in foreign:
            _log.warning("%s is no staging file and is left alone", self._folder.path / name)
        return [(Ino(ino), ContentVersion(version)) for ino, version in ours]

    def used_bytes(self) -> int:
        """Return the disk space of all dirty files (holes are free). Blocking: one call per file."""
        return self._folder.used_bytes()

    def free_bytes(self) -> int:
        """Return how much of the disk is free for this user; 1 µs."""
        return self._folder.free_bytes()

    async def aclose(self) -> None:
        """Close everything; nothing is deleted. Nothing here may be called afterwards."""
        await in_disk_thread(self._folder.close)


class StagedFile:
    """One dirty file. Offsets and sizes are bytes; several objects for one file may exist."""

    def __init__(self, folder: DirtyFolder, name: str) -> None:
        """Not for callers: `Staging.create` and `Staging.open` make one."""
        self._folder = folder
        self._name = name
        # Also after `open`: an earlier life may have ended between creating the file and its first sync.
        self._name_durable = False

    async def pread(self, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes; holes are zeros. LocalDamage where the file ends before."""
        return await in_read_thread(self._folder.pread, self._name, offset, size)

    async def feed(self, take: Callable[[bytes], None], start: int, stop: int) -> None:
        """Have `take` called in a thread with the bytes [start, stop), in order; raises as `pread`.

        Cancelled, it is called on for a while: nothing that it changes is to be used then.
        """
        await in_read_thread(self._feed, take, start, stop)

    def _feed(self, take: Callable[[bytes], None], start: int, stop: int) -> None:
        for at in range(start, stop, _PIECE_BYTES):
            take(self._folder.pread(self._name, at, min(_PIECE_BYTES, stop - at)))

    async def pwrite(self, offset: int, data: bytes) -> None:
        """Write all of `data`, growing the file as needed; durable after `sync`.

        Raises PosixError (ENOSPC, EDQUOT, EFBIG, EIO): then any part of `data` may have been written, and
        no byte outside its range is touched.
        """
        await in_disk_thread(self._folder.pwrite, self._name, offset, data)

    async def pwrite_to_the_last(self, offset: int, data: bytes) -> None:
        """As `pwrite`, also into what is kept free of the disk: for what a file needs to be sent, and to go."""
        await in_disk_thread(self._folder.pwrite, self._name, offset, data, True)  # noqa: FBT003  # through a thread

    async def truncate(self, size: int) -> None:
        """Cut or grow the file to `size` bytes; what grows is a hole. Raises PosixError as `pwrite`."""
        await in_disk_thread(self._folder.truncate, self._name, size)

    async def admit_holes(self, present: RangeSet) -> bool:
        """What is not `present` of the file's length is zero, and counts as written from now on.

        True where a `sync` has to follow for that. Raises PosixError.
        """
        if not self._folder.tells_holes:
            return False
        return await in_disk_thread(self._folder.admit_holes, self._name, present.copy())

    async def sync(self) -> None:
        """Make bytes, size and (the first time) name durable.

        Raises PosixError (EIO, ENOSPC, EDQUOT) if any write-back of this file has ever failed in this
        process: the kernel may have dropped those bytes, so no later fsync can vouch for them.
        """
        await in_sync_thread(self._folder.sync, self._name, not self._name_durable)
        self._name_durable = True

    @property
    def size(self) -> int:
        """Length of the file. One stat(2), on the caller's thread. Raises LocalDamage."""
        return self._folder.length(self._name)

    @property
    def disk_bytes(self) -> int:
        """How much of the disk the file takes; holes are free. One stat(2), on the caller's thread. LocalDamage."""
        return self._folder.disk_bytes(self._name)

    async def aclose(self) -> None:
        """Give the descriptor back; the file stays. Another object of the same file opens it anew."""
        await in_disk_thread(self._folder.release, self._name)


def file_name(ino: Ino, version: ContentVersion) -> str:
    """Return the name of a staging file in its folder."""
    return f"{ino}.{version}"


def numbers_of(name: str) -> tuple[int, int] | None:
    """Return inode and version of a staging file's name, None where it is no such name."""
    match = STAGED_NAME.fullmatch(name)
    return match and (int(match[1]), int(match[2]))

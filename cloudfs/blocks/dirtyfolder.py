"""The blocking half of `staging`: the folder of dirty files, by name. Everything here runs in worker threads.

Every call works on the open folder, so a folder that is moved or replaced by a link leads nowhere else.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from cloudfs.blocks.descriptors import Descriptors
from cloudfs.errors import LocalDamage, PosixError
from cloudfs.ranges import RangeSet

__all__ = ["STAGED_NAME", "DirtyFolder", "data_ranges", "reading", "sync_file_system", "writing"]

STAGED_NAME = re.compile(r"(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})", re.ASCII)
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_SYNC_SINGLY = 8
"""More files than these are cheaper to sync with everything else on their disk."""

_log = logging.getLogger(__name__)

_WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


_libc = ctypes.CDLL(None, use_errno=True)


def sync_file_system(descriptor: int) -> None:
    """syncfs(2): make everything durable that was written to a file system so far. Raises OSError."""
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class DirtyFolder:
    """Sparse files in one folder. Names are what the caller says; `listing` tells which ones are ours."""

    tells_holes = False
    """`admit_holes` has something to do."""
    sealed_as = ""
    """The id of the database without which the files cannot be opened."""

    def __init__(self, folder: Path, max_open: int, keep_free_bytes: int = 0) -> None:
        """Open the folder, or make it. Raises OSError."""
        self._keep_free_bytes = keep_free_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder
        self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.fchmod(self._fd, 0o700)
        self._files = Descriptors(max_open, self._open)
        self._syncing_all = threading.Lock()
        """The descriptor of the folder is told of a failure once; whoever asks next is to find the doubts of that."""
        self._untold = False
        """It was told of one, and no file is doubted for that yet."""

    def create(self, name: str) -> None:
        """Make an empty file. Raises PosixError, LocalDamage if there is one."""
        with writing(name):
            try:
                fd = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._fd)
            except FileExistsError as error:
                raise LocalDamage(f"staging file {name} exists already") from error
        self._files.adopt(name, fd)

    def probe(self, name: str, present: RangeSet | None = None) -> None:
        """Raise LocalDamage unless the file can be opened; `present` tells which of its bytes have to be there."""
        del present  # a plain file has no way of noticing
        with reading(name), self._files.borrow(name):
            pass

    def borrow(self, name: str) -> AbstractContextManager[int]:
        """Lend the file's descriptor. Raises OSError."""
        return self._files.borrow(name)

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """Read exactly `size` bytes. Raises LocalDamage."""
        with reading(name), self._files.borrow(name) as fd:
            data = os.pread(fd, size, offset)
            while len(data) < size:
                more = os.pread(fd, size - len(data), offset + len(data))
                if not more:
                    raise LocalDamage(
                        f"staging file {name} ends at {offset + len(data)}, not {offset + size}"
                    )
                data += more
        return data

    def pwrite(self, name: str, offset: int, data: bytes, to_the_last: bool = False) -> None:  # noqa: FBT001, FBT002  # handed through a thread
        """Write all of `data`; what is kept free of the disk is used `to_the_last` only. Raises PosixError.

        What makes the file longer goes first: where there is no room for that, what is there already stays as it is.
        """
        rest = memoryview(data)
        with writing(name), self._files.borrow(name) as fd:
            if self._keep_free_bytes and not to_the_last:
                self._require_free(len(data))
            over = os.fstat(fd).st_size - offset  # 1 µs
            if 0 < over < len(rest):
                _write(fd, rest[over:], offset + over)
                rest = rest[:over]
            _write(fd, rest, offset)

    def free_bytes(self) -> int:
        """Return how much of the disk is free for this user; 1 µs."""
        disk = os.fstatvfs(self._fd)
        return disk.f_bavail * disk.f_frsize

    def _require_free(self, size: int) -> None:
        if self.free_bytes() < self._keep_free_bytes + size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, name: str, size: int) -> None:
        """Set the length. Raises PosixError."""
        with writing(name), self._files.borrow(name) as fd:
            os.ftruncate(fd, size)

    def sync(self, name: str, folder_too: bool) -> None:  # noqa: FBT001  # handed through a thread
        """Make the file durable, and on request the folder's entry of it. Raises PosixError."""
        with writing(name):
            self._files.fsync(name)
            if folder_too:
                os.fsync(self._fd)

    def sync_many(self, names: list[str]) -> dict[str, PosixError]:
        """Make files and their names durable; those that are gone do not matter.

        Returns what is wrong with those that are not durable (`is_lost`). Raises PosixError where all may be concerned.
        """
        alone = names
        if len(names) > _SYNC_SINGLY:
            with writing("folder"):
                self._sync_all()
            alone = [name for name in names if self._files.is_doubted(name)]
        failed: dict[str, PosixError] = {}
        for name in alone:
            try:
                with writing(name), suppress(FileNotFoundError):
                    self._files.fsync(name)
            except PosixError as error:
                failed[name] = error
        if alone:
            with writing("folder"):
                os.fsync(self._fd)
        return failed

    def is_lost(self, name: str) -> bool:
        """The disk has failed to take some of the file in this life of the process: no sync will succeed."""
        return self._files.is_lost(name)

    def _sync_all(self) -> None:
        """Make everything durable but what is doubted afterwards. Raises OSError.

        syncfs(2) tells once of a failed write-back, since Linux 5.8, of any program's file, and not of which: so each
        file that there is now has to be asked itself.
        """
        with self._syncing_all:
            if not self._untold:
                try:
                    sync_file_system(self._fd)
                except OSError as error:
                    _log.debug("the local disk failed to take some program's bytes: %s", error)
                    self._untold = True
            if self._untold:
                with self._scan() as entries:
                    self._files.doubt([entry.name for entry in entries])
                self._untold = False

    def length(self, name: str) -> int:
        """Return the file's length. Raises LocalDamage."""
        with reading(name):
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_size

    def disk_bytes(self, name: str) -> int:
        """Return how much of the disk the file takes; holes are free. Raises LocalDamage."""
        with reading(name):
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_blocks * 512

    def admit_holes(self, name: str, present: RangeSet) -> bool:
        """What is not `present` is zero and counts as written from now on; True where that has to be synced."""
        del name, present
        return False

    def written(self, name: str) -> RangeSet:
        """Return which of its bytes are no holes, roughly: zeros may be among them. Raises LocalDamage."""
        with reading(name), self.borrow(name) as fd:
            return RangeSet(data_ranges(fd))

    def beside(self, folder: Path) -> DirtyFolder:
        """Open another folder of this form: of a database that is lost. Raises OSError."""
        return DirtyFolder(folder, 1)

    def inherit(self, lost: DirtyFolder, old: str, new: str, present: RangeSet) -> None:
        """Have a file of a lost database as one of ours; its name is durable when this returns. Raises OSError."""
        del present
        os.link(lost.path / old, self.path / new)
        os.fsync(self._fd)

    def pack_label(self, name: str, text: bytes) -> bytes:
        """Return what a file says of itself as it is kept beside it."""
        del name
        return text

    def unpack_label(self, name: str, label: bytes) -> bytes:
        """Return what a file says of itself."""
        del name
        return label

    def delete(self, name: str) -> None:
        """Delete the file; none is no error. Raises PosixError."""
        with writing(name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._fd)
            self._files.retire(name, forget=True)

    def release(self, name: str) -> None:
        """Close the file's descriptor."""
        self._files.retire(name)

    def listing(self) -> tuple[list[tuple[int, int]], list[str]]:
        """Return the two numbers of every staging file, and the names that are none."""
        ours, foreign = [], []
        with self._scan() as entries:
            for entry in entries:
                match = STAGED_NAME.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    ours.append((int(match[1]), int(match[2])))
                else:
                    foreign.append(entry.name)
        return sorted(ours), sorted(foreign)

    def used_bytes(self) -> int:
        """Return the disk space of all files."""
        total = 0
        with self._scan() as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # deleted while we look
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
        return total

    def close(self) -> None:
        """Close all descriptors. Only once nothing else is called any more."""
        self._files.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, name: str) -> int:
        fd = os.open(name, _FLAGS, dir_fd=self._fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", name)
        return fd

    @contextmanager
    def _scan(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        # A descriptor of its own: two scans of one descriptor would share one position.
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            with os.scandir(fd) as entries:
                yield entries
        finally:
            os.close(fd)


def _write(fd: int, rest: memoryview, offset: int) -> None:
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def data_ranges(fd: int) -> list[tuple[int, int]]:
    """Return where a sparse file has bytes. Raises OSError."""
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Translate what goes wrong while a file is read."""
    try:
        yield
    except OSError as error:
        raise LocalDamage(f"staging file {name} cannot be read: {error.strerror}") from error


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Translate what goes wrong while a file is written."""
    try:
        yield
    except OSError as error:
        code = error.errno if error.errno in _WRITE_ERRORS else errno.EIO
        raise PosixError(code or errno.EIO, f"staging file {name}") from error

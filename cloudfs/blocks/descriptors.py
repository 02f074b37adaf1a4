"""A bounded set of open files: descriptors are borrowed, and the least recently used idle one is closed.

Blocking and safe between threads; everything here runs in worker threads. One program that opens 10,000 dirty
files must not use up the process's descriptors, which the server connections need too.

No fsync is made to make room: of many new files, each would wait for the disk. A write-back that fails after that is
told to the first fsync of a descriptor that is opened later: Linux keeps it with the inode (errseq_sample, since 4.17),
until it was told once, or the inode had to leave the memory. A failure is remembered here, and every later fsync of
that file fails with it: after one the kernel takes the lost pages for clean, so a second fsync that succeeds proves
nothing.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Descriptors"]


class _Open:
    """One open file. INVARIANT: `fd` is closed exactly once, when it is retired and nobody uses it."""

    __slots__ = ("fd", "name", "retired", "users")

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        self.users = 0
        self.retired = False


class Descriptors:
    """Open files by name, at most `limit` of them idle or busy, more only while all of them are busy."""

    def __init__(self, limit: int, open_file: Callable[[str], int]) -> None:
        """`open_file` returns a new descriptor for a name, or raises OSError."""
        self._limit = limit
        self._open_file = open_file
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _Open] = OrderedDict()
        self._lost: dict[str, int] = {}
        self._doubted: dict[str, int] = {}
        """By name, the number of the doubt."""
        self._doubts = 0
        self._asking: set[str] = set()
        """Being synced."""
        self._turns = threading.Condition()

    def __len__(self) -> int:
        return len(self._files)

    @contextmanager
    def borrow(self, name: str) -> Iterator[int]:
        """Lend the descriptor of a file, opening it if needed. It is not closed meanwhile. Raises OSError."""
        file = self._take(name)
        try:
            yield file.fd
        finally:
            self._give_back(file)

    def fsync(self, name: str) -> None:
        """Make a file durable. Raises OSError, also for a write-back that failed at any earlier time."""
        with self._turn(name):
            # Before: a doubt that comes up meanwhile may be about what was written since.
            doubt = self._doubted.get(name)
            file = self._take(name)
            try:
                self._fsync(file)
            finally:
                self._give_back(file)
            if (code := self._lost.get(name)) is not None:
                raise OSError(code, os.strerror(code), name)
            with self._lock:
                if self._doubted.get(name) == doubt:
                    self._doubted.pop(name, None)

    def doubt(self, names: Iterable[str]) -> None:
        """Some write-back has failed that may be of these files: each is doubted until an fsync of its own succeeds."""
        with self._lock:
            self._doubts += 1
            self._doubted |= dict.fromkeys(names, self._doubts)

    def is_doubted(self, name: str) -> bool:
        """Only an fsync can tell whether a file is durable, not one of the whole file system."""
        return name in self._doubted or name in self._lost

    def is_lost(self, name: str) -> bool:
        """A write-back of the file has failed at some time: no fsync will succeed."""
        return name in self._lost

    def adopt(self, name: str, fd: int) -> None:
        """Take over the descriptor of a file that was just created."""
        self.retire(name, forget=True)  # a file of the name that somebody else deleted
        with self._lock:
            self._files[name] = _Open(name, fd)
            idle = self._surplus()
        self._close_all(idle)

    def retire(self, name: str, *, forget: bool = False) -> None:
        """Close a file's descriptor, as soon as nobody uses it; `forget` that it ever failed: it is deleted."""
        with self._lock:
            file = self._files.pop(name, None)
            if forget:
                self._lost.pop(name, None)
                self._doubted.pop(name, None)
            idle = self._retired(file) if file is not None else []
        self._close_all(idle)

    def close(self) -> None:
        """Retire every file."""
        for name in list(self._files):
            self.retire(name)

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """One fsync of a file at a time: a failure is told to one of them, and the others are to find it noted."""
        with self._turns:
            self._turns.wait_for(lambda: name not in self._asking)
            self._asking.add(name)
        try:
            yield
        finally:
            with self._turns:
                self._asking.discard(name)
                self._turns.notify_all()

    def _take(self, name: str) -> _Open:
        with self._lock:
            if (file := self._borrowed(name)) is not None:
                return file
        fd = self._open_file(name)  # outside the lock: it may wait for the disk
        with self._lock:
            file = self._borrowed(name)
            if file is None:
                file = self._files[name] = _Open(name, fd)
                file.users, fd = 1, -1
            idle = self._surplus()
        if fd >= 0:  # another thread opened it meanwhile
            os.close(fd)
        self._close_all(idle)
        return file

    def _borrowed(self, name: str) -> _Open | None:
        file = self._files.get(name)
        if file is not None:
            file.users += 1
            self._files.move_to_end(name)
        return file

    def _give_back(self, file: _Open) -> None:
        with self._lock:
            file.users -= 1
            idle = [file] if file.retired and not file.users else self._surplus()
        self._close_all(idle)

    def _surplus(self) -> list[_Open]:
        """Retire the idle files beyond the limit, least recently used first; the caller closes them."""
        excess = len(self._files) - self._limit
        if excess <= 0:
            return []
        idle = [file for file in self._files.values() if not file.users][:excess]
        for file in idle:
            del self._files[file.name]
            file.retired = True
        return idle

    @staticmethod
    def _retired(file: _Open) -> list[_Open]:
        file.retired = True
        return [] if file.users else [file]

    def _close_all(self, files: list[_Open]) -> None:
        for file in files:
            try:
                os.close(file.fd)
            except OSError as error:  # as NFS does, which writes then
                self._lost[file.name] = error.errno or errno.EIO

    def _fsync(self, file: _Open) -> None:
        try:
            os.fsync(file.fd)
        except OSError as error:
            self._lost[file.name] = error.errno or errno.EIO
            raise

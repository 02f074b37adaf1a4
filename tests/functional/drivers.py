"""Three ways to do the same thing to a file system: a plain folder, the vfs object, a real mount.

What passes on the plain folder and fails on one of ours is a bug, or stands in docs/SEMANTICS.md.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from cloudfs.errors import PosixError, errno_of
from cloudfs.types import ROOT, Ino
from cloudfs.vfs.filesystem import FileSystem
from cloudfs.vfs.records import Attributes, HandleId, RenameMode

T = TypeVar("T")


class OpenFile(Protocol):
    """An open file."""

    def read(self, offset: int, size: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...
    def truncate(self, size: int) -> None: ...
    def fsync(self) -> None: ...
    def close(self) -> None: ...
    def size(self) -> int: ...


class Driver(Protocol):
    """Paths are relative to a folder of the test's own. Errors are OSError with the right errno."""

    def open(self, path: str, flags: int = os.O_RDONLY) -> OpenFile: ...
    def mkdir(self, path: str) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rename(self, source: str, target: str, mode: RenameMode = RenameMode.REPLACE) -> None: ...
    def truncate(self, path: str, size: int) -> None: ...
    def chmod(self, path: str, mode: int) -> None: ...
    def utime(self, path: str, mtime_ns: int) -> None: ...
    def names(self, path: str = "") -> list[str]: ...
    def size(self, path: str) -> int: ...
    def ino(self, path: str) -> int: ...
    def mode(self, path: str) -> int: ...
    def mtime_ns(self, path: str) -> int: ...
    def is_folder(self, path: str) -> bool: ...


def write(driver: Driver, path: str, data: bytes) -> None:
    """Create or replace a file as `open(path, "wb")` does."""
    file = driver.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    file.write(0, data)
    file.close()


def read(driver: Driver, path: str) -> bytes:
    """Read a whole file."""
    file = driver.open(path)
    try:
        return file.read(0, file.size() + 10)
    finally:
        file.close()


def tree(driver: Driver, path: str = "") -> dict[str, bytes | None]:
    """Read everything: path -> content, None for folders."""
    found: dict[str, bytes | None] = {}
    for name in driver.names(path):
        below = f"{path}/{name}" if path else name
        if driver.is_folder(below):
            found[below] = None
            found |= tree(driver, below)
        else:
            found[below] = read(driver, below)
    return found


# A folder of the machine: plain, or a mount.


class _OsFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        while size and (part := os.pread(self._descriptor, size, offset)):
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        while data:
            done = os.pwrite(self._descriptor, data, offset)
            offset, data = offset + done, data[done:]

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def fsync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size


class OsDriver:
    """A folder reached by system calls."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _at(self, path: str) -> Path:
        return self.root / path if path else self.root

    def open(self, path: str, flags: int = os.O_RDONLY) -> OpenFile:
        return _OsFile(os.open(self._at(path), flags | os.O_CLOEXEC, 0o644))

    def mkdir(self, path: str) -> None:
        os.mkdir(self._at(path), 0o755)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, source: str, target: str, mode: RenameMode = RenameMode.REPLACE) -> None:
        if mode is RenameMode.REPLACE:
            os.rename(self._at(source), self._at(target))
            return
        flags = 1 if mode is RenameMode.NO_REPLACE else 2
        _renameat2(os.fsencode(self._at(source)), os.fsencode(self._at(target)), flags)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def utime(self, path: str, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(mtime_ns, mtime_ns))

    def names(self, path: str = "") -> list[str]:
        return sorted(os.listdir(self._at(path)))

    def size(self, path: str) -> int:
        return os.stat(self._at(path)).st_size

    def ino(self, path: str) -> int:
        return os.stat(self._at(path)).st_ino

    def mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(self._at(path)).st_mode)

    def mtime_ns(self, path: str) -> int:
        return os.stat(self._at(path)).st_mtime_ns

    def is_folder(self, path: str) -> bool:
        return self._at(path).is_dir()


def _renameat2(source: bytes, target: bytes, flags: int) -> None:
    import ctypes  # noqa: PLC0415  # only here: Python has no renameat2

    libc = ctypes.CDLL(None, use_errno=True)
    at_fdcwd = -100
    if libc.renameat2(at_fdcwd, source, at_fdcwd, target, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# The vfs object, on a trio loop in another thread.


class _VfsFile:
    def __init__(self, driver: VfsDriver, ino: Ino, handle: HandleId) -> None:
        self._driver, self._ino, self._handle = driver, ino, handle

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._driver.run(lambda fs: fs.read(self._handle, offset, size)))

    def write(self, offset: int, data: bytes) -> None:
        assert self._driver.run(lambda fs: fs.write(self._handle, offset, data)) == len(data)

    def truncate(self, size: int) -> None:
        self._driver.run(lambda fs: fs.setattr(self._ino, size=size, handle=self._handle))

    def fsync(self) -> None:
        self._driver.run(lambda fs: fs.fsync(self._handle, data_only=False))

    def close(self) -> None:
        self._driver.run(lambda fs: fs.flush(self._handle))
        self._driver.run(lambda fs: fs.release(self._handle))

    def size(self) -> int:
        return self._driver.run(lambda fs: fs.getattr(self._ino)).size


class VfsDriver:
    """The file system's operations without kernel and FUSE."""

    def __init__(self, filesystem: FileSystem, token: trio.lowlevel.TrioToken, root: str) -> None:
        self._fs = filesystem
        self._token = token
        self._root = root

    def run(self, call: Callable[[FileSystem], Awaitable[T]]) -> T:
        """Call an operation on the loop's thread; expected errors as the kernel would report them."""

        async def answer() -> T:
            return await call(self._fs)

        try:
            return trio.from_thread.run(answer, trio_token=self._token)
        except Exception as error:
            code = errno_of(error)
            if code is None:
                raise
            raise OSError(code, os.strerror(code)) from error

    async def _find(self, path: str) -> Attributes:
        found = await self._fs.getattr(ROOT)
        for name in filter(None, f"{self._root}/{path}".split("/")):
            found = await self._fs.lookup(found.ino, os.fsencode(name))
        return found

    async def _place(self, path: str) -> tuple[Ino, bytes]:
        folder, _, name = path.rpartition("/")
        return (await self._find(folder)).ino, os.fsencode(name)

    def open(self, path: str, flags: int = os.O_RDONLY) -> OpenFile:
        async def do(fs: FileSystem) -> OpenFile:
            parent, name = await self._place(path)
            try:
                known = await fs.lookup(parent, name)
            except PosixError:
                if not flags & os.O_CREAT:
                    raise
                opened, made = await fs.create(parent, name, 0o644, flags)
                return _VfsFile(self, made.ino, opened.handle)
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise PosixError(errno.EEXIST)
            opened = await fs.open(known.ino, flags)
            return _VfsFile(self, known.ino, opened.handle)

        return self.run(do)

    def mkdir(self, path: str) -> None:
        async def do(fs: FileSystem) -> None:
            await fs.mkdir(*await self._place(path), 0o755)

        self.run(do)

    def rmdir(self, path: str) -> None:
        async def do(fs: FileSystem) -> None:
            await fs.rmdir(*await self._place(path))

        self.run(do)

    def unlink(self, path: str) -> None:
        async def do(fs: FileSystem) -> None:
            await fs.unlink(*await self._place(path))

        self.run(do)

    def rename(self, source: str, target: str, mode: RenameMode = RenameMode.REPLACE) -> None:
        async def do(fs: FileSystem) -> None:
            await fs.rename(*await self._place(source), *await self._place(target), mode)

        self.run(do)

    def truncate(self, path: str, size: int) -> None:
        async def do(fs: FileSystem) -> None:
            await fs.setattr((await self._find(path)).ino, size=size)

        self.run(do)

    def chmod(self, path: str, mode: int) -> None:
        async def do(fs: FileSystem) -> None:
            await fs.setattr((await self._find(path)).ino, permissions=mode)

        self.run(do)

    def utime(self, path: str, mtime_ns: int) -> None:
        async def do(fs: FileSystem) -> None:
            await fs.setattr((await self._find(path)).ino, mtime_ns=mtime_ns)

        self.run(do)

    def names(self, path: str = "") -> list[str]:
        async def do(fs: FileSystem) -> list[str]:
            handle = await fs.open_folder((await self._find(path)).ino)
            try:
                return sorted(entry.name for entry in await fs.read_folder(handle, 0))
            finally:
                await fs.release_folder(handle)

        return self.run(do)

    def _attributes(self, path: str) -> Attributes:
        return self.run(lambda _: self._find(path))

    def size(self, path: str) -> int:
        return self._attributes(path).size

    def ino(self, path: str) -> int:
        return self._attributes(path).ino

    def mode(self, path: str) -> int:
        return self._attributes(path).permissions

    def mtime_ns(self, path: str) -> int:
        return self._attributes(path).mtime_ns

    def is_folder(self, path: str) -> bool:
        return self._attributes(path).kind.value == "folder"

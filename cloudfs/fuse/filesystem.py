"""What the kernel adapter needs of the file system below it. `vfs.filesystem.FileSystem` fulfils this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from cloudfs.types import Ino, Octets
from cloudfs.vfs.records import Attributes, FolderEntry, HandleId, Opened, RenameMode, Space

__all__ = ["FileSystem"]


class FileSystem(Protocol):
    """The operations by inode. Errors are CloudfsErrors; anything else is a bug and becomes EIO.

    Every call may be cancelled at its deadline: it then must not leave behind a handle that the caller
    never heard of.
    """

    async def lookup(self, parent: Ino, name: bytes) -> Attributes:
        """Return the node that a name means; PosixError(ENOENT) where it means none.

        Does not touch lookup counts: see `remember`.
        """
        ...

    def remember(self, ino: Ino) -> None:
        """Count one reply that hands the inode to the kernel. Never fails, never waits."""
        ...

    async def forget(self, ino: Ino, count: int) -> None:
        """Take `count` back; at 0 the kernel does not know the inode any more."""
        ...

    async def getattr(self, ino: Ino) -> Attributes:
        """Return the attributes of a node, unlinked ones that are still known included."""
        ...

    async def setattr(
        self,
        ino: Ino,
        *,
        size: int | None,
        permissions: int | None,
        mtime_ns: int | None,
        handle: HandleId | None,
    ) -> Attributes:
        """Change what is not None. `handle` is the open file the call came through, if any."""
        ...

    async def open(self, ino: Ino, flags: int) -> Opened:
        """Open a file with the flags of the system call, O_TRUNC and O_APPEND included."""
        ...

    async def create(
        self, parent: Ino, name: bytes, permissions: int, flags: int
    ) -> tuple[Opened, Attributes]:
        """Create and open a file; EEXIST only where `flags` has O_EXCL."""
        ...

    async def read(self, handle: HandleId, offset: int, size: int) -> Octets:
        """Return exactly `size` bytes, fewer only at the end of the file (the kernel would add zeros)."""
        ...

    async def write(self, handle: HandleId, offset: int, data: bytes) -> int:
        """Take all of `data` or raise; returns its length."""
        ...

    async def flush(self, handle: HandleId) -> None:
        """Take the close(2) of one descriptor; its errors reach the program."""
        ...

    async def release(self, handle: HandleId) -> None:
        """Forget the handle: the last descriptor is closed. Nobody sees an error."""
        ...

    async def fsync(self, handle: HandleId, *, data_only: bool) -> None:
        """Make what was written durable on the local disk."""
        ...

    async def mkdir(self, parent: Ino, name: bytes, permissions: int) -> Attributes:
        """Make a folder."""
        ...

    async def rmdir(self, parent: Ino, name: bytes) -> None:
        """Remove an empty folder; ENOTEMPTY otherwise."""
        ...

    async def unlink(self, parent: Ino, name: bytes) -> None:
        """Remove a file's name; open handles and known inodes keep working."""
        ...

    async def rename(
        self, parent: Ino, name: bytes, new_parent: Ino, new_name: bytes, mode: RenameMode
    ) -> None:
        """Rename in one step."""
        ...

    async def open_folder(self, ino: Ino) -> HandleId:
        """Open a folder for reading."""
        ...

    async def read_folder(self, handle: HandleId, after: int) -> Iterable[FolderEntry]:
        """Return the entries with a position above `after`, ascending and lazily, without . and .. ."""
        ...

    async def release_folder(self, handle: HandleId) -> None:
        """Forget the folder handle."""
        ...

    async def fsync_folder(self, handle: HandleId) -> None:
        """Make names in the folder durable on the local disk."""
        ...

    def space(self) -> Space:
        """Answer statfs from memory, at once."""
        ...

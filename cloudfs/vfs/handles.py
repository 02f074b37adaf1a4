"""Open files and folders by handle number."""

from __future__ import annotations

import errno
from array import array
from itertools import count

from cloudfs.content.layers import FileContent
from cloudfs.content.readahead import ReadPattern
from cloudfs.errors import PosixError
from cloudfs.types import Ino
from cloudfs.vfs.records import HandleId
from cloudfs.vfs.room import Room

__all__ = ["FileHandle", "FolderHandle", "Handles"]


class FileHandle:
    """One open file. `content` never changes: it is the version that was opened, and what is written to it."""

    __slots__ = ("content", "ino", "pattern", "room", "writes")

    def __init__(
        self, ino: Ino, content: FileContent, pattern: ReadPattern, room: Room, *, writes: bool
    ) -> None:
        self.ino = ino
        self.content = content
        self.pattern = pattern
        self.room = room
        self.writes = writes


class FolderHandle:
    """One open folder. `members` is what it had when it was last read from its start: 8 bytes an entry."""

    __slots__ = ("ino", "members")

    def __init__(self, ino: Ino) -> None:
        self.ino = ino
        self.members: array[int] | None = None


class Handles:
    """Numbers to open things; EBADF for numbers that are not open."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[HandleId, FileHandle | FolderHandle] = {}

    def add(self, opened: FileHandle | FolderHandle) -> HandleId:
        """Give an opened thing a number never used before."""
        handle = HandleId(next(self._numbers))
        self._open[handle] = opened
        return handle

    def file(self, handle: HandleId) -> FileHandle:
        """Return an open file."""
        opened = self._open.get(handle)
        if not isinstance(opened, FileHandle):
            raise PosixError(errno.EBADF, f"handle {handle}")
        return opened

    def folder(self, handle: HandleId) -> FolderHandle:
        """Return an open folder."""
        opened = self._open.get(handle)
        if not isinstance(opened, FolderHandle):
            raise PosixError(errno.EBADF, f"handle {handle}")
        return opened

    def remove_file(self, handle: HandleId) -> FileHandle:
        """Close a file's number."""
        file = self.file(handle)
        del self._open[handle]
        return file

    def remove_folder(self, handle: HandleId) -> FolderHandle:
        """Close a folder's number."""
        folder = self.folder(handle)
        del self._open[handle]
        return folder

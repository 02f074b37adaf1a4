"""The kernel's requests on a mount that announces: calls of the announcing thread change nothing.

Each method is that of `Operations` for everybody else.
"""

from __future__ import annotations

import errno
import stat

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext, SetattrFields

from cloudfs.fuse.announcing import Act, Announcement, Announcer
from cloudfs.fuse.boundary import answered
from cloudfs.fuse.filesystem import FileSystem
from cloudfs.fuse.operations import KernelCaching, Operations
from cloudfs.fuse.readers import Readers
from cloudfs.fuse.xattrs import Xattrs
from cloudfs.types import Ino, Kind

__all__ = ["AnnouncingOperations"]

_NOTHING = 0
"""The handle of a file that is open for an announcement only: real ones begin at 1."""
_DOOMED = Ino(1 << 62)
"""Stands for a folder whose removal is announced; no node comes to such a number."""


class AnnouncingOperations(Operations):
    """Knows by its thread what is an announcement."""

    def __init__(
        self,
        filesystem: FileSystem,
        announcer: Announcer,
        *,
        caching: KernelCaching | None = None,
        deadline_s: float = 15.0,
        xattrs: Xattrs | None = None,
        readers: Readers | None = None,
    ) -> None:
        super().__init__(
            filesystem,
            caching=caching,
            deadline_s=deadline_s,
            announced=announcer.delivered,
            xattrs=xattrs,
            readers=readers,
        )
        self._announcer = announcer

    def _told(self, ctx: RequestContext) -> Announcement | None:
        """Return what is announced by a request; None where it is a program's."""
        # The kernel names the thread, not its process.
        return self._announcer.current if ctx.pid == self._announcer.thread_id else None

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Answer for the names in question what was true before the change."""
        told = self._told(ctx)
        if told is None:
            return await super().lookup(parent_inode, name, ctx)
        return await self._lookup_before(told, Ino(parent_inode), name, ctx)

    async def _lookup_before(
        self, told: Announcement, parent: Ino, name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        place = parent, name.decode(errors="surrogateescape")
        before = (told.parent, told.name)
        if place == told.new or (place == before and told.act is Act.CREATE):
            raise FUSEError(errno.ENOENT)
        if place == before and told.act is Act.REMOVE:
            return self._gone(told)
        if place == before and told.act is Act.RENAME:
            return await self._announced_entry(told.ino)
        return await super().lookup(parent, name, ctx)

    @answered
    async def _announced_entry(self, ino: Ino) -> EntryAttributes:
        return self._hand_out(await self._fs.getattr(ino))

    def _gone(self, told: Announcement) -> EntryAttributes:
        """Answer with what is removed by the next call.

        Not with the folder's own inode: once removed it is dead, and would be shown as empty where it turns up again.
        """
        ino = _DOOMED if told.kind is Kind.FOLDER else told.ino
        entry = EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(ino)
        entry.entry_timeout = entry.attr_timeout = 0
        kind = stat.S_IFDIR if told.kind is Kind.FOLDER else stat.S_IFREG
        entry.st_mode = pyfuse3.ModeT(kind | 0o700)
        entry.st_nlink = 1
        entry.st_uid, entry.st_gid = self._uid, self._gid
        self._fs.remember(ino)
        return entry

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Create; announced: what is there already."""
        told = self._told(ctx)
        if told is None:
            return await super().create(parent_inode, name, mode, flags, ctx)
        return FileInfo(fh=pyfuse3.FileHandleT(_NOTHING)), await self._announced_entry(told.ino)

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        """Make a folder; announced: that which is there already."""
        told = self._told(ctx)
        if told is None:
            return await super().mkdir(parent_inode, name, mode, ctx)
        return await self._announced_entry(told.ino)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove; announced: it is gone already."""
        if self._told(ctx) is None:
            await super().unlink(parent_inode, name, ctx)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove a folder; announced: it is gone already."""
        if self._told(ctx) is None:
            await super().rmdir(parent_inode, name, ctx)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """Rename; announced: it has the new name already."""
        if self._told(ctx) is None:
            await super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open; announced: nothing."""
        if self._told(ctx) is None:
            return await super().open(inode, flags, ctx)
        return FileInfo(fh=pyfuse3.FileHandleT(_NOTHING), keep_cache=True)

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        """Change attributes; announced: they are so already."""
        if self._told(ctx) is None:
            return await super().setattr(inode, attr, fields, fh, ctx)
        return await self.getattr(inode, ctx)

    async def flush(self, fh: int) -> None:
        """Take a close(2)."""
        if fh != _NOTHING:
            await super().flush(fh)

    async def release(self, fh: int) -> None:
        """Forget an open file."""
        if fh != _NOTHING:
            await super().release(fh)

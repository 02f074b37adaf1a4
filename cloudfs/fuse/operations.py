"""One short method per kernel request: translate, ask the file system, translate back. No logic.

Lookup counts: `remember` is called once per reply that hands an inode to the kernel, with no checkpoint
between it and the reply, so that a cancelled request never counts.
"""

# ruff: noqa: ARG002  # the parameters are pyfuse3's, whether a request needs them or not

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import msgspec
import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from cloudfs.errors import PosixError
from cloudfs.fuse.boundary import Boundary, Requests, answered, unanswered
from cloudfs.fuse.filesystem import FileSystem
from cloudfs.fuse.readers import Readers
from cloudfs.fuse.retries import Retries
from cloudfs.fuse.xattrs import XattrOperations, Xattrs
from cloudfs.types import Ino, Kind, Octets
from cloudfs.vfs.records import Attributes, HandleId, RenameMode

__all__ = ["KernelCaching", "Operations"]

BLOCK_BYTES = 64 * 1024
"""st_blksize: what stdio and cp read and write at once. SOURCE: design.md §7, 64 KiB writes reach
390 MB/s and 4 KiB writes 34 MB/s, as every write is one request."""

EMPTY_BLOCK_BYTES = 1024 * 1024
"""st_blksize of what is empty. A file is there to be written then: `cp` asks for it once the file is made, and then
writes as much at once. One request of the kernel carries no more. Files are read in smaller pieces: what buffered
readers ask for beyond what their program wants would have to be fetched. Folders count as empty, and readdir(3) asks
for so much of one at a time."""

STATFS_BLOCK_BYTES = 4096
PERMISSION_BITS = 0o7777
PARENT_UNKNOWN = 0xFFFFFFFF
"""d_ino of "..": libfuse's own number for an inode that is not known; nobody may stat by it."""

DOT, DOTDOT = 1, 2
"""Cookies of "." and ".."; the file system's positions follow after them."""


RELIED_ON_S = 300.0
"""While every change is announced. A path in constant use costs one request in that time (0.1 ms), so hours would save
nothing; and what is used is still seen to be used, which is what the pace of looking for changes goes by."""
CHECKED_S = 1.0


class KernelCaching(msgspec.Struct):
    """How long the kernel may answer by itself, in seconds; read anew for every reply.

    Long is right only while every remote change reaches `notify`.
    """

    entry_s: float = CHECKED_S
    attributes_s: float = CHECKED_S
    negative_s: float = CHECKED_S
    """For names that do not exist; 0 asks again each time."""

    def rely(self, announced: bool) -> None:  # noqa: FBT001  # a callback's one argument
        """From now on every change of others is announced, or only those in what is used."""
        self.entry_s = self.attributes_s = self.negative_s = RELIED_ON_S if announced else CHECKED_S


class Operations(XattrOperations):
    """The kernel's requests on one mounted file system."""

    supports_dot_lookup = False  # nobody exports a personal mount over NFS, which alone needs it
    enable_writeback_cache = False  # the kernel would ignore the sizes that the server's changes bring
    enable_acl = False

    def __init__(
        self,
        filesystem: FileSystem,
        *,
        caching: KernelCaching | None = None,
        deadline_s: float = 15.0,
        announced: Callable[[Ino], Awaitable[None]] | None = None,
        xattrs: Xattrs | None = None,
        readers: Readers | None = None,
    ) -> None:
        """Every file shows the owner and group of this process; `deadline_s` bounds each request.

        `announced` returns once the kernel has heard of the changes of an inode so far. `xattrs`: None: there are none.
        `readers` hears who reads what; None: nobody does.
        """
        super().__init__()
        self._xattrs = xattrs
        self._readers = readers or Readers(lambda _: None)
        self._announced = announced
        self.boundary = Boundary(deadline_s)
        self._retries = Retries(deadline_s)
        self._fs = filesystem
        self._caching = caching or KernelCaching()
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._folders: dict[int, Ino] = {}

    def statistics(self) -> Requests:
        """Return the requests counted so far."""
        return self.boundary.statistics()

    # --- names and attributes

    @answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Answer with the node of a name; a missing one is cached too."""
        try:
            attributes = await self._fs.lookup(Ino(parent_inode), name)
        except PosixError as error:
            if error.errno != errno.ENOENT or self._caching.negative_s <= 0:
                raise
            return self._negative()
        return self._hand_out(attributes)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Take lookup counts back, each inode by itself: one failure must not keep the others."""
        for inode, count in inode_list:
            await self._forget_one(Ino(inode), count)

    @unanswered
    async def _forget_one(self, ino: Ino, count: int) -> None:
        await self._fs.forget(ino, count)

    @answered
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Answer stat(2)."""
        return self._entry(await self._fs.getattr(Ino(inode)))

    @answered
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        """Truncate, chmod, utimens; chown only to who owns everything anyway. Access times are not kept."""
        self._refuse_chown(attr, fields)
        changed = await self._fs.setattr(
            Ino(inode),
            size=attr.st_size if fields.update_size else None,
            permissions=attr.st_mode & PERMISSION_BITS if fields.update_mode else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            handle=None if fh is None else HandleId(fh),
        )
        return self._entry(changed)

    @answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Nothing here is a symbolic link: EINVAL, as Linux says."""
        _refuse(errno.EINVAL)

    @answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Answer df from memory."""
        space = self._fs.space()
        answer = StatvfsData()
        answer.f_bsize = answer.f_frsize = STATFS_BLOCK_BYTES
        answer.f_blocks = space.total // STATFS_BLOCK_BYTES
        answer.f_bfree = answer.f_bavail = max(space.free, 0) // STATFS_BLOCK_BYTES
        answer.f_namemax = space.name_bytes
        return answer

    # --- making and removing names

    @answered
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        """Make a folder, with the umask already applied by the kernel."""
        return self._hand_out(await self._fs.mkdir(Ino(parent_inode), name, mode & PERMISSION_BITS))

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make an empty regular file; devices, FIFOs and sockets: EPERM, as Linux says."""
        if not stat.S_ISREG(mode):
            _refuse(errno.EPERM)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        opened, attributes = await self._fs.create(Ino(parent_inode), name, mode & PERMISSION_BITS, flags)
        await self.release(opened.handle)
        return self._hand_out(attributes)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse: the server keeps no symbolic links. EPERM, as Linux says."""
        _refuse(errno.EPERM)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Refuse: the server keeps no hard links. EPERM, as Linux says."""
        _refuse(errno.EPERM)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove a file's name."""
        await self._fs.unlink(Ino(parent_inode), name)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an empty folder."""
        await self._fs.rmdir(Ino(parent_inode), name)

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """Rename; RENAME_WHITEOUT and flags of later kernels: EINVAL."""
        mode = _rename_mode(flags)
        await self._fs.rename(Ino(parent_inode_old), name_old, Ino(parent_inode_new), name_new, mode)

    # --- files

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Create and open a file."""
        permissions = mode & PERMISSION_BITS
        opened, attributes = await self._fs.create(Ino(parent_inode), name, permissions, flags)
        return FileInfo(fh=opened.handle, keep_cache=opened.keep_cache), self._hand_out(attributes)

    @answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file. O_TRUNC arrives here: libfuse asks for atomic_o_trunc."""
        opened = await self._fs.open(Ino(inode), flags)
        if self._announced is not None:
            # The kernel reads up to the size that it knows. INVARIANT: by the time a program reads, that is the size of
            # the version that it opened, or one older than any that it could have seen end in the midst.
            # It takes a second at most; cut off here, the open file would be nobody's.
            with trio.CancelScope(shield=True):
                await self._announced(Ino(inode))
        self._readers.opened(opened.handle, Ino(inode), ctx.pid)
        return FileInfo(fh=opened.handle, keep_cache=opened.keep_cache)

    async def read(self, fh: int, off: int, size: int) -> Octets:  # type: ignore[override]  # takes any buffer
        """Read."""
        with self._retries.attempt(fh, off, off + size) as left_s:
            return await self.boundary.run("read", self._read(fh, off, size), left_s)

    async def _read(self, fh: int, off: int, size: int) -> Octets:
        self._readers.reads(fh)
        return await self._fs.read(HandleId(fh), off, size)

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write all of it: a short count here would be a lost byte there."""
        taken = await self._fs.write(HandleId(fh), off, buf)
        if taken != len(buf):
            msg = f"the file system took {taken} of {len(buf)} bytes"
            raise AssertionError(msg)
        return taken

    @answered
    async def flush(self, fh: int) -> None:
        """Take the close(2) of one descriptor."""
        await self._fs.flush(HandleId(fh))

    @unanswered
    async def release(self, fh: int) -> None:
        """Forget the open file; nobody is there to hear of a failure."""
        self._readers.closed(fh)
        self._retries.closed(fh)
        await self._fs.release(HandleId(fh))

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:  # noqa: FBT001  # pyfuse3's signature
        """Make the file durable."""
        await self._fs.fsync(HandleId(fh), data_only=datasync)

    # --- folders

    @answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a folder."""
        handle = await self._fs.open_folder(Ino(inode))
        self._folders[handle] = Ino(inode)
        return handle

    @answered
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Fill the kernel's buffer with names and attributes from `start_id` on."""
        entries = await self._fs.read_folder(HandleId(fh), max(start_id - DOTDOT, 0))
        if not self._reply_dots(fh, start_id, token):
            return
        accepted: list[Ino] = []
        for entry in entries:
            name, attributes = entry.name.encode(), self._entry(entry.attributes)
            if not pyfuse3.readdir_reply(token, name, attributes, entry.position + DOTDOT):
                break
            accepted.append(entry.attributes.ino)
        # Only now: had the iteration failed, the kernel would get an error and none of the entries.
        for ino in accepted:
            self._fs.remember(ino)

    @unanswered
    async def releasedir(self, fh: int) -> None:
        """Forget the open folder."""
        self._folders.pop(fh, None)
        await self._fs.release_folder(HandleId(fh))

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:  # noqa: FBT001  # pyfuse3's signature
        """Make the folder's names durable."""
        await self._fs.fsync_folder(HandleId(fh))

    # --- translation

    def _hand_out(self, attributes: Attributes) -> EntryAttributes:
        """Translate for a reply that hands the inode to the kernel. NO CHECKPOINT between here and it."""
        entry = self._entry(attributes)
        self._fs.remember(attributes.ino)
        return entry

    def _entry(self, attributes: Attributes) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = attributes.ino
        entry.generation = 0  # inode numbers are never reused
        entry.entry_timeout = self._caching.entry_s
        # What is shown of a file that is being written is not its exact time, and it may be closed at any moment.
        entry.attr_timeout = self._caching.attributes_s if attributes.exact else 0.0
        entry.st_mode = _FILE_TYPE[attributes.kind] | attributes.permissions
        entry.st_nlink = attributes.links
        entry.st_uid, entry.st_gid = self._uid, self._gid
        entry.st_size = attributes.size
        entry.st_blksize = BLOCK_BYTES if attributes.size else EMPTY_BLOCK_BYTES
        entry.st_blocks = (attributes.size + 511) // 512
        entry.st_mtime_ns = entry.st_atime_ns = attributes.mtime_ns
        entry.st_ctime_ns = attributes.ctime_ns
        return entry

    def _negative(self) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(0)
        entry.entry_timeout = self._caching.negative_s
        return entry

    def _refuse_chown(self, attr: EntryAttributes, fields: SetattrFields) -> None:
        if fields.update_uid and attr.st_uid != self._uid:
            _refuse(errno.EPERM)
        if fields.update_gid and attr.st_gid != self._gid:
            _refuse(errno.EPERM)

    def _reply_dots(self, fh: int, start_id: int, token: ReaddirToken) -> bool:
        """Add . and .. where the listing begins; they never count as lookups."""
        for cookie, name, ino in (
            (DOT, b".", self._folders.get(fh, PARENT_UNKNOWN)),
            (DOTDOT, b"..", PARENT_UNKNOWN),
        ):
            entry = EntryAttributes()
            entry.st_ino, entry.st_mode = pyfuse3.InodeT(ino), pyfuse3.ModeT(stat.S_IFDIR)
            if start_id < cookie and not pyfuse3.readdir_reply(token, name, entry, cookie):
                return False
        return True


_FILE_TYPE = {Kind.FILE: stat.S_IFREG, Kind.FOLDER: stat.S_IFDIR}


def _rename_mode(flags: int) -> RenameMode:
    mode = RenameMode.REPLACE
    if flags & pyfuse3.RENAME_NOREPLACE:
        mode |= RenameMode.NO_REPLACE
    if flags & pyfuse3.RENAME_EXCHANGE:
        mode |= RenameMode.EXCHANGE
    if flags & ~(pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE):
        _refuse(errno.EINVAL)
    return mode


def _refuse(code: int) -> NoReturn:
    raise FUSEError(code)

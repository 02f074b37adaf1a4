"""The file system's operations, each by inode. Raises CloudfsError; knows no FUSE.

The way of a read: handle → content → staged ranges, else blocks, else the server.
The way of a write: handle → staging → (close) one transaction → the write-back worker later.
"""

from __future__ import annotations

import errno
import logging
import os
from array import array
from collections.abc import Callable, Iterator
from typing import Protocol

from cloudfs.content.files import Files
from cloudfs.content.layers import FileContent
from cloudfs.content.readahead import ReadPattern
from cloudfs.errors import CloudfsError, PosixError
from cloudfs.metadata.permissions import require
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.tree import Tree
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ContentVersion, Ino, Kind, Octets
from cloudfs.vfs.attributes import attributes_of
from cloudfs.vfs.handles import FileHandle, FolderHandle, Handles
from cloudfs.vfs.records import Attributes, FolderEntry, HandleId, Opened, RenameMode, Space
from cloudfs.vfs.room import Room

__all__ = ["FileSystem"]

_log = logging.getLogger(__name__)

_MAX_FILE_BYTES = 2**63 - 1


class _Lister(Protocol):
    async def ensure_listed(self, ino: Ino, *, reading: bool) -> None: ...


class FileSystem:
    """One mounted account. All methods run on the trio loop."""

    def __init__(
        self,
        store: Store,
        tree: Tree,
        lister: _Lister,
        files: Files,
        residents: Residents,
        *,
        new_pattern: Callable[[], ReadPattern],
        space: Callable[[], Space],
        may_be_free: Callable[[], int],
    ) -> None:
        self._store = store
        self._tree = tree
        self._lister = lister
        self._files = files
        self._residents = residents
        self._new_pattern = new_pattern
        self._space = space
        self._may_be_free = may_be_free
        self._handles = Handles()
        self._kernel_pages: dict[Ino, ContentVersion] = {}
        """Which content version the kernel's cached pages of an inode are of; forgotten with the inode."""

    # Names

    async def lookup(self, parent: Ino, name: bytes) -> Attributes:
        """Return what a name means; ENOENT. The caller counts the lookup with `remember`."""
        return self._attributes(await self._tree.lookup(parent, name))

    def remember(self, ino: Ino) -> None:
        """The kernel was handed the inode once more."""
        self._residents.remember(ino)

    async def forget(self, ino: Ino, count: int) -> None:
        """The kernel gave up references; an unlinked node that nobody holds goes with its content."""
        if self._residents.forget(ino, count):
            self._kernel_pages.pop(ino, None)
            self._tree.collect(ino)

    async def mkdir(self, parent: Ino, name: bytes, permissions: int) -> Attributes:
        """Make a folder; EEXIST, EACCES, EINVAL and EILSEQ for names that cannot go up."""
        folder, stored = await self._tree.free_name(parent, name, Kind.FOLDER)
        return self._attributes(self._tree.create(folder, stored, Kind.FOLDER, _kept(permissions, 0o777)))

    async def rmdir(self, parent: Ino, name: bytes) -> None:
        """Remove an empty folder."""
        await self._tree.rmdir(parent, name)

    async def unlink(self, parent: Ino, name: bytes) -> None:
        """Remove a file's name; open handles go on working."""
        await self._tree.unlink(parent, name)

    async def rename(
        self, parent: Ino, name: bytes, new_parent: Ino, new_name: bytes, mode: RenameMode
    ) -> None:
        """Rename as renameat2(2), also over files, empty folders and open files."""
        await self._tree.rename(
            parent,
            name,
            new_parent,
            new_name,
            replace=RenameMode.NO_REPLACE not in mode,
            exchange=RenameMode.EXCHANGE in mode,
        )

    # Attributes

    async def getattr(self, ino: Ino) -> Attributes:
        """Return a node's attributes from memory and the database; never asks the server."""
        return self._attributes(self._tree.node(ino))

    async def setattr(
        self,
        ino: Ino,
        *,
        size: int | None = None,
        permissions: int | None = None,
        mtime_ns: int | None = None,
        handle: HandleId | None = None,
    ) -> Attributes:
        """Truncate, chmod, utimens. A time set here outlasts the writes before it, not those after it."""
        node = self._tree.node(ino)
        if size is not None:
            await self._truncate(node, size, handle)
        if mtime_ns is not None:
            mtime_ns = max(_EARLIEST_NS, min(mtime_ns, _LATEST_NS))
        live = self._files.live(ino)
        if mtime_ns is not None and live is not None:
            self._files.flush(live)
            live.mtime_ns = mtime_ns
        if permissions is not None or mtime_ns is not None:
            self._tree.set_attributes(ino, mode=permissions, mtime_ns=mtime_ns)
        return self._attributes(self._tree.node(ino))

    async def _truncate(self, node: Node, size: int, handle: HandleId | None) -> None:
        if node.folder:
            raise PosixError(errno.EISDIR, node.name)
        if size > _MAX_FILE_BYTES:
            raise PosixError(errno.EFBIG, node.name)
        if handle is not None:
            file = self._handles.file(handle)
            self._require_room(file.room, file.ino, file.content, size)
            await self._files.truncate(file.content, size)
            return
        require(node, "W", node.name)
        self._require_alive(node)
        # Held like an open file: another client's version gets an inode of its own meanwhile.
        self._residents.opened(node.ino)
        try:
            content = await self._files.acquire(node)
            try:
                self._require_room(self._room(node), node.ino, content, size)
                await self._files.truncate(content, size)
                self._files.flush(content)
            finally:
                self._files.release(content)
        finally:
            if self._residents.closed(node.ino):
                self._tree.collect(node.ino)

    def _require_alive(self, node: Node) -> None:
        """ESTALE for a node that is neither here nor on the server: what is written to it would go nowhere.

        One that somebody has open lives on: written, it gets a name again if it was the server that took it.
        """
        if not node.linked and not node.synced and not self._residents.is_open(node.ino):
            raise PosixError(errno.ESTALE, node.name)

    def _attributes(self, node: Node) -> Attributes:
        live = self._files.live(node.ino)
        return attributes_of(node, live if live is not None and live.unflushed else None)

    def space(self) -> Space:
        """Return the account's quota, from memory."""
        return self._space()

    # Files

    async def create(
        self, parent: Ino, name: bytes, permissions: int, flags: int
    ) -> tuple[Opened, Attributes]:
        """Create a file and open it; without O_EXCL open what is there, EISDIR for a folder.

        The kernel asks for this also where another client made the file since it last looked.
        """
        try:
            folder, stored = await self._tree.free_name(parent, name, Kind.FILE)
        except PosixError as error:
            if error.errno != errno.EEXIST or flags & os.O_EXCL:
                raise
            there = (await self._tree.lookup(parent, name)).ino
            return await self.open(there, flags), self._attributes(self._tree.node(there))
        node = self._tree.create(folder, stored, Kind.FILE, _kept(permissions, 0o666))
        opened = await self._open(node, flags)
        return opened, self._attributes(self._tree.node(node.ino))

    async def open(self, ino: Ino, flags: int) -> Opened:
        """Open a file for what `flags` say; O_TRUNC cuts it without fetching anything.

        The handle stays with the content it was opened on: what another client uploads meanwhile is seen by
        the next open only. ESTALE for a file that is gone and nobody has open: the kernel looks the name up again.
        So it does, and learns the new size, where a file to be appended to has got another version meanwhile: the
        kernel says where appended bytes go, and asks for no size between opening and writing.
        """
        known = self._tree.node(ino) if flags & os.O_APPEND else None
        node = await self._tree.current(ino)
        if node.folder:
            raise PosixError(errno.EISDIR, node.name)
        if known is not None and node.size != known.size:
            raise PosixError(errno.ESTALE, node.name)
        return await self._open(node, flags)

    async def _open(self, node: Node, flags: int) -> Opened:
        writes, cuts = flags & os.O_ACCMODE != os.O_RDONLY, bool(flags & os.O_TRUNC)
        if writes or cuts:
            require(node, "W", node.name)
        self._require_alive(node)
        self._residents.opened(node.ino)
        try:
            content = await self._files.acquire(node)
        except BaseException:
            if self._residents.closed(node.ino):
                self._settle(node.ino)
            raise
        self._tree.opened(node.ino)
        pattern = self._new_pattern()
        if flags & os.O_DIRECT:
            pattern.close()  # the kernel guesses nothing there
        # Who only reads is never short of room.
        room = self._room(node) if writes else Room.of(node, None)
        file = FileHandle(node.ino, content, pattern, room, writes=writes)
        handle = self._handles.add(file)
        content.writers += writes
        if cuts:
            try:
                await self._files.truncate(content, 0)
            except BaseException:
                await self.release(handle)
                raise
        keep = self._kernel_pages.get(node.ino) == content.version
        self._kernel_pages[node.ino] = content.version
        return Opened(handle, keep_cache=keep)

    async def read(self, handle: HandleId, offset: int, size: int) -> Octets:
        """Return `size` bytes, fewer only at the end; ESTALE when the version is gone, else as the network fails."""
        file = self._handles.file(handle)
        return await self._files.read(file.content, offset, size, file.pattern)

    async def write(self, handle: HandleId, offset: int, data: bytes) -> int:
        """Take all bytes; they survive a killed process from `flush` on."""
        file = self._handles.file(handle)
        if offset + len(data) > _MAX_FILE_BYTES:
            raise PosixError(errno.EFBIG)
        self._require_room(file.room, file.ino, file.content, offset + len(data))
        return await self._files.write(file.content, offset, data)

    def _room(self, node: Node) -> Room:
        return Room.of(node, None if node.parent is None else self._store.nodes.get(node.parent))

    def _require_room(self, room: Room, ino: Ino, content: FileContent, size: int) -> None:
        if size <= content.size or not room.lacks(size, space := self._space()):
            return
        # Looked at again before anything is refused: of an open file a part may have gone up since.
        node = self._store.nodes.get(ino)
        now = room if node is None else self._room(node)
        now.require(size, space, self._may_be_free(), room)

    async def flush(self, handle: HandleId) -> None:
        """Flush as for close(2): what was written is safe from a killed process when this returns."""
        file = self._handles.file(handle)
        file.pattern.close()
        self._files.flush(file.content)

    async def fsync(self, handle: HandleId, *, data_only: bool) -> None:  # noqa: ARG002  # both are kept together
        """Make what was written safe from a power cut; the server is not waited for."""
        await self._files.fsync(self._handles.file(handle).content)

    async def release(self, handle: HandleId) -> None:
        """The last descriptor of an open is gone. Never fails."""
        file = self._handles.remove_file(handle)
        file.pattern.release()
        try:
            self._files.flush(file.content)
        except CloudfsError as error:
            # A close before this one has failed with the same; all that is left is to say so.
            _log.error("%s: what was written last could not be kept: %s", self._named(file.ino), error)
        finally:
            self._closed(file)

    def _closed(self, file: FileHandle) -> None:
        """Nobody uses the handle any more; a file that counts as open for ever is never sent and never goes."""
        content = file.content
        content.writers -= file.writes
        self._files.release(content)
        if self._residents.closed(file.ino):
            self._kernel_pages.pop(file.ino, None)
        else:
            # Local writes went through the kernel's pages, so those are of the version written here.
            self._kernel_pages[file.ino] = content.version
        self._settle(file.ino)

    def _settle(self, ino: Ino) -> None:
        """A handle was closed: what waited for that may be sent, or go."""
        try:
            node = self._store.nodes.get(ino)
            if node is not None and node.dirty:
                self._tree.closed(ino)
            if node is not None and not node.linked:
                self._tree.collect(ino)
        except CloudfsError as error:
            # Its row stays until the next start, which collects what nobody holds.
            _log.error("%s could not be given up: %s", self._named(ino), error)

    def _named(self, ino: Ino) -> str:
        return self._tree.path(ino) or f"a file that is gone (inode {ino})"

    # Folders

    async def open_folder(self, ino: Ino) -> HandleId:
        """Open a folder; waits for the server only where its members were never seen."""
        self._tree.folder(ino)
        await self._lister.ensure_listed(ino, reading=True)
        return self._handles.add(FolderHandle(ino))

    async def read_folder(self, handle: HandleId, after: int) -> Iterator[FolderEntry]:
        """Iterate over the entries behind position `after`, as the folder was when it was read from its start."""
        folder = self._handles.folder(handle)
        if after == 0 or folder.members is None:
            # rewinddir(3) shows the folder as it is now.
            folder.members = await self._store.child_inos(folder.ino)
        return self._entries(folder.ino, folder.members, after)

    def _entries(self, folder: Ino, members: array[int], after: int) -> Iterator[FolderEntry]:
        for start in range(after, len(members), _PAGE):
            page = members[start : start + _PAGE]
            nodes = self._store.nodes.get_many(page)
            for position, ino in enumerate(page, start + 1):
                node = nodes.get(ino)
                if node is not None and node.parent == folder:
                    yield FolderEntry(node.name, self._attributes(node), position)

    async def fsync_folder(self, handle: HandleId) -> None:
        """Sync a folder: created, renamed and removed names survive a power cut."""
        self._handles.folder(handle)
        await self._store.make_durable()

    async def release_folder(self, handle: HandleId) -> None:
        """Close a folder."""
        self._handles.remove_folder(handle)

    async def close(self) -> None:
        """Make everything acknowledged so far safe: the mount is going away."""
        await self._files.wait_idle()


_PAGE = 128
_EARLIEST_NS, _LATEST_NS = -(2**63), 2**63 - 1
"""What an integer of the database holds; a time that is farther away becomes the nearest of these."""


def _kept(permissions: int, usual: int) -> int | None:
    """Return the mode to keep: None where it is what every new node has under the usual umask."""
    wanted = permissions & 0o7777
    return None if wanted == usual & ~0o022 else wanted

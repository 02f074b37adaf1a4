"""A file system in memory: the smallest thing that obeys `fuse.filesystem.FileSystem`, with faults by name.

Names that misbehave when looked up: `boom` raises a bug, `hang` never answers, `group` raises a group,
`stale` raises an expected remote error.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import trio

from cloudfs.errors import Changed, PosixError
from cloudfs.types import ROOT, Ino, Kind
from cloudfs.vfs.records import Attributes, FolderEntry, HandleId, Opened, RenameMode, Space

NEVER = b"reading this takes for ever"


@dataclass
class Node:
    ino: Ino
    kind: Kind
    permissions: int
    data: bytearray = field(default_factory=bytearray)
    members: dict[str, tuple[int, Ino]] = field(default_factory=dict)
    links: int = 1
    mtime_ns: int = field(default_factory=time.time_ns)
    claimed_size: int | None = None

    def attributes(self) -> Attributes:
        size = len(self.data) if self.claimed_size is None else self.claimed_size
        links = 2 if self.kind is Kind.FOLDER else self.links
        return Attributes(self.ino, self.kind, self.permissions, size, self.mtime_ns, self.mtime_ns, links)


class MemoryFileSystem:
    def __init__(self) -> None:
        self.nodes = {ROOT: Node(ROOT, Kind.FOLDER, 0o755)}
        self.lookups: Counter[Ino] = Counter()
        self.calls: list[tuple[object, ...]] = []
        self.failing_releases = 0
        """How many releases from now on fail, of which nobody hears."""
        self.keep_cache = True
        self.write_short = False
        self._inos = itertools.count(2)
        self._positions = itertools.count(1)
        self._handle_ids = itertools.count(1)
        self.handles: dict[HandleId, tuple[Ino, int]] = {}

    # --- for tests

    def add(self, parent: Ino, name: str, data: bytes | None = b"", permissions: int = 0o644) -> Ino:
        """Put a file, or with None a folder, into the tree without the kernel's knowledge."""
        ino = Ino(next(self._inos))
        kind = Kind.FOLDER if data is None else Kind.FILE
        self.nodes[ino] = Node(ino, kind, 0o755 if data is None else permissions, bytearray(data or b""))
        self.nodes[parent].members[name] = (next(self._positions), ino)
        return ino

    def find(self, parent: Ino, name: str) -> Ino:
        try:
            return self.nodes[parent].members[name][1]
        except KeyError:
            raise PosixError(errno.ENOENT, name) from None

    # --- FileSystem

    async def lookup(self, parent: Ino, name: bytes) -> Attributes:
        self.calls.append(("lookup", parent, name))
        if name == b"boom":
            raise ValueError(name)
        if name == b"group":
            raise ExceptionGroup("two", [PosixError(errno.EACCES), PosixError(errno.EACCES)])
        if name == b"stale":
            raise Changed("moved on", subject="/stale", status=412)
        if name == b"hang":
            await trio.sleep_forever()
        return self.nodes[self.find(parent, name.decode())].attributes()

    def remember(self, ino: Ino) -> None:
        self.lookups[ino] += 1

    async def forget(self, ino: Ino, count: int) -> None:
        self.calls.append(("forget", ino, count))
        self.lookups[ino] -= count
        if ino not in self.nodes:
            raise KeyError(ino)
        if self.lookups[ino] <= 0 and self.nodes[ino].links == 0:
            del self.nodes[ino]

    async def getattr(self, ino: Ino) -> Attributes:
        self.calls.append(("getattr", ino))
        return self.nodes[ino].attributes()

    async def setattr(
        self,
        ino: Ino,
        *,
        size: int | None,
        permissions: int | None,
        mtime_ns: int | None,
        handle: HandleId | None,
    ) -> Attributes:
        self.calls.append(("setattr", ino, size, permissions, mtime_ns, handle is not None))
        node = self.nodes[ino]
        if size is not None:
            del node.data[size:]
            node.data.extend(bytes(size - len(node.data)))
        node.permissions = node.permissions if permissions is None else permissions
        node.mtime_ns = node.mtime_ns if mtime_ns is None else mtime_ns
        return node.attributes()

    def _open(self, ino: Ino, flags: int) -> Opened:
        if flags & os.O_TRUNC:
            self.nodes[ino].data.clear()
        handle = HandleId(next(self._handle_ids))
        self.handles[handle] = (ino, flags)
        return Opened(handle, self.keep_cache)

    async def open(self, ino: Ino, flags: int) -> Opened:
        self.calls.append(("open", ino, bool(flags & os.O_TRUNC), bool(flags & os.O_APPEND)))
        return self._open(ino, flags)

    async def create(
        self, parent: Ino, name: bytes, permissions: int, flags: int
    ) -> tuple[Opened, Attributes]:
        self.calls.append(("create", parent, name, permissions))
        ino = self.add(parent, name.decode(), b"", permissions)
        return self._open(ino, flags), self.nodes[ino].attributes()

    async def read(self, handle: HandleId, offset: int, size: int) -> bytes:
        self.calls.append(("read", offset, size))
        if self.nodes[self.handles[handle][0]].data == NEVER:
            await trio.sleep_forever()
        return bytes(self.nodes[self.handles[handle][0]].data[offset : offset + size])

    async def write(self, handle: HandleId, offset: int, data: bytes) -> int:
        ino, flags = self.handles[handle]
        content = self.nodes[ino].data
        if flags & os.O_APPEND:
            offset = len(content)
        content.extend(bytes(max(offset - len(content), 0)))
        content[offset : offset + len(data)] = data
        return len(data) - 1 if self.write_short else len(data)

    async def flush(self, handle: HandleId) -> None:
        self.calls.append(("flush",))
        if self.nodes[self.handles[handle][0]].data.startswith(b"full"):
            raise OSError(errno.ENOSPC, "disk full")

    async def release(self, handle: HandleId) -> None:
        del self.handles[handle]
        if self.failing_releases:
            self.failing_releases -= 1
            raise RuntimeError("nobody hears this")

    async def fsync(self, handle: HandleId, *, data_only: bool) -> None:
        self.calls.append(("fsync", data_only))
        assert handle in self.handles

    async def mkdir(self, parent: Ino, name: bytes, permissions: int) -> Attributes:
        if name.decode() in self.nodes[parent].members:
            raise PosixError(errno.EEXIST)
        node = self.nodes[self.add(parent, name.decode(), None)]
        node.permissions = permissions
        return node.attributes()

    async def rmdir(self, parent: Ino, name: bytes) -> None:
        if self.nodes[self.find(parent, name.decode())].members:
            raise PosixError(errno.ENOTEMPTY)
        del self.nodes[parent].members[name.decode()]

    async def unlink(self, parent: Ino, name: bytes) -> None:
        node = self.nodes[self.find(parent, name.decode())]
        del self.nodes[parent].members[name.decode()]
        node.links = 0

    async def rename(
        self, parent: Ino, name: bytes, new_parent: Ino, new_name: bytes, mode: RenameMode
    ) -> None:
        self.calls.append(("rename", mode))
        source, target = self.nodes[parent].members, self.nodes[new_parent].members
        old, new = name.decode(), new_name.decode()
        if mode & RenameMode.NO_REPLACE and new in target:
            raise PosixError(errno.EEXIST)
        if mode & RenameMode.EXCHANGE:
            source[old], target[new] = target[new], source[old]
        else:
            target[new] = source.pop(old)

    async def open_folder(self, ino: Ino) -> HandleId:
        handle = HandleId(next(self._handle_ids))
        self.handles[handle] = (ino, 0)
        return handle

    async def read_folder(self, handle: HandleId, after: int) -> Iterable[FolderEntry]:
        self.calls.append(("read_folder", after))
        return self._entries(self.handles[handle][0], after)

    def _entries(self, ino: Ino, after: int) -> Iterator[FolderEntry]:
        # Positions ascend with insertion, so the fake may walk instead of keeping an index.
        for name, (position, member) in list(self.nodes[ino].members.items()):
            if position > after:
                yield FolderEntry(name, self.nodes[member].attributes(), position)
            if name == "cracked":
                raise RuntimeError("the listing breaks off")

    async def release_folder(self, handle: HandleId) -> None:
        del self.handles[handle]

    async def fsync_folder(self, handle: HandleId) -> None:
        self.calls.append(("fsync_folder", handle))

    def space(self) -> Space:
        return Space(total=10 * 2**30, free=4 * 2**30, name_bytes=227)

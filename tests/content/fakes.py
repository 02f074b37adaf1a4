"""A server and a block cache in memory: scripted faults, virtual time, and a record of what was asked."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

import trio

from cloudfs.content.source import Source, Whereabouts
from cloudfs.errors import Changed, NotFound, ProtocolViolation, RemoteError, Unreachable
from cloudfs.types import ContentVersion, Ino, Octets, RemotePath, RemoteVersion

MIB = 1024 * 1024
KIB = 1024


@cache
def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@dataclass
class Fault:
    """What goes wrong with one request: after so many bytes an error, or silence, as long as a Remote bears it."""

    after_bytes: int = 0
    error: Callable[[], RemoteError] | None = None

    @classmethod
    def cut(cls, after_bytes: int) -> Fault:
        return cls(after_bytes, lambda: ProtocolViolation("the reply ended early"))

    @classmethod
    def reset(cls, after_bytes: int) -> Fault:
        return cls(after_bytes, lambda: Unreachable("connection reset"))

    @classmethod
    def silence(cls, after_bytes: int) -> Fault:
        return cls(after_bytes, None)


@dataclass
class Request:
    path: RemotePath
    start: int
    stop: int
    sent_bytes: int = 0
    open: bool = True
    closed_at_s: float | None = None


@dataclass
class FakeRemote:
    """The reading part of a Remote. Each request takes `latency_s`, then bytes come at `bytes_per_s`."""

    latency_s: float = 0.025
    bytes_per_s: float = 100 * MIB
    chunk_bytes: int = 64 * KIB
    closing_s: float = 0.0
    files: dict[RemotePath, tuple[RemoteVersion, bytes]] = field(default_factory=dict)
    faults: list[Fault | None] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    most_open: int = 0
    flips: list[int] = field(default_factory=list)
    """For each next request: what the first byte of the file is changed by on its way."""

    def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        assert 0 <= start < stop <= expect.size
        return self._stream(path, start, stop, expect)

    @asynccontextmanager
    async def _stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        request = Request(path, start, stop)
        self.requests.append(request)
        assert len(self.requests) < 5000, "requests without end"
        self.most_open = max(self.most_open, len(self.open_requests))
        fault = self.faults.pop(0) if self.faults else None
        flip = self.flips.pop(0) if self.flips else 0
        try:
            await trio.sleep(self.latency_s)
            if fault is not None and fault.after_bytes == 0:
                await self._happen(fault)
            if path not in self.files:
                raise NotFound("not there", subject=path, status=404)
            version, data = self.files[path]
            if version != expect:
                raise Changed("another version", subject=path, status=412)
            sent = bytes([data[0] ^ flip]) + data[1:] if flip else data
            yield _Body(self, request, sent, fault)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.closing_s)
            request.open = False
            request.closed_at_s = trio.current_time()

    async def _happen(self, fault: Fault) -> None:
        if fault.error is None:
            await trio.sleep(10)
            raise Unreachable("no answer for 10 s")
        raise fault.error()

    @property
    def open_requests(self) -> list[Request]:
        return [request for request in self.requests if request.open]

    @property
    def spans(self) -> list[tuple[int, int]]:
        return [(request.start, request.stop) for request in self.requests]

    @property
    def sent_bytes(self) -> int:
        return sum(request.sent_bytes for request in self.requests)


class _Body:
    def __init__(self, remote: FakeRemote, request: Request, data: bytes, fault: Fault | None) -> None:
        self._remote = remote
        self._request = request
        self._data = data
        self._fault = fault

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        request = self._request
        at = request.start + request.sent_bytes
        size = min(self._remote.chunk_bytes, request.stop - at)
        if self._fault is not None:
            size = min(size, self._fault.after_bytes - request.sent_bytes)
            if size <= 0 and at < request.stop:
                await self._remote._happen(self._fault)
        if size <= 0:
            raise StopAsyncIteration
        await trio.sleep(size / self._remote.bytes_per_s)
        request.sent_bytes += size
        return self._data[at : at + size]


@dataclass
class FakeBlocks:
    """A block cache of `limit` blocks; the oldest goes first. `put_s` makes it a slow disk."""

    limit: int = 10**9
    put_s: float = 0.0
    get_s: float = 0.0
    fail_puts: bool = False
    damaged: set[tuple[int, int, int]] = field(default_factory=set)
    gets: int = 0
    puts: int = 0
    transactions: int = 0
    blocks: OrderedDict[tuple[int, int, int], bytes] = field(default_factory=OrderedDict)

    def has(self, ino: Ino, version: ContentVersion, index: int) -> bool:
        return (ino, version, index) in self.blocks

    def missing(self, ino: Ino, version: ContentVersion, indexes: Sequence[int]) -> list[int]:
        assert len(indexes) < 1 << 20, "nobody goes through all that a server may say there is"
        return [index for index in indexes if not self.has(ino, version, index)]

    def held_bytes(self, ino: Ino, version: ContentVersion) -> int:
        return sum(len(data) for key, data in self.blocks.items() if key[:2] == (ino, version))

    async def get(self, ino: Ino, version: ContentVersion, index: int) -> bytes | None:
        self.gets += 1
        await trio.sleep(self.get_s)
        key = (ino, version, index)
        return None if key in self.damaged else self.blocks.get(key)

    async def put(self, ino: Ino, version: ContentVersion, index: int, data: Octets) -> None:
        await trio.sleep(self.put_s)
        if self.fail_puts:
            raise OSError(28, "no space left on device")
        self.puts += 1
        self.damaged.discard((ino, version, index))
        self.blocks[ino, version, index] = bytes(data)
        while len(self.blocks) > self.limit:
            self.blocks.popitem(last=False)

    async def drop(self, ino: Ino, version: ContentVersion) -> None:
        await trio.lowlevel.checkpoint()
        for key in [key for key in self.blocks if key[:2] == (ino, version)]:
            del self.blocks[key]

    async def put_many(self, blocks: Sequence[tuple[Ino, ContentVersion, int, Octets]]) -> None:
        self.transactions += 1
        for block in blocks:
            await self.put(*block)


@dataclass
class World:
    """One file per inode, at /INO on the server."""

    remote: FakeRemote = field(default_factory=FakeRemote)
    blocks: FakeBlocks = field(default_factory=FakeBlocks)
    paths: dict[Ino, RemotePath] = field(default_factory=dict)
    names: dict[Source, RemoteVersion] = field(default_factory=dict)
    """How the server names a version now, where that has changed."""
    versions: int = 0

    def file(self, data: bytes, ino: int = 7, checksum: str | None = None) -> Source:
        """Put a new version of the file on the server."""
        self.versions += 1
        remote = RemoteVersion(f"e{self.versions}", len(data), self.versions, checksum)
        path = self.paths.setdefault(Ino(ino), RemotePath(f"/{ino}"))
        self.remote.files[path] = remote, data
        return Source(Ino(ino), ContentVersion(self.versions), remote)

    def locate(self, source: Source) -> Whereabouts:
        return Whereabouts(self.paths[source.ino], self.names.get(source, source.remote))

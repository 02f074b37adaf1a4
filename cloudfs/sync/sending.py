"""How far the uploads are that are under way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec
import trio

from cloudfs.remote.protocol import Body

__all__ = ["CountedBody", "Sent", "Uploads"]


class Sent(msgspec.Struct, frozen=True):
    """One upload at this moment."""

    path: str
    done_bytes: int
    """Of the file; also what the server had before this request."""
    size_bytes: int
    bytes_per_s: float
    """Since it began; what was not sent now does not count."""


class Uploads:
    """Those of one account, for people only: nothing is decided by it. NO CHECKPOINT in here."""

    def __init__(self) -> None:
        self._running: list[_Upload] = []

    def under_way(self) -> list[Sent]:
        """Return them, the oldest first."""
        return [upload.sent() for upload in self._running]

    @contextmanager
    def counted(self, path: str, body: Body, size: int, base_bytes: int = 0) -> Iterator[Body]:
        """Hand out a body in the place of `body`, and count what is taken of it within the block."""
        upload = _Upload(path, body, size, base_bytes)
        self._running.append(upload)
        try:
            yield upload.body
        finally:
            self._running.remove(upload)


class _Upload:
    def __init__(self, path: str, body: Body, size: int, base_bytes: int) -> None:
        self._path = path
        self._size = size
        self._base_bytes = base_bytes
        self._began_s = trio.current_time()
        self.body = CountedBody(body)

    def sent(self) -> Sent:
        took_s = max(trio.current_time() - self._began_s, 0.001)
        done = min(self._base_bytes + self.body.position, self._size)
        return Sent(self._path, done, self._size, self.body.taken_bytes / took_s)


class CountedBody:
    """A body of which is known how much was taken."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.position = 0
        """Up to where, in bytes."""
        self.taken_bytes = 0
        self.furthest = 0
        """Up to where at most, of all that it was asked for: what lies beyond nobody can have."""

    def __call__(self, start: int = 0) -> AsyncIterator[bytes]:
        """Return the chunks from `start` on."""
        self.position = start
        return _Chunks(self, self._body(start))


class _Chunks:
    """A body's chunks. No generator: nobody would close it where a body is left early."""

    def __init__(self, counted: CountedBody, chunks: AsyncIterator[bytes]) -> None:
        self._counted = counted
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._counted.position += len(chunk)
        self._counted.taken_bytes += len(chunk)
        self._counted.furthest = max(self._counted.furthest, self._counted.position)
        return chunk

    async def aclose(self) -> None:
        if close := getattr(self._chunks, "aclose", None):
            await close()

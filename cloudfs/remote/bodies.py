"""Bodies on their way: uploads of a promised length, replies in bounded pieces."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator

import httpx

from cloudfs.errors import LocalDamage, ProtocolViolation
from cloudfs.remote.protocol import Body

__all__ = ["Inflater", "Upload", "Whole", "part_of"]

_PIECE_BYTES = 32 * 1024
"""Decompressed bytes handed on at once: some 60 objects of a listing, 3 ms of parsing (measured)."""


class Upload(httpx.AsyncByteStream):
    """The body of one PUT: exactly `size` bytes from `body`, or LocalDamage.

    An iterator and no generator on purpose: when a server answers early, the HTTP library drops it half-used, and
    a dropped generator would be closed by the garbage collector at some later moment.
    """

    def __init__(self, body: Body, size: int, begins: Callable[[], None] = lambda: None) -> None:
        """`begins` is called as the connection is there, and the first bytes are about to go."""
        self._body = body
        self._size = size
        self._begins = begins
        self._sent = 0
        self._chunks: AsyncIterator[bytes] | None = None

    @property
    def is_given(self) -> bool:
        """The last byte was handed to the connection: the server has it all, or is about to."""
        return self._sent >= self._size

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._chunks = self._body()
        self._sent = 0
        self._begins()
        return self

    async def __anext__(self) -> bytes:
        if self._chunks is None:
            raise StopAsyncIteration
        try:
            chunk = await anext(self._chunks, b"")
        except OSError as error:
            # Ours, not the network's, as which it would be taken from here on.
            raise LocalDamage("the file to upload cannot be read") from error
        if not chunk and self._sent < self._size:
            raise LocalDamage(f"the file to upload ended after {self._sent} of {self._size} bytes")
        self._sent += len(chunk)
        if self._sent > self._size:
            raise LocalDamage(f"the file to upload has more than the promised {self._size} bytes")
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close the source, however much of it was used."""
        chunks, self._chunks = self._chunks, None
        if close := getattr(chunks, "aclose", None):
            await close()


class Whole(httpx.AsyncByteStream):
    """A small body, sent at once; like `Upload` no generator that a broken connection would leave behind."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._sent = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._sent = not self._body
        return self

    async def __anext__(self) -> bytes:
        if self._sent:
            raise StopAsyncIteration
        self._sent = True
        return self._body


class Inflater:
    """Undoes gzip piece by piece, so that a small reply cannot become large at once."""

    def __init__(self, encoding: str | None) -> None:
        name = (encoding or "identity").strip().lower()
        if name not in {"identity", "gzip", "x-gzip", "deflate"}:
            raise ProtocolViolation(f"the reply is encoded as {name[:40]!r}, which was not asked for")
        # 32: gzip and zlib headers are told apart by zlib itself.
        self._zlib = None if name == "identity" else zlib.decompressobj(32 + zlib.MAX_WBITS)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what this piece of the body means, in pieces of at most 32 KiB; ProtocolViolation where it is none."""
        if self._zlib is None:
            for start in range(0, len(data), _PIECE_BYTES):
                yield data[start : start + _PIECE_BYTES]
            return
        try:
            while data:
                if self._zlib.eof:
                    # Zlib would keep it, all that ever comes, and copy that with each piece.
                    raise ProtocolViolation("the reply goes on behind its compressed end")
                if piece := self._zlib.decompress(data, _PIECE_BYTES):
                    yield piece
                data = self._zlib.unconsumed_tail or self._zlib.unused_data
        except zlib.error as error:
            raise ProtocolViolation("the reply cannot be decompressed") from error

    def close(self) -> None:
        """Raise ProtocolViolation where the compressed body is not complete."""
        if self._zlib is not None and not self._zlib.eof:
            raise ProtocolViolation("the reply was cut")


def part_of(body: Body, start: int, stop: int) -> Body:
    """Return the bytes [start, stop) of a body as one of their own."""

    def piece(at: int = 0) -> AsyncIterator[bytes]:
        return _Part(body(start + at), stop - start - at)

    return piece


class _Part:
    """The first bytes of a stream. No generator: see `Upload`."""

    def __init__(self, chunks: AsyncIterator[bytes], length: int) -> None:
        self._chunks = chunks
        self._left = length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        chunk = (await anext(self._chunks))[: self._left]
        self._left -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        if close := getattr(self._chunks, "aclose", None):
            await close()

"""One request and its answer, whose body comes as it is wanted: raw, in pieces, or whole.

Long bodies are read straight from the connection (`wire`), in pieces as large as they come.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from enum import Enum
from typing import Self

import httpx
import msgspec
import trio

from cloudfs.errors import ProtocolViolation, RemoteError, Unreachable
from cloudfs.remote.bodies import Inflater, Upload
from cloudfs.remote.failures import NETWORK_ERRORS, Failure, error_of_exception, error_of_reply
from cloudfs.remote.values import whole_number
from cloudfs.remote.wire import BodyStream
from cloudfs.types import BLOCK_SIZE, Octets

__all__ = ["READS", "Lane", "Reply", "Request", "WholeReply"]

READS = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH"})
"""What changes nothing, and may be sent twice whatever became of the first."""

_MAX_ERROR_BYTES = 64 * 1024
_WHOLE_S = 120.0
"""For a reply that is read whole, once its head is there; 4 MiB at most, so at 35 KiB/s."""
_MAX_CHUNK_BYTES = 1024 * 1024
_STRAIGHT_FROM_BYTES = BLOCK_SIZE
"""Of shorter ones the memory for a whole block costs more than HTTP's parser."""
_WORTH_A_CONNECTION_BYTES = 8 * 1024 * 1024
"""From this length on they are worth it where the connection is not used again: one round trip, three with TLS."""
_THIN_BYTES = 256 * 1024
_GATHER_S = 0.001
"""Every piece of a body costs the same 0.1 ms on its way up. Whoever is as quick as the network finds little at a time,
and lets so much more come together; on a line of 250 MB/s that is one piece of 256 KiB instead of four."""


class Lane(Enum):
    """What competes for connections only with its own kind."""

    METADATA = "metadata"
    """Small requests that somebody may be waiting for."""
    RANGES = "ranges"
    """Bounded pieces of files."""
    STREAMS = "streams"
    """Long downloads, as fast as their reader."""
    UPLOADS = "uploads"
    BULK = "bulk"
    """Many files in one request. Without the session: with it each such request would end it (protocol.md, rule 3)."""


class Request(msgspec.Struct, frozen=True):
    """One request; `subject` is what errors name."""

    method: str
    url: str
    subject: str
    headers: dict[str, str] = {}
    content: bytes | Callable[[], Upload] = b""
    lane: Lane = Lane.METADATA
    silence_s: float | None = None
    """None: `Limits.read_s`."""
    follow: bool = True
    """Follow redirects within the origin; only reads ever do."""
    tells_of_login: bool = True
    """A refusal (401) is about the login. Not on pages of the web interface, before which an administrator may have put
    a guard of its own."""
    by_session: bool = True
    """Going by a session that has ended, without the password, it is refused (401), not served as a stranger."""
    severable: bool = False
    """The server makes nothing of a part of its body, so it may be cut."""


class WholeReply(msgspec.Struct, frozen=True):
    """A reply read to its end, decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Reply:
    """A reply whose body is still to come."""

    def __init__(self, response: httpx.Response, request: Request, silence_s: float) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._request = request
        self._silence_s = silence_s
        self._chunks: AsyncIterator[bytes] | None = None
        self._ended = False
        self._comes_thinly = False
        self._connection, self._left = _straight(response, request)

    async def read_raw(self, most: int = _MAX_CHUNK_BYTES) -> Octets:
        """Return the next bytes of the body as sent, none at the end.

        At most `most` bytes of a long body, after which a block of the file is to end; about 1 MiB of others, however
        they come from the network.
        Raises Unreachable or ProtocolViolation where the body ends before its announced length.
        """
        if self._ended:
            return b""
        try:
            chunk = await (self._read_http() if self._connection is None else self._read_straight(most))
        except NETWORK_ERRORS as error:
            self._ended = True
            raise error_of_exception(error, self._request.subject, in_body=True) from error
        self._ended = not chunk
        return chunk

    async def _read_http(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._response.aiter_raw()
        return await anext(self._chunks, b"")

    async def _read_straight(self, most: int) -> Octets:
        if self._connection is None or not self._left:
            return b""
        if self._comes_thinly:
            await trio.sleep(_GATHER_S)
        chunk = await self._connection.read_body(most, min(most, self._left), self._silence_s)
        if not chunk:
            raise httpx.RemoteProtocolError("the connection was closed within the body")
        self._left -= len(chunk)
        self._comes_thinly = len(chunk) < min(most, _THIN_BYTES) and self._left > _MAX_CHUNK_BYTES
        return chunk

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the decompressed body in pieces of at most 32 KiB, with a checkpoint after each."""
        inflater = Inflater(self.headers.get("Content-Encoding"))
        while raw := await self.read_raw():
            for piece in inflater.feed(bytes(raw)):
                yield piece
                await trio.lowlevel.checkpoint()
        inflater.close()

    async def read_all(self, limit: int) -> bytes:
        """Return the whole decompressed body; ProtocolViolation above `limit` bytes, Unreachable after `_WHOLE_S`."""
        with trio.move_on_after(_WHOLE_S):
            return await self._read_to_end(limit)
        # Each piece came before anybody could call it silence: whoever waits for more waits for ever.
        raise Unreachable("the reply does not end", subject=self._request.subject)

    async def _read_to_end(self, limit: int) -> bytes:
        inflater = Inflater(self.headers.get("Content-Encoding"))
        body = bytearray()
        while raw := await self.read_raw():
            for piece in inflater.feed(bytes(raw)):
                body += piece
                if len(body) > limit:
                    raise ProtocolViolation(
                        f"the reply is larger than {limit} bytes", subject=self._request.subject
                    )
        inflater.close()
        return bytes(body)

    async def require(self, *statuses: int) -> Self:
        """Return self where the status is one of these; otherwise read the reason and raise its error."""
        if self.status in statuses:
            return self
        raise error_of_reply(await self.failure())

    async def failure(self) -> Failure:
        """Read the body of a failed reply; a body that cannot be read is taken as empty."""
        try:
            body = await self.read_all(_MAX_ERROR_BYTES)
        except RemoteError:
            body = b""
        return Failure(self._request.method, self._request.subject, self.status, self.headers, body)

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body was not read to its end.

        The generators inside httpx and httpcore do not close each other. So a body left early is ended from below: its
        socket is closed and the next read fails through all of them, instead of leaving them to the garbage collector.
        """
        with trio.CancelScope(shield=True):
            if self._connection is not None:
                goes_on = not self._left and _goes_on(self._response)
                await (self._connection.put_aside() if goes_on else self._connection.aclose())
            elif self._chunks is not None and not self._ended:
                if stream := self._response.extensions.get("network_stream"):
                    await stream.aclose()
                try:
                    while await anext(self._chunks, b""):
                        pass
                except NETWORK_ERRORS:
                    pass
            await self._response.aclose()


def _straight(response: httpx.Response, request: Request) -> tuple[BodyStream | None, int]:
    """Return the connection to read a long body of known length from, and that length; see `wire`."""
    length = whole_number(response.headers.get("Content-Length"))
    connection = response.extensions.get("network_stream")
    if isinstance(connection, BodyStream):
        connection.answered()
    if (
        request.lane is not Lane.STREAMS
        or response.status_code not in {200, 206}
        or length is None
        or "Transfer-Encoding" in response.headers
        or not isinstance(connection, BodyStream)
        or not connection.at_body
        or length < (_STRAIGHT_FROM_BYTES if connection.lasts else _WORTH_A_CONNECTION_BYTES)
    ):
        return None, 0
    return connection, length


def _goes_on(response: httpx.Response) -> bool:
    """Tell whether the server takes another request on the connection (RFC 9112, section 9.3)."""
    options = {option.strip().lower() for option in response.headers.get("Connection", "").split(",")}
    return response.http_version == "HTTP/1.1" and "close" not in options

"""Bytes of one exact version: what to ask for, and what to believe of the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from cloudfs.errors import Changed, ProtocolViolation, RemoteError, Unsupported
from cloudfs.remote import etags, values
from cloudfs.remote.conditions import matches
from cloudfs.remote.exchange import Lane, Reply
from cloudfs.remote.listings import stat
from cloudfs.remote.protocol import Features
from cloudfs.remote.session import Session
from cloudfs.types import BLOCK_SIZE, Octets, RemotePath, RemoteVersion

__all__ = ["Plan", "Window", "names_version", "open_window", "plan", "skip_of"]

_MAX_SKIP_BYTES = 16 * 1024 * 1024
"""What we read and throw away where a server sends whole files only."""
_MAX_DRAIN_BYTES = 64 * 1024
"""A rest this short is read to the end, so that the connection can be used again."""


class Plan(msgspec.Struct, frozen=True):
    """What is wanted, and what is asked for to get it; half-open."""

    start: int
    stop: int
    ask_start: int
    ask_stop: int
    size: int

    @property
    def whole(self) -> bool:
        """The question is for the whole file: asked without Range."""
        return self.ask_start == 0 and self.ask_stop == self.size


def plan(start: int, stop: int, size: int) -> Plan:
    """Plan the request for [start, stop) of a file of `size` bytes; ValueError outside of it, or for no bytes.

    At least two bytes are asked for: Nextcloud and SabreDAV answer `bytes=0-0` with the whole file (protocol.md,
    rule 10).
    """
    if not 0 <= start < stop <= size:
        raise ValueError(f"no bytes {start} to {stop} in a file of {size}")
    ask_start, ask_stop = start, stop
    if stop - start == 1 and size > 1:
        ask_start, ask_stop = (start, stop + 1) if stop < size else (start - 1, stop)
    return Plan(start, stop, ask_start, ask_stop, size)


def range_headers(wanted: Plan, expect: RemoteVersion, features: Features) -> dict[str, str]:
    """Return the headers of the GET.

    If-Match spares a changed file's bytes, and its read lock. Only Nextcloud gets it: elsewhere a weak ETag would
    never match, and the reply's own ETag, checked before its first byte, tells as much.
    """
    headers = {} if wanted.whole else {"Range": f"bytes={wanted.ask_start}-{wanted.ask_stop - 1}"}
    if features.nextcloud and etags.can_match(expect.etag):
        headers["If-Match"] = etags.if_match(expect.etag)
    return headers


def skip_of(
    wanted: Plan, status: int, headers: Mapping[str, str], expect: RemoteVersion, features: Features
) -> tuple[int, int]:
    """Check a 200 or 206 and return (bytes to skip, bytes of the body).

    Raises Changed for another version or size, ProtocolViolation for another range than asked for, Unsupported where
    whole files come and the wanted part is far inside.
    """
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ProtocolViolation("the file comes encoded, which was not asked for")
    length = values.whole_number(headers.get("Content-Length"))
    if status == 206:
        start, stop, total = values.content_range(headers.get("Content-Range")) or (-1, -1, -1)
        if total < 0:
            raise ProtocolViolation("a part of the file comes without saying which")
    else:
        start, stop, total = (
            0,
            wanted.size if length is None else length,
            wanted.size if length is None else length,
        )
        if length is None and not names_version(headers, expect, features):
            raise ProtocolViolation("the reply says neither which version it is, nor how long")
    _check_version(total, headers, expect, features)
    if status == 206 and (
        (start, stop) != (wanted.ask_start, wanted.ask_stop) or length not in {None, stop - start}
    ):
        raise ProtocolViolation("another part of the file came than was asked for")
    if status == 200 and wanted.start > _MAX_SKIP_BYTES:
        raise Unsupported("the server does not send parts of files")
    return wanted.start - start, stop - start


def names_version(headers: Mapping[str, str], expect: RemoteVersion, features: Features) -> bool:
    """Tell whether the head of a reply says anything of its version that a listing says, too.

    lighttpd 1.4.69 names neither ETag nor time of a file whose type it does not know, nginx 1.22 an ETag, but in
    listings only the time (measured).
    """
    if features.nextcloud or not (expect.etag or expect.modified_s):
        return True
    named = values.http_date_s(headers.get("Last-Modified")) != 0
    return named or bool(expect.etag and etags.of_headers(headers))


def _check_version(total: int, headers: Mapping[str, str], expect: RemoteVersion, features: Features) -> None:
    etag = etags.of_headers(headers)
    modified_s = values.http_date_s(headers.get("Last-Modified"))
    if not names_version(headers, expect, features):
        # Only the size can be compared; the version is looked at: see `open_window`.
        etag, modified_s = expect.etag, expect.modified_s
    elif not etag and expect.etag:
        if features.nextcloud:
            raise ProtocolViolation("the reply does not say which version it is")
        # A server that gives ETags in listings only: its time has to do.
        etag = expect.etag if modified_s == expect.modified_s else ""
    elif etag and not expect.etag and expect.modified_s and not features.nextcloud:
        # One that gives none in listings: again its time.
        etag = ""
    found = RemoteVersion(
        etag=etag,
        size=total,
        modified_s=modified_s,
        checksum=values.best_checksum([headers.get("OC-Checksum")]) if features.checksums else None,
    )
    if not matches(expect, found, features):
        raise Changed("it was changed on the server")


class Window:
    """The wanted bytes of a body: exactly these, or an error. An iterator of chunks of at most about 1 MiB.

    Where it can be had, a chunk ends where a block of the file ends: whole blocks are kept as they come.
    """

    def __init__(self, reply: Reply, subject: RemotePath, wanted: Plan, skip: int, body_length: int) -> None:
        self._reply = reply
        self._subject = subject
        self._skip = skip
        self._left = wanted.stop - wanted.start
        self._offset = wanted.start - skip
        self._body_left = body_length

    def __aiter__(self) -> Window:
        return self

    async def __anext__(self) -> Octets:
        if chunk := await self.read():
            return chunk
        raise StopAsyncIteration

    async def read(self) -> Octets:
        """Return the next wanted bytes, none at the end."""
        while self._left:
            chunk = await self._next()
            if not chunk:
                raise ProtocolViolation("the reply ended early", subject=self._subject)
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            if wanted := chunk[skipped : skipped + self._left]:
                self._left -= len(wanted)
                return wanted
        if self._body_left <= _MAX_DRAIN_BYTES:
            while await self._next():
                pass
        return b""

    async def _next(self) -> Octets:
        chunk = await self._reply.read_raw(BLOCK_SIZE - self._offset % BLOCK_SIZE)
        self._offset += len(chunk)
        self._body_left -= len(chunk)
        if self._body_left < 0:
            raise ProtocolViolation("the reply is longer than it said", subject=self._subject)
        return chunk


@asynccontextmanager
async def open_window(
    session: Session, path: RemotePath, wanted: Plan, expect: RemoteVersion, lane: Lane
) -> AsyncIterator[Window]:
    """Ask for the bytes and check the head of the reply."""
    request = session.request("GET", path, range_headers(wanted, expect, session.features), lane=lane)
    async with AsyncExitStack() as stack:
        try:
            reply = await stack.enter_async_context(session.open(request, 200, 206))
        except Changed as error:
            if error.status == 412:
                # Nextcloud's answer to If-Match for what does not exist, too: then NotFound comes out of this.
                await stat(session, path)
            raise
        try:
            skip, body_length = skip_of(wanted, reply.status, reply.headers, expect, session.features)
        except RemoteError as error:
            raise type(error)(error.message, subject=path, status=reply.status) from error
        if not names_version(reply.headers, expect, session.features):
            # The server has the file open by now. What still has the name afterwards is what it opened.
            entry = await stat(session, path)
            if not matches(expect, entry.version, session.features):
                raise Changed("it was changed on the server", subject=path)
        yield Window(reply, path, wanted, skip, body_length)

"""A request and its answer, as the endpoints see them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from tests.servers.standin.users import User

BLOCK_BYTES = 256 * 1024

Headers = list[tuple[str, str]]


class BodyCutError(Exception):
    """The client, or a fault, closed the connection in the middle of the request's body."""


class Readable(Protocol):
    """What the HTTP layer hands over as the body."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes, fewer only at the end."""


class Disconnect(Protocol):
    """Breaks the connection of a request."""

    def __call__(self, *, reset: bool = False) -> None:
        """Close it by FIN, or by RST."""


class RequestBody:
    """The body as it comes in. ``received_bytes`` counts, ``cut_after`` makes the connection break there."""

    def __init__(self, source: Readable, length: int | None, disconnect: Disconnect) -> None:
        self._source = source
        self._disconnect = disconnect
        self.length = length
        """Announced length; ``None`` for a chunked body."""
        self.received_bytes = 0
        self.cut_after: int | None = None

    def blocks(self) -> Iterator[bytes]:
        """The rest of the body; raises `BodyCutError` when it ends early."""
        while block := self._source.read(self._next_size()):
            self.received_bytes += len(block)
            yield block
        if self.cut_after is not None and self.received_bytes >= self.cut_after:
            self._disconnect()
            raise BodyCutError
        if self.length is not None and self.received_bytes < self.length:
            raise BodyCutError

    def _next_size(self) -> int:
        limits = [BLOCK_BYTES]
        if self.length is not None:
            limits.append(self.length - self.received_bytes)
        if self.cut_after is not None:
            limits.append(self.cut_after - self.received_bytes)
        return min(limits)

    def read(self) -> bytes:
        """The whole rest; only for bodies that are XML."""
        return b"".join(self.blocks())

    def drain(self) -> None:
        """Take the rest off the connection, in bounded memory, so that it can carry the next request."""
        for _ in self.blocks():
            pass


@dataclass(slots=True)
class Request:
    """One request. Header names are lower-case; ``path`` is as sent, still percent-encoded, without the query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: RequestBody
    disconnect: Disconnect
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    user: User | None = None
    app_password: str | None = None
    """The app password the request was made with, if it was one."""
    session: str | None = None

    def __post_init__(self) -> None:
        self.path, _, query = self.target.partition("?")
        self.query = dict(parse_qsl(query, keep_blank_values=True))

    def header(self, name: str, default: str = "") -> str:
        """A header's value by lower-case name."""
        return self.headers.get(name, default)

    @property
    def account(self) -> User:
        """The authenticated user; endpoints behind authentication always have one."""
        assert self.user is not None
        return self.user


@dataclass(slots=True)
class Response:
    """One answer. ``body`` may be a generator: it is closed in any case, also when the client goes away."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | Iterable[bytes] = b""
    length: int | None = None
    """``Content-Length``; without it the body goes out chunked, as PHP's do."""

    def header(self, name: str) -> str | None:
        """A header's value, or ``None``."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def close(self) -> None:
        """Release what the body holds."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()


HTML = ("Content-Type", "text/html; charset=UTF-8")
XML = ("Content-Type", "application/xml; charset=utf-8")
JSON = ("Content-Type", "application/json; charset=utf-8")


def empty(status: int, headers: Headers | None = None) -> Response:
    """An answer without a body."""
    return Response(status, [HTML, *(headers or [])], b"", length=0)


def multistatus(body: str, headers: Headers | None = None) -> Response:
    """207 with an XML body, sent chunked."""
    return Response(207, [XML, ("Vary", "Brief,Prefer"), *(headers or [])], body.encode())


def php_json(value: object) -> bytes:
    """JSON as PHP prints it: no blanks, ``/`` escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()


def http_date(timestamp: float) -> str:
    """A Last-Modified value; dates beyond what the platform can print become the last printable day."""
    return formatdate(min(timestamp, 253_402_300_799), usegmt=True)

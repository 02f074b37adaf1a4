"""GET and HEAD (protocol.md §5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote as quote_upper

from tests.servers.standin.blobs import Blob
from tests.servers.standin.dav.conditions import parse_date
from tests.servers.standin.dav.location import Location
from tests.servers.standin.dav.properties import content_type, quoted_etag
from tests.servers.standin.errors import DavError
from tests.servers.standin.messages import HTML, Headers, Request, Response, http_date
from tests.servers.standin.names import Segments
from tests.servers.standin.tree import Node

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.IGNORECASE)
_FOLDER_TEXT = (
    b"This is the WebDAV interface. It can only be accessed by WebDAV clients "
    b"such as the Nextcloud desktop sync client."
)


class LockedBody:
    """A body that holds the file's shared lock until its last block has been taken (protocol.md §14).

    The lock goes before the last block is handed out: who has received the whole body never meets its own lock.
    """

    def __init__(self, location: Location, blob: Blob, start: int, length: int) -> None:
        self._locks = location.user.locks
        self._path: Segments = location.path
        self._blob = blob
        self._start = start
        self._length = length
        self._locks.acquire_shared(self._path)
        self._held = True

    def __iter__(self) -> Iterator[bytes]:
        left = self._length
        for block in self._blob.blocks(self._start, self._length):
            left -= len(block)
            if left <= 0:
                self.close()
            yield block

    def close(self) -> None:
        """Release the lock."""
        if self._held:
            self._held = False
            self._locks.release_shared(self._path)


def get(request: Request, location: Location) -> Response:
    """The content of a file, or of a part of it; HEAD is the same without the body."""
    with location.user.tree.lock:
        node = location.existing()
        if node.is_folder:
            return Response(200, [HTML], _FOLDER_TEXT)
        if request.method == "GET":
            location.user.tree.repair(node)
        headers, blob, size = entity_headers(node), node.blob, node.size_bytes
    span = requested_span(request, node, size)
    if span is not None and request.method == "HEAD":
        raise DavError(
            500, "The body of a HEAD reply has no position", exception="TypeError", headers=_known(headers)
        )
    start, length = span or (0, size)
    if span is not None:
        headers.append(("Content-Range", f"bytes {start}-{start + length - 1}/{size}"))
    # A 0-byte file goes out chunked, without a length (§5).
    announced = length if size else None
    if request.method == "HEAD":
        # SOURCE: measured on 29.0.1: HEAD is made of a GET, and what is added after a method is added twice.
        headers += [header for header in headers if header[0] == "OC-Checksum"]
        return Response(200, headers, b"", announced)
    return Response(206 if span else 200, headers, LockedBody(location, blob, start, length), announced)


def entity_headers(node: Node) -> Headers:
    """The headers that describe a file."""
    kind = content_type(node.name)
    name = quote_upper(node.name)
    headers = [
        ("Content-Type", f"{kind};charset=UTF-8" if kind.startswith("text/") else kind),
        ("Last-Modified", http_date(node.mtime)),
        ("ETag", quoted_etag(node)),
        ("OC-ETag", quoted_etag(node)),
        ("Content-Disposition", f"attachment; filename*=UTF-8''{name}; filename=\"{name}\""),
    ]
    if node.checksum:
        headers.append(("OC-Checksum", node.checksum))
    return headers


def requested_span(request: Request, node: Node, size: int) -> tuple[int, int] | None:
    """(start, length) to send as 206, or ``None`` for the whole file as 200; 416 when out of reach."""
    match = _RANGE.fullmatch(request.header("range"))
    if match is None or match.groups() == ("", "") or not size or not _if_range_holds(request, node):
        return None
    first, last = match.groups()
    if not first:
        start = max(0, size - int(last))
        return start, size - start
    start = int(first)
    # SOURCE: protocol.md §5: an end of 0 is taken for "no end", so bytes=0-0 is the whole file.
    end = int(last or "0") or size - 1
    if start >= size:
        raise _out_of_range(node, f"The start offset ({first}) exceeded the size of the entity ({size})")
    if end < start:
        raise _out_of_range(node, f"The end offset ({end}) is lower than the start offset ({start})")
    return start, min(end, size - 1) - start + 1


def _if_range_holds(request: Request, node: Node) -> bool:
    value = request.header("if-range")
    if not value:
        return True
    date = parse_date(value)
    return node.mtime <= date if date is not None else value == quoted_etag(node)


def _out_of_range(node: Node, message: str) -> DavError:
    return DavError(416, message, headers=_known(entity_headers(node)))


def _known(headers: Headers) -> dict[str, str]:
    return {name: value for name, value in headers if name in ("Last-Modified", "ETag")}

"""``*.part`` names: the server always sees a file there, lists it never, and cannot create it (protocol.md §2.4).

A MOVE does put a file under such a name; then it can be read, written and moved back, still without ETag and id.
Simplified: the real server goes on listing the file under its old name until somebody reads that.
"""

from __future__ import annotations

from urllib.parse import quote

from tests.servers.standin.blobs import Blob
from tests.servers.standin.dav.location import Location
from tests.servers.standin.dav.moving import check_destination
from tests.servers.standin.dav.propfind import answer_phantom
from tests.servers.standin.dav.writing import store, stored
from tests.servers.standin.errors import DavError, locked, not_implemented
from tests.servers.standin.messages import Headers, Request, Response, empty
from tests.servers.standin.names import is_part
from tests.servers.standin.site import Site

_NO_ETAG: Headers = [("ETag", '""'), ("OC-ETag", '""')]


def answer(site: Site, request: Request, location: Location, spooled: Blob | None) -> Response:
    """Answer any method on a phantom but MOVE and COPY."""
    hidden = location.user.parts.get(location.path)
    match request.method:
        case "GET" | "HEAD":
            return _get(request, location, hidden)
        case "PROPFIND":
            return answer_phantom(request, location, hidden.size_bytes if hidden else 0)
        case "PUT" if hidden is not None:
            location.user.parts[location.path] = spooled or site.blobs.of(request.body.read())
            return empty(204, _NO_ETAG)
        case "PUT":
            raise locked("/".join(location.path), "2 shared locks")
        case "MKCOL":
            raise DavError(405, "The resource you tried to create already exists")
        case "DELETE":
            location.user.parts.pop(location.path, None)
            return empty(204)
        case method:
            raise not_implemented(method)


def move_away(site: Site, request: Request, source: Location, destination: Location) -> Response:
    """MOVE of a phantom onto a proper name: a file with a new id."""
    with source.user.tree.lock:
        target = check_destination(request, source, destination)
        hidden = source.user.parts.pop(source.path, None)
        if hidden is None:
            raise DavError(404, f"File with name /{'/'.join(source.path)} could not be located")
        if is_part(destination.path):
            source.user.parts[destination.path] = hidden
            return empty(204, _NO_ETAG)
        if target is not None:
            source.user.tree.remove(target)
        _, node = store(destination, hidden, upload_time=int(site.now()))
    return stored(site, node, [], created=target is None)


def _get(request: Request, location: Location, hidden: Blob | None) -> Response:
    name = quote(location.path[-1])
    headers: Headers = [
        ("Content-Type", "application/octet-stream"),
        *_NO_ETAG,
        ("Content-Disposition", f"attachment; filename*=UTF-8''{name}; filename=\"{name}\""),
    ]
    if request.method == "HEAD":
        return Response(200, headers)
    if hidden is None:
        raise DavError(503, "Could not open file", exception="Sabre\\DAV\\Exception\\ServiceUnavailable")
    return Response(200, headers, hidden.blocks(), hidden.size_bytes)

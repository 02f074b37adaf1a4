"""PROPFIND (protocol.md §2)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from tests.servers.standin.dav.location import Location
from tests.servers.standin.dav.properties import ALL_PROP, Subject, phantom_values, values
from tests.servers.standin.dav.xmlio import DAV, Writer, parse
from tests.servers.standin.messages import Request, Response, multistatus
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node

DAV_FEATURES = (
    "DAV",
    (
        "1, 3, extended-mkcol, access-control, calendarserver-principal-property-search, "
        "nextcloud-checksum-update, nc-calendar-search, nc-enable-birthday-calendar"
    ),
)


def asked_names(body: bytes) -> tuple[list[str], bool]:
    """The property names of a PROPFIND body, and whether missing ones are worth a 404 block."""
    if not body:
        return ALL_PROP, False
    prop = parse(body, DAV + "propfind").find(DAV + "prop")
    names = [element.tag for element in prop] if prop is not None else []
    return (names, True) if names else (ALL_PROP, False)


def depth_of(request: Request) -> float:
    """Levels to show; without a header 1, any integer counts (protocol.md §2.3)."""
    value = request.header("depth").lower()
    if value == "infinity":
        return float("inf")
    return int(value) if value.isdigit() else 1


def propfind(site: Site, request: Request, location: Location) -> Response:
    """List a file or folder."""
    names, explicit = asked_names(request.body.read())
    show_missing = explicit and "return=minimal" not in request.header("prefer")
    writer = Writer()
    with location.user.tree.lock:
        top = location.existing()
        for node, path in _listed(top, depth_of(request)):
            found = values(Subject(site, location.user, node, is_asked_for=node is top), names)
            href = location.href(path)
            slash = "/" if node.is_folder and not href.endswith("/") else ""
            _write(writer, href + slash, found, show_missing=show_missing)
    return document(request, writer)


def answer_phantom(request: Request, location: Location, size_bytes: int) -> Response:
    """What a ``.part`` name answers (protocol.md §2.4)."""
    names, explicit = asked_names(request.body.read())
    show_missing = explicit and "return=minimal" not in request.header("prefer")
    writer = Writer()
    _write(writer, location.href(), phantom_values(names, size_bytes), show_missing=show_missing)
    return document(request, writer)


def _listed(node: Node, depth: float) -> Iterator[tuple[Node, tuple[str, ...]]]:
    stack: list[tuple[Node, tuple[str, ...], float]] = [(node, node.segments(), depth)]
    while stack:
        current, path, left = stack.pop()
        yield current, path
        if left > 0:
            stack.extend((member, (*path, member.name), left - 1) for member in reversed(current.members()))


def _write(writer: Writer, href: str, found: dict[str, str | None], *, show_missing: bool) -> None:
    present = {name: inner or None for name, inner in found.items() if inner is not None}
    absent: dict[str, str | None] = {name: None for name, inner in found.items() if inner is None}
    propstats: list[tuple[str, dict[str, str | None]]] = []
    if present:
        propstats.append(("200 OK", present))
    if absent and show_missing:
        propstats.append(("404 Not Found", absent))
    if not propstats:
        # SOURCE: measured on 29.0.1: an empty 200 block goes out under the status it was created with.
        propstats.append(("418 I'm a teapot", {}))
    writer.response(href, propstats)


def document(request: Request, writer: Writer) -> Response:
    """The 207, compressed by the DAV application itself when the client takes gzip (protocol.md §2.3)."""
    response = multistatus(writer.finish(), [DAV_FEATURES])
    if "gzip" in request.header("accept-encoding") and isinstance(response.body, bytes):
        response.headers.append(("Content-Encoding", "gzip"))
        response.body = gzip.compress(response.body, compresslevel=1, mtime=0)
    return response

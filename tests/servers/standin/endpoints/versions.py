"""``/remote.php/dav/versions/USER/versions/ID``: what was overwritten, by time (protocol.md §10).

SOURCE: measured on 29.0.1. Restoring, deleting and labelling are left out.
"""

from __future__ import annotations

from dataclasses import replace

from tests.servers.standin.dav.location import DAV_ROOT
from tests.servers.standin.dav.properties import content_type
from tests.servers.standin.dav.propfind import asked_names, depth_of, document
from tests.servers.standin.dav.reading import entity_headers, requested_span
from tests.servers.standin.dav.xmlio import DAV, Writer
from tests.servers.standin.errors import DavError, not_implemented
from tests.servers.standin.messages import Headers, Request, Response, http_date
from tests.servers.standin.names import quote, split_path
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node

ROOT = DAV_ROOT + "versions/"


class Versions:
    """PROPFIND of a file's versions, and GET of one."""

    needs_login = True

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """Find the file by its id, then list or send."""
        user, _, file_id, *rest = (*split_path(request.path[len(ROOT) :]), "", "", "")[:4]
        name = "".join(rest)
        if user.lower() != request.account.id.lower() or not file_id:
            raise DavError(404)
        with request.account.tree.lock:
            node = next((it for it in request.account.tree.root.walk() if str(it.file_id) == file_id), None)
            if node is None or node.is_folder:
                raise DavError(404)
            match request.method:
                case "PROPFIND":
                    return _listing(request, node, f"{ROOT}{quote(user)}/versions/{file_id}/")
                case "GET":
                    return _content(request, node, name)
                case method:
                    raise not_implemented(method)


def _listing(request: Request, node: Node, href: str) -> Response:
    names, explicit = asked_names(request.body.read())
    missing = explicit and "return=minimal" not in request.header("prefer")
    writer = Writer()
    write_known(writer, href, names, {DAV + "resourcetype": "<d:collection/>"}, missing=missing)
    if depth_of(request) > 0:
        # What the file holds now is among them.
        for mtime, blob in sorted({node.mtime: node.blob, **node.versions}.items()):
            found: dict[str, str | None] = {
                DAV + "getlastmodified": http_date(mtime),
                DAV + "getcontentlength": str(blob.size_bytes),
                DAV + "resourcetype": None,
                DAV + "getetag": str(mtime),
                DAV + "getcontenttype": content_type(node.name),
            }
            write_known(writer, f"{href}{mtime}", names, found, missing=missing)
    return document(request, writer)


def write_known(
    writer: Writer, href: str, names: list[str], known: dict[str, str | None], *, missing: bool
) -> None:
    """Write what is known of one object, of what was asked for."""
    propstats = [("200 OK", {name: known[name] for name in names if name in known})]
    absent: dict[str, str | None] = {name: None for name in names if name not in known}
    if absent and missing:
        propstats.append(("404 Not Found", absent))
    writer.response(href, propstats)


def _content(request: Request, node: Node, name: str) -> Response:
    # Where what the file holds now has the time of what was overwritten, that is what is sent.
    blob = node.versions.get(int(name)) if name.isdecimal() else None
    if blob is None:
        raise DavError(404)
    old = replace(node, mtime=int(name), blob=blob, size_bytes=blob.size_bytes, checksum=None)
    headers: Headers = [
        (key, name if key in {"ETag", "OC-ETag"} else value) for key, value in entity_headers(old)
    ]
    span = requested_span(request, old, blob.size_bytes)
    start, length = span or (0, blob.size_bytes)
    if span is not None:
        headers.append(("Content-Range", f"bytes {start}-{start + length - 1}/{blob.size_bytes}"))
    return Response(206 if span else 200, headers, blob.blocks(start, length), length)

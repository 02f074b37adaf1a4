"""``/remote.php/dav/trashbin/USER/trash``: what was removed (protocol.md §10).

SOURCE: measured on 29.0.1. The time and ETag of each are those of the removal, and no checksum is told. Restoring and
deleting are left out.
"""

from __future__ import annotations

from tests.servers.standin.dav.location import DAV_ROOT
from tests.servers.standin.dav.properties import content_type
from tests.servers.standin.dav.propfind import asked_names, depth_of, document
from tests.servers.standin.dav.reading import requested_span
from tests.servers.standin.dav.xmlio import DAV, NC, OC, Writer, text
from tests.servers.standin.endpoints.versions import write_known
from tests.servers.standin.errors import DavError, not_implemented
from tests.servers.standin.messages import Headers, Request, Response, http_date
from tests.servers.standin.names import quote, split_path
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node, Removed

ROOT = DAV_ROOT + "trashbin/"


class Trash:
    """PROPFIND of the trash and of folders in it, and GET of a file."""

    needs_login = True

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """Find what is asked for, then list or send."""
        user, place, *names = (*split_path(request.path[len(ROOT) :]), "", "")
        names = [name for name in names if name]
        if user.lower() != request.account.id.lower() or place != "trash":
            raise DavError(404)
        href = f"{ROOT}{quote(user)}/trash/"
        with request.account.tree.lock:
            match request.method:
                case "PROPFIND":
                    return _listing(request, href, names)
                case "GET":
                    return _content(request, *_found(request, names))
                case method:
                    raise not_implemented(method)


def _found(request: Request, names: list[str]) -> tuple[Removed, Node]:
    removed = request.account.tree.trash.get(names[0]) if names else None
    if removed is None:
        raise DavError(404)
    node = removed.node
    for name in names[1:]:
        below = (node.children or {}).get(name)
        if below is None:
            raise DavError(404)
        node = below
    return removed, node


def _listing(request: Request, href: str, names: list[str]) -> Response:
    asked, explicit = asked_names(request.body.read())
    missing = explicit and "return=minimal" not in request.header("prefer")
    writer = Writer()

    def write(place: list[str], known: dict[str, str | None], *, folder: bool) -> None:
        path = href + "".join(f"{quote(name)}/" for name in place)
        write_known(writer, path if folder else path.rstrip("/"), asked, known, missing=missing)

    if not names:
        write([], {DAV + "resourcetype": "<d:collection/>"}, folder=True)
        top = request.account.tree.trash
        members = [([name], it, it.node) for name, it in top.items()]
    else:
        removed, node = _found(request, names)
        write(names, _known(removed, node, names), folder=node.is_folder)
        members = [([*names, it.name], removed, it) for it in node.members()] if node.is_folder else []
    if depth_of(request) > 0:
        for place, removed, node in members:
            write(place, _known(removed, node, place), folder=node.is_folder)
    return document(request, writer)


def _known(removed: Removed, node: Node, place: list[str]) -> dict[str, str | None]:
    known: dict[str, str | None] = {
        DAV + "getlastmodified": http_date(removed.at),
        DAV + "getetag": str(removed.at),
        DAV + "resourcetype": "<d:collection/>" if node.is_folder else None,
        OC + "fileid": str(node.file_id),
        OC + "size": str(node.size_bytes),
        NC + "trashbin-filename": text(node.name),
        NC + "trashbin-original-location": text("/".join([*removed.original, *place[1:]])),
        NC + "trashbin-deletion-time": str(removed.at),
    }
    if not node.is_folder:
        known[DAV + "getcontentlength"] = str(node.blob.size_bytes)
    return known


def _content(request: Request, removed: Removed, node: Node) -> Response:
    if node.is_folder:
        raise DavError(404)
    size = node.blob.size_bytes
    headers: Headers = [
        ("ETag", str(removed.at)),
        ("OC-ETag", str(removed.at)),
        ("Last-Modified", http_date(removed.at)),
        ("Content-Type", content_type(node.name)),
    ]
    span = requested_span(request, node, size)
    start, length = span or (0, size)
    if span is not None:
        headers.append(("Content-Range", f"bytes {start}-{start + length - 1}/{size}"))
    return Response(206 if span else 200, headers, node.blob.blocks(start, length), length)

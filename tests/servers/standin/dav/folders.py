"""MKCOL and DELETE (protocol.md §9)."""

from __future__ import annotations

from tests.servers.standin.dav.location import Location
from tests.servers.standin.dav.proppatch import Change, apply, changes_of, refused, report
from tests.servers.standin.dav.xmlio import DAV, parse
from tests.servers.standin.errors import DavError
from tests.servers.standin.messages import Request, Response, empty
from tests.servers.standin.names import check_new
from tests.servers.standin.site import Site

ALLOW_ON_FOLDER = "OPTIONS, GET, HEAD, DELETE, PROPFIND, PUT, PROPPATCH, COPY, MOVE, REPORT"


def mkcol(site: Site, request: Request, location: Location) -> Response:
    """Create a folder; an extended request sets properties with it."""
    changes = _initial_changes(request)
    tree = location.user.tree
    with tree.lock:
        parent = tree.lookup(location.path[:-1])
        existing = location.node()
        if parent is None:
            raise DavError(409, "Parent node does not exist")
        if parent.children is None:
            raise DavError(409, "Parent node is not a collection")
        if existing is not None:
            allow = ALLOW_ON_FOLDER + (", PATCH" if not existing.is_folder else "")
            raise DavError(405, "The resource you tried to create already exists", headers={"Allow": allow})
        if "K" not in parent.effective_permissions():
            raise DavError(403)
        check_new(location.user.id, location.path)
        failed = refused(changes)
        if failed:
            return report(request, location.href(), changes, failed)
        node = tree.mkdir(parent, location.path[-1])
        apply(tree, node, changes)
    return empty(201, [("OC-FileId", site.full_id(node.file_id))])


def _initial_changes(request: Request) -> list[Change]:
    body = request.body.read()
    if not body:
        return []
    if "xml" not in request.header("content-type"):
        raise DavError(415, "The request body for the MKCOL request must have an xml Content-Type")
    changes = changes_of(parse(body, DAV + "mkcol"))
    return [change for change in changes if change.name != DAV + "resourcetype"]


def delete(location: Location) -> Response:
    """Remove a file, or a folder with everything in it."""
    with location.user.tree.lock:
        node = location.existing()
        if node.parent is None or "D" not in node.effective_permissions():
            raise DavError(403)
        location.user.locks.check_free(location.path)
        location.user.tree.remove(node)
    return empty(204)

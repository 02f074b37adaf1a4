"""MOVE and COPY (protocol.md §3.3, §9)."""

from __future__ import annotations

from tests.servers.standin.dav.location import Location, not_located
from tests.servers.standin.dav.properties import quoted_etag
from tests.servers.standin.errors import DavError, precondition_failed
from tests.servers.standin.messages import Headers, Request, Response, empty
from tests.servers.standin.names import check_new, is_part
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node


def check_overwrite(request: Request, *, exists: bool) -> None:
    """The Overwrite header; without one an existing target is replaced."""
    overwrite = request.header("overwrite", "T").upper()
    if overwrite not in ("T", "F"):
        raise DavError(400, "The HTTP Overwrite header should be either T or F")
    if exists and overwrite == "F":
        message = "The destination node already exists, and the overwrite header is set to false"
        raise precondition_failed(message, "Overwrite")


def check_destination(request: Request, source: Location, destination: Location) -> Node | None:
    """Refuse impossible destinations in SabreDAV's order; returns what is there. The caller holds the tree's lock."""
    if request.header("overwrite", "T").upper() not in ("T", "F"):
        check_overwrite(request, exists=False)
    if not destination.path:
        raise DavError(409, "The destination node is not found")
    parent = destination.user.tree.lookup(destination.path[:-1])
    if parent is None:
        raise DavError(409, "The destination node is not found")
    if not parent.is_folder:
        raise DavError(415, "The destination node is not a collection")
    target = destination.node()
    check_overwrite(request, exists=target is not None)
    if source.path == destination.path:
        raise DavError(403, "Source and destination uri are identical.")
    if destination.path[: len(source.path)] == source.path:
        raise DavError(409, "The destination may not be part of the same subtree as the source path.")
    return target


def move(site: Site, request: Request, source: Location, destination: Location) -> Response:
    """Rename or move a file or folder; what was at the destination is deleted first."""
    tree = source.user.tree
    with tree.lock:
        target = check_destination(request, source, destination)
        node = source.existing()
        _check_may_leave(source, destination, node)
        source.user.locks.check_free(source.path, as_server_error=True)
        if target is not None or source.path[:-1] != destination.path[:-1]:
            _check_may_arrive(destination, target)
        else:
            check_new(destination.user.id, destination.path)
        parent = tree.lookup(destination.path[:-1])
        assert parent is not None
        if node.mounted and "S" in parent.effective_permissions():
            # SOURCE: measured on 29.0.1: a share cannot be moved into another one.
            raise DavError(403)
        if is_part(destination.path):
            # The file is renamed on disk and forgotten by the file cache (protocol.md §0 rule 12).
            tree.remove(node)
            source.user.parts[destination.path] = node.blob
            return empty(204, [("OC-ETag", '""'), ("ETag", '""')])
        if target is not None:
            tree.remove(target)
        tree.move(node, parent, destination.path[-1])
        headers: Headers = [("OC-FileId", site.full_id(node.file_id))]
        if not node.is_folder:
            headers = [("OC-ETag", quoted_etag(node)), ("ETag", quoted_etag(node)), *headers]
    return empty(201 if target is None else 204, headers)


def copy(site: Site, request: Request, source: Location, destination: Location) -> Response:
    """Copy a file, or a folder with everything in it."""
    tree = source.user.tree
    with tree.lock:
        target = check_destination(request, source, destination)
        node = source.existing()
        with source.user.locks.shared(source.path):
            _check_may_arrive(destination, target)
            site.check_quota(destination.user, destination.path[:-1], node.size_bytes)
            parent = tree.lookup(destination.path[:-1])
            assert parent is not None
            if target is not None:
                tree.remove(target)
            made = tree.copy(node, parent, destination.path[-1])
    return empty(201 if target is None else 204, [("OC-FileId", site.full_id(made.file_id))])


def _check_may_leave(source: Location, destination: Location, node: Node) -> None:
    """In its folder a thing is renamed, which is to change it; in another one it is gone from here.

    SOURCE: measured on 29.0.1 in shares of each kind.
    """
    letters = node.effective_permissions()
    if source.path[:-1] != destination.path[:-1] and "D" not in letters:
        raise DavError(403, f"{source.dav_path} cannot be deleted")
    if source.path[:-1] == destination.path[:-1] and "N" not in letters:
        raise DavError(403)


def _check_may_arrive(destination: Location, target: Node | None) -> None:
    if target is not None:
        if "D" not in target.effective_permissions():
            raise DavError(403)
        destination.user.locks.check_free(destination.path)
        return
    parent = destination.user.tree.lookup(destination.path[:-1])
    if parent is None:
        raise not_located(destination.path[:-1])
    if "C" not in parent.effective_permissions():
        raise DavError(403)
    check_new(destination.user.id, destination.path)

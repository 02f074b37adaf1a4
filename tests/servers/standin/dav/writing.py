"""PUT, and what chunked and bulk uploads share with it (protocol.md §6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tests.servers.standin.blobs import EMPTY, Blob
from tests.servers.standin.dav.location import Location, not_located
from tests.servers.standin.dav.properties import quoted_etag
from tests.servers.standin.dav.times import whole_seconds
from tests.servers.standin.errors import DavError
from tests.servers.standin.messages import BodyCutError, Headers, Request, Response, empty
from tests.servers.standin.names import (
    LONGEST_NEW_FILE_BYTES,
    TEMPORARY_ENDING_BYTES,
    check_new,
    check_path_length,
    is_part,
)
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node

LONGEST_CHECKSUM = 255
_COPIED_BLOCK_BYTES = 8192
"""The server copies bodies in such blocks: what a cut leaves is a multiple of it."""


def spool(site: Site, request: Request) -> Blob:
    """Take in the whole body; a cut leaves nothing behind."""
    writer = site.blobs.writer()
    try:
        for block in request.body.blocks():
            writer.write(block)
    except BodyCutError:
        writer.discard()
        raise
    return writer.finish()


def put(site: Site, request: Request, location: Location, spooled: Blob | None) -> Response:
    """Create or overwrite a file. ``spooled`` is the body when the front end has buffered it."""
    if request.header("content-range"):
        raise DavError(400, "Content-Range on PUT requests are forbidden.")
    with location.user.tree.lock:
        check_target(location)
        if location.node() is None and len(location.path[-1].encode()) > LONGEST_NEW_FILE_BYTES:
            raise DavError(
                500,
                "Error while copying file to target location (copied: -1 bytes, expected filesize: 1 byte)",
                exception="Sabre\\DAV\\Exception",
            )
        if location.node() is None:
            check_path_length(location.user.id, location.path, TEMPORARY_ENDING_BYTES)
    site.check_quota(location.user, location.path, _announced_bytes(request, spooled))
    with location.user.locks.exclusive(location.path):
        blob = spooled if spooled is not None else _receive(site, request, location)
        with location.user.tree.lock:
            created, node = store(location, blob, upload_time=int(site.now()))
            headers = hash_headers(request.header("x-hash"), blob)
            headers += set_attributes(location, node, request.headers)
    return stored(site, node, headers, created=created)


def check_target(location: Location) -> None:
    """Refuse a PUT that cannot store there. The caller holds the tree's lock."""
    node = location.node()
    if node is not None:
        if node.is_folder:
            raise DavError(409, "PUT is not allowed on non-files.")
        if "W" not in node.effective_permissions():
            raise DavError(403)
        return
    check_creatable(location)


def check_creatable(location: Location) -> None:
    """Refuse to create a member where none can be. The caller holds the tree's lock."""
    folder: Node = location.user.tree.root
    for depth, name in enumerate(location.path[:-1]):
        if folder.children is None:
            raise DavError(404, f"Node with name '{folder.name}' could not be found")
        if is_part(location.path[: depth + 1]):
            raise DavError(404, f"Node with name '{name}' could not be found")
        member = folder.children.get(name)
        if member is None:
            raise not_located(location.path[: depth + 1])
        folder = member
    if folder.children is None:
        raise DavError(404, f"Node with name '{folder.name}' could not be found")
    if "C" not in folder.effective_permissions():
        raise DavError(403)
    check_new(location.user.id, location.path)


def store(location: Location, blob: Blob, *, upload_time: int) -> tuple[bool, Node]:
    """Put the content in place: (whether the file is new, the file). The caller holds the tree's lock."""
    tree = location.user.tree
    node = location.node()
    if node is not None:
        tree.overwrite(node, blob, upload_time=upload_time)
        return False, node
    parent = tree.lookup(location.path[:-1])
    if parent is None:
        raise not_located(location.path[:-1])
    return True, tree.create_file(parent, location.path[-1], blob, upload_time=upload_time)


def set_attributes(location: Location, node: Node, headers: Mapping[str, str]) -> Headers:
    """Times and checksum of a stored file from the request's headers; bad ones are refused *after* storing (§6)."""
    reply: Headers = []
    if mtime := headers.get("x-oc-mtime"):
        location.user.tree.touch(node, whole_seconds(mtime))
        reply.append(("X-OC-MTime", "accepted"))
    if creation_time := headers.get("x-oc-ctime"):
        node.creation_time = whole_seconds(creation_time)
        reply.append(("X-OC-CTime", "accepted"))
    checksum = headers.get("oc-checksum", "").strip()
    if len(checksum) > LONGEST_CHECKSUM:
        raise DavError(
            500,
            "An exception occurred while executing a query: SQLSTATE[22001]: String data, right truncated: "
            "1406 Data too long for column 'checksum' at row 1",
            exception="Doctrine\\DBAL\\Exception\\DriverException",
        )
    node.checksum = checksum or None
    return reply


def stored(site: Site, node: Node, headers: Headers, *, created: bool) -> Response:
    """201 or 204 with the final ETag and the file id."""
    return empty(
        201 if created else 204,
        [
            *headers,
            ("OC-FileId", site.full_id(node.file_id)),
            ("ETag", quoted_etag(node)),
            ("OC-ETag", quoted_etag(node)),
        ],
    )


def hash_headers(wanted: str, blob: Blob) -> Headers:
    """``X-Hash``: hashes of what was received (§6)."""
    names = ["sha256", "sha1", "md5"] if wanted == "all" else [wanted]
    reply: Headers = []
    for name in names:
        if name in ("sha256", "sha1", "md5"):
            digest = hashlib.new(name, usedforsecurity=False)
            for block in blob.blocks():
                digest.update(block)
            reply.append((f"X-Hash-{name.upper()}", digest.hexdigest()))
    return reply


def _announced_bytes(request: Request, spooled: Blob | None) -> int:
    total = request.header("oc-total-length")
    length = spooled.size_bytes if spooled is not None else request.body.length or 0
    return max(length, int(total) if total.isdigit() else 0)


def _receive(site: Site, request: Request, location: Location) -> Blob:
    """Take the body in while the file is already open for writing, as an unbuffered front end makes it (§6)."""
    if request.body.length is None:
        # SOURCE: protocol.md §6: FastCGI drops a chunked body, the file is stored empty.
        request.body.drain()
        return EMPTY
    writer = site.blobs.writer()
    try:
        for block in request.body.blocks():
            writer.write(block)
    except BodyCutError:
        _leave_what_came(
            location, writer.finish(writer.size_bytes // _COPIED_BLOCK_BYTES * _COPIED_BLOCK_BYTES)
        )
        raise
    return writer.finish()


def _leave_what_came(location: Location, blob: Blob) -> None:
    with location.user.tree.lock:
        node = location.node()
        # A new file is written beside its name and removed again; an existing one is written in place.
        if node is not None:
            location.user.tree.leave_truncated(node, blob)

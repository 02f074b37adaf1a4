"""``/remote.php/dav/uploads/USER/ID/…``: chunked upload (protocol.md §7)."""

from __future__ import annotations

from tests.servers.standin.blobs import Blob
from tests.servers.standin.dav import conditions
from tests.servers.standin.dav.conditions import Entity
from tests.servers.standin.dav.location import (
    DAV_ROOT,
    Location,
    below,
    destination_path,
    files_location,
    not_located,
)
from tests.servers.standin.dav.moving import check_overwrite
from tests.servers.standin.dav.properties import quoted_etag
from tests.servers.standin.dav.propfind import asked_names, depth_of, document
from tests.servers.standin.dav.writing import set_attributes, spool, store, stored
from tests.servers.standin.dav.xmlio import DAV, Writer, text
from tests.servers.standin.errors import DavError, not_implemented
from tests.servers.standin.messages import Request, Response, empty, http_date
from tests.servers.standin.names import Segments, check_new, quote, split_path
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node
from tests.servers.standin.uploads import Upload
from tests.servers.standin.users import User

_ASSEMBLED = ".file"


class Uploads:
    """Upload folders, their chunks, and the MOVE that makes a file of them."""

    needs_login = True

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """Dispatch on the method; the MOVE alone looks at preconditions."""
        segments = split_path(request.path[len(DAV_ROOT) :])
        user, path = request.account, segments[2:]
        if segments[1:2] != (user.id,):
            raise DavError(404, f"Principal with name {'/'.join(segments[1:2])} not found")
        match request.method:
            case "MKCOL":
                return self._mkcol(user, path)
            case "PUT":
                return self._put(request, user, path)
            case "PROPFIND":
                return self._propfind(request, user, path)
            case "DELETE":
                return self._delete(user, path)
            case "MOVE":
                return self._move(request, user, path)
            case "GET" | "HEAD":
                return self._get(user, path)
            case method:
                raise not_implemented(method)

    def _mkcol(self, user: User, path: Segments) -> Response:
        with user.tree.lock:
            if len(path) != 1:
                raise DavError(409, "Parent node does not exist")
            if path[0] in user.uploads:
                raise DavError(405, "The resource you tried to create already exists")
            user.uploads[path[0]] = Upload(int(self._site.now()), self._site.counters.uniqid())
        return empty(201)

    def _put(self, request: Request, user: User, path: Segments) -> Response:
        if request.header("destination") and request.header("oc-total-length").isdigit():
            target = below(destination_path(request), DAV_ROOT)[2:]
            with user.tree.lock:
                files_location(self._site, user.id, target[:-1]).existing()  # a quota is that of a folder
            self._site.check_quota(user, target, int(request.header("oc-total-length")))
        blob = spool(self._site, request)
        with user.tree.lock:
            upload = _upload(user, path)
            created = path[1] not in upload.chunks
            etag = add_chunk(self._site, upload, path[1], blob)
        return empty(201) if created else empty(204, [("ETag", etag), ("OC-ETag", etag)])

    def _get(self, user: User, path: Segments) -> Response:
        with user.tree.lock:
            chunk = _upload(user, path).chunks.get(path[1]) if len(path) > 1 else None
        if chunk is None:
            raise not_located(path)
        return Response(200, [("Content-Type", "application/octet-stream")], chunk.blocks(), chunk.size_bytes)

    def _delete(self, user: User, path: Segments) -> Response:
        with user.tree.lock:
            upload = _upload(user, path)
            if len(path) == 1:
                del user.uploads[path[0]]
            elif upload.chunks.pop(path[1], None) is None:
                raise not_located(path)
        return empty(204)

    def _propfind(self, request: Request, user: User, path: Segments) -> Response:
        names, explicit = asked_names(request.body.read())
        show_missing = explicit and "return=minimal" not in request.header("prefer")
        writer = Writer()
        with user.tree.lock:
            for href, known in self._listed(user, path, depth_of(request)):
                found = {name: known[name] for name in names if name in known}
                missing: dict[str, str | None] = {name: None for name in names if name not in known}
                propstats = [("200 OK", found)] if found or not missing else []
                if missing and show_missing:
                    propstats.append(("404 Not Found", missing))
                writer.response(href, propstats)
        return document(request, writer)

    def _listed(self, user: User, path: Segments, depth: float) -> list[tuple[str, dict[str, str | None]]]:
        base = f"{DAV_ROOT}uploads/{quote(user.id)}/"
        if not path:
            shown = [(base, _folder(int(self._site.now())))]
            members = user.uploads.items() if depth else ()
            return shown + [(f"{base}{quote(name)}/", _folder(upload.mtime)) for name, upload in members]
        upload = _upload(user, path)
        folder = f"{base}{quote(path[0])}/"
        listed = [
            (folder + _ASSEMBLED, _file(upload.size_bytes(), upload.mtime, self._site.counters.uniqid()))
        ]
        for name, blob in sorted(upload.chunks.items()):
            etag, mtime = upload.chunk_etags[name]
            listed.append((folder + quote(name), _file(blob.size_bytes, mtime, etag)))
        if len(path) > 1:
            wanted = folder + quote(path[1])
            listed = [entry for entry in listed if entry[0] == wanted]
            if not listed:
                raise not_located(path)
            return listed
        return [(folder, _folder(upload.mtime)), *(listed if depth else [])]

    def _move(self, request: Request, user: User, path: Segments) -> Response:
        if len(path) != 2 or path[1] != _ASSEMBLED:  # upload and member
            raise DavError(501, "The stand-in moves whole uploads only")
        early = conditions.check(request, lambda url: self._entity(user, path, url))
        assert early is None, "304 is for GET"
        segments = below(destination_path(request), DAV_ROOT)
        location = files_location(self._site, "".join(segments[1:2]), segments[2:])
        with user.locks.exclusive(location.path), user.tree.lock:
            return self._assemble(request, user, path, location)

    def _assemble(self, request: Request, user: User, path: Segments, location: Location) -> Response:
        target = _checked_target(request, location)
        upload = _upload(user, path)
        self._check_total(request, upload)
        parent = user.tree.lookup(location.path[:-1])
        if parent is not None and "C" not in parent.effective_permissions():
            raise DavError(403)  # also where the file is there: to Nextcloud what is put together is created
        if target is None:
            check_new(location.user.id, location.path)
        elif "W" not in target.effective_permissions():
            raise DavError(403)
        self._site.check_quota(user, location.path, upload.size_bytes())
        blob = self._site.blobs.joined(upload.in_order())
        created, node = store(location, blob, upload_time=int(self._site.now()))
        del user.uploads[path[0]]
        headers = set_attributes(location, node, request.headers)
        return stored(self._site, node, headers, created=created)

    @staticmethod
    def _check_total(request: Request, upload: Upload) -> None:
        total = request.header("oc-total-length")
        if total.isdigit() and int(total) != upload.size_bytes():
            message = f"Chunks on server do not sum up to {total} but to {upload.size_bytes()} bytes"
            raise DavError(400, message)

    def _entity(self, user: User, path: Segments, url: str | None) -> Entity:
        """If-Match looks at the assembled source, whose ETag is new each time; ``If`` at the target (§7)."""
        with user.tree.lock:
            if url is None:
                _upload(user, path)
                return Entity(f'"{self._site.counters.uniqid()}"', None)
            segments = below(url, DAV_ROOT)
            node = files_location(self._site, "".join(segments[1:2]), segments[2:]).existing()
            return Entity(None, None) if node.is_folder else Entity(quoted_etag(node), node.mtime)


def _checked_target(request: Request, location: Location) -> Node | None:
    parent = location.user.tree.lookup(location.path[:-1])
    if parent is None:
        raise DavError(409, "The destination node is not found")
    if not parent.is_folder:
        raise DavError(415, "The destination node is not a collection")
    target = location.node()
    check_overwrite(request, exists=target is not None)
    if target is not None and target.is_folder:
        raise DavError(400, f"The given destination {location.dav_path} is a directory.")
    return target


def add_chunk(site: Site, upload: Upload, name: str, blob: Blob) -> str:
    """Put a chunk in place and return its quoted ETag; the caller holds the tree's lock."""
    etag = f"{site.counters.uniqid():0>32}"
    upload.chunks[name] = blob
    upload.chunk_etags[name] = (etag, int(site.now()))
    upload.mtime = int(site.now())
    return f'"{etag}"'


def copy_to_chunk(site: Site, request: Request, source: Location, path: Segments) -> Response:
    """A chunk that is a copy of a stored file: appending without moving the base (protocol.md §7.1)."""
    user, upload_path = source.user, path[1:]
    with user.tree.lock:
        node = source.existing()
        if len(upload_path) != 2 or upload_path[0] not in user.uploads:  # upload and chunk
            raise DavError(409, "The destination node is not found")
        upload = user.uploads[upload_path[0]]
        created = upload_path[1] not in upload.chunks
        check_overwrite(request, exists=not created)
        add_chunk(site, upload, upload_path[1], node.blob)
    return empty(201 if created else 204)


def _upload(user: User, path: Segments) -> Upload:
    upload = user.uploads.get(path[0]) if path else None
    if upload is None:
        raise not_located(path[:1])
    return upload


def _folder(mtime: int) -> dict[str, str | None]:
    return {DAV + "getlastmodified": http_date(mtime), DAV + "resourcetype": "<d:collection/>"}


def _file(size_bytes: int, mtime: int, etag: str) -> dict[str, str | None]:
    return {
        DAV + "getcontentlength": str(size_bytes),
        DAV + "getlastmodified": http_date(mtime),
        DAV + "getetag": text(f'"{etag}"'),
        DAV + "resourcetype": None,
    }

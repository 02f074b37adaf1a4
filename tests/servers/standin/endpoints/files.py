"""``/remote.php/dav/files/USER/…`` and ``/remote.php/webdav/…``: the files of an account."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.servers.standin.blobs import Blob
from tests.servers.standin.dav import conditions, phantoms
from tests.servers.standin.dav.checksums import patch
from tests.servers.standin.dav.conditions import Entity
from tests.servers.standin.dav.folders import ALLOW_ON_FOLDER, delete, mkcol
from tests.servers.standin.dav.location import (
    DAV_ROOT,
    LEGACY_ROOT,
    Location,
    below,
    destination_path,
    files_location,
)
from tests.servers.standin.dav.moving import copy, move
from tests.servers.standin.dav.properties import quoted_etag
from tests.servers.standin.dav.propfind import DAV_FEATURES, document, propfind
from tests.servers.standin.dav.proppatch import proppatch
from tests.servers.standin.dav.reading import get
from tests.servers.standin.dav.writing import put, spool
from tests.servers.standin.dav.xmlio import DAV, Writer
from tests.servers.standin.endpoints.download import archive_on_dav
from tests.servers.standin.endpoints.root import Root
from tests.servers.standin.endpoints.uploads import copy_to_chunk
from tests.servers.standin.errors import DavError, not_implemented
from tests.servers.standin.messages import Request, Response, empty
from tests.servers.standin.names import split_destination, split_path
from tests.servers.standin.site import Site


class Files:
    """The DAV methods on files; ``legacy`` without the user id in the URL."""

    needs_login = True

    def __init__(self, site: Site, *, legacy: bool = False) -> None:
        self._site = site
        self._legacy = legacy
        self._root = LEGACY_ROOT if legacy else DAV_ROOT
        self._methods: dict[str, Callable[[Request, Location], Response]] = {
            "GET": self._get,
            "HEAD": get,
            "PROPFIND": partial(propfind, site),
            "MKCOL": partial(mkcol, site),
            "DELETE": lambda _, location: delete(location),
            "MOVE": self._transfer,
            "COPY": self._transfer,
            "PROPPATCH": proppatch,
            "PATCH": patch,
            "OPTIONS": lambda _, location: self._options(location),
        }

    def handle(self, request: Request) -> Response:
        """Check preconditions, then do what the method says."""
        if not self._legacy and split_path(request.path[len(self._root) :]) == ("files",):
            return Root(self._site).handle(request)
        location = self.locate(request)
        if location.user is not request.account:
            return self._foreign(request, location)
        spooled = spool(self._site, request) if request.method == "PUT" and self._site.buffered else None
        early = conditions.check(request, lambda path: self._entity(request, location, path))
        if early is not None:
            return early
        return self._dispatch(request, location, spooled)

    def locate(self, request: Request) -> Location:
        """What the request's URL points at."""
        segments = split_path(request.path[len(self._root) :])
        if self._legacy:
            return Location(request.account, segments, LEGACY_ROOT, "")
        return files_location(self._site, segments[1], segments[2:])

    def _dispatch(self, request: Request, location: Location, spooled: Blob | None) -> Response:
        if location.is_part and request.method not in ("MOVE", "COPY", "OPTIONS"):
            return phantoms.answer(self._site, request, location, spooled)
        if request.method == "PUT":
            return put(self._site, request, location, spooled)
        method = self._methods.get(request.method)
        if method is None:
            raise not_implemented(request.method)
        return method(request, location)

    def _get(self, request: Request, location: Location) -> Response:
        node = location.node()
        if node is not None and node.is_folder and self._site.archives == "dav":
            archive = archive_on_dav(request, location, node)
            if archive is not None:
                return archive
        return get(request, location)

    def _transfer(self, request: Request, source: Location) -> Response:
        raw = destination_path(request)
        segments = below(raw, self._root)
        if not self._legacy:
            if request.method == "COPY" and segments[:1] == ("uploads",):
                return copy_to_chunk(self._site, request, source, segments[1:])
            if segments[:1] != ("files",) or len(segments) < 2:  # "files" and the user id
                raise DavError(409, "The destination node is not found")
            destination = files_location(self._site, segments[1], segments[2:])
            if destination.user is not source.user:
                raise DavError(403, "Permission denied to create directory")
        else:
            destination = Location(source.user, segments, source.href_base, source.dav_base)
        if request.method == "MOVE" and source.is_part:
            return phantoms.move_away(self._site, request, source, destination)
        transfer = move if request.method == "MOVE" else copy
        return transfer(self._site, request, source, destination)

    def _entity(self, request: Request, location: Location, path: str | None) -> Entity:
        target = location
        if path is not None:
            segments = split_destination(path[len(self._root) :])
            target = (
                Location(request.account, segments, LEGACY_ROOT, "")
                if self._legacy
                else files_location(self._site, "".join(segments[1:2]), segments[2:])
            )
        if target.is_part:
            return Entity('""', None)
        with target.user.tree.lock:
            node = target.existing()
            return Entity(None, None) if node.is_folder else Entity(quoted_etag(node), node.mtime)

    @staticmethod
    def _options(location: Location) -> Response:
        allow = ALLOW_ON_FOLDER + (", MKCOL" if location.node() is None else "")
        return empty(
            200, [("Allow", allow), DAV_FEATURES, ("MS-Author-Via", "DAV"), ("Accept-Ranges", "bytes")]
        )

    @staticmethod
    def _foreign(request: Request, location: Location) -> Response:
        """Another user's files: the home looks like an empty shell, nothing is in it (protocol.md §1)."""
        name = location.path[0] if location.path else ""
        if request.method == "PROPFIND" and not location.path:
            writer = Writer()
            writer.response(location.href_base, [("200 OK", {DAV + "resourcetype": "<d:collection/>"})])
            return document(request, writer)
        if request.method in ("PUT", "MKCOL"):
            raise DavError(403, f"Permission denied to create file (filename {name})")
        raise DavError(404, f"File not found: {name} in '{location.user.id}'")

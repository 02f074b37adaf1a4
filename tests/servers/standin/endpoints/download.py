"""Folders as zips: ``/index.php/apps/files/ajax/download.php`` (protocol.md §5.1), and on the DAV URL as in 31."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote as quote_upper

from tests.servers.standin.dav.location import Location, not_located
from tests.servers.standin.dav.properties import content_type
from tests.servers.standin.errors import DavError, FrontEndError
from tests.servers.standin.messages import HTML, JSON, Headers, Request, Response, empty, http_date
from tests.servers.standin.names import split_local
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node
from tests.servers.standin.zips import Member, zipped

PATH = "/apps/files/ajax/download.php"
_PAGE = b'<!DOCTYPE html>\n<html class="ng-csp" data-placeholder-focus="false" lang="en" data-locale="en" >\n'


class Download:
    """download.php: only GET; it leaves out what is not there, and sends a single file as it is."""

    needs_login = False
    """Its refusals are not those of the DAV application."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def handle(self, request: Request) -> Response:
        """Log in, then pack what ``files`` names below ``dir``."""
        if self._site.archives != "download":
            return Response(404, [HTML], _PAGE)
        if self._site.maintenance:
            raise FrontEndError(503)
        if not request.header("authorization") and not request.header("cookie"):
            return Response(
                302, [HTML, ("Location", "/login?redirect_url=" + quote_upper(request.target))], b""
            )
        try:
            cookies = self._site.users.authenticate(request)
        except DavError:
            return Response(401, [JSON], b'{"message":""}')
        return self._answer(request, cookies)

    def _answer(self, request: Request, cookies: Headers) -> Response:
        folder, names = request.query.get("dir", ""), _names(request.query.get("files", ""))
        if any(".." in split_local(name) for name in (folder, *names)):
            return Response(200, [HTML, *cookies], _PAGE)
        tree = request.account.tree
        with tree.lock:
            top = tree.lookup(split_local(folder))
            nodes = [tree.lookup((*split_local(folder), *split_local(name))) for name in names]
            found = [node for node in nodes if node is not None] if top is not None else []
            if len(names) == 1 and len(found) == 1 and not found[0].is_folder:
                return _alone(found[0], cookies)
            members = [member for node in found for member in _members(node, len(split_local(folder)))]
        name = split_local(folder)[-1] if split_local(folder) else "download"
        headers: Headers = [
            ("Content-Type", "application/zip"),
            ("Pragma", "public"),
            ("Last-Modified", http_date(self._site.now())),
            ("Expires", "0"),
            ("Accept-Ranges", "bytes"),
            ("Content-Disposition", _attachment(f"{name}.zip")),
            ("Content-Transfer-Encoding", "binary"),
        ]
        # SOURCE: measured on 29.0.1: the larger form where it thinks that there is nothing.
        nothing = not any(member.content for member in members)
        return Response(200, [*headers, *cookies], zipped(members, zip64=nothing))


def archive_on_dav(request: Request, location: Location, node: Node) -> Response | None:
    """A folder's files as a zip, as 31 does it; None where no archive was asked for.

    SOURCE: documented (protocol.md §5), not measured.
    """
    asked = request.query.get("accept") or request.header("accept")
    if not {"zip", "application/zip"} & {part.strip().lower() for part in asked.split(",")}:
        return None
    names = _names(request.query.get("files", ""))
    with location.user.tree.lock:
        children = node.children or {}
        for name in names:
            if name not in children:
                raise not_located((*location.path, name))
        found = [children[name] for name in names] if names else list(children.values())
        members = [member for child in found for member in _members(child, len(location.path))]
    headers = [("Content-Type", "application/zip"), ("Content-Disposition", _attachment(f"{node.name}.zip"))]
    return Response(200, headers, zipped(members, zip64=True))


def _names(files: str) -> list[str]:
    try:
        told = json.loads(files)
    except ValueError:
        return [files] if files else []
    return [name for name in told if isinstance(name, str)] if isinstance(told, list) else [files]


def _members(node: Node, depth: int) -> Iterator[Member]:
    name = "/".join(node.segments()[depth:])
    if not node.is_folder:
        yield Member(name, node.mtime, node.blob.read())
        return
    yield Member(name + "/", node.mtime)
    for child in node.members():
        yield from _members(child, depth)


def _alone(node: Node, cookies: Headers) -> Response:
    kind = content_type(node.name)
    response = empty(200, [("Content-Disposition", _attachment(node.name)), *cookies])
    response.headers[0] = ("Content-Type", f"{kind};charset=UTF-8" if kind.startswith("text/") else kind)
    response.body, response.length = node.blob.read(), node.size_bytes
    return response


def _attachment(name: str) -> str:
    return f"attachment; filename*=UTF-8''{quote_upper(name)}; filename=\"{quote_upper(name)}\""

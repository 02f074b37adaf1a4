"""SEARCH, as far as clients use it: match-all, and by file ids (protocol.md §4.2)."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # its usual name
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.servers.standin.dav.location import DAV_ROOT, not_located
from tests.servers.standin.dav.properties import Subject, values
from tests.servers.standin.dav.propfind import document
from tests.servers.standin.dav.xmlio import DAV, Writer, parse
from tests.servers.standin.errors import DavError, not_implemented
from tests.servers.standin.messages import Request, Response
from tests.servers.standin.names import quote, split_path
from tests.servers.standin.site import Site
from tests.servers.standin.tree import Node
from tests.servers.standin.users import User

MOST_OPERATORS = 100
_INVALID = "InvalidArgumentException"

Test = Callable[[Node], bool]


def search(site: Site, request: Request) -> Response:
    """Answer one question about one's own files."""
    if not request.header("content-type").startswith(("text/xml", "application/xml")):
        raise not_implemented("SEARCH")
    asked = parse(request.body.read(), DAV + "searchrequest")
    names = [element.tag for element in asked.iterfind(f".//{DAV}select/{DAV}prop/*")]
    folder = _scope(request.account, asked.findtext(f".//{DAV}scope/{DAV}href", ""))
    test = _test(asked.find(f".//{DAV}where"))
    limit = int(asked.findtext(f".//{DAV}limit/{DAV}nresults", "0")) or None
    tree, writer = request.account.tree, Writer()
    base = f"{DAV_ROOT}files/{quote(request.account.id)}/"
    with tree.lock:
        # The limit counts rows of the database, before those outside the scope are dropped.
        rows = [node for node in tree.root.walk() if test(node)][:limit]
        for node in rows:
            if folder in [*node.lineage()][1:]:
                href = base + quote("/".join(node.segments())) + ("/" if node.is_folder else "")
                found = values(Subject(site, request.account, node), names)
                writer.response(
                    href, [("200 OK", {name: it or None for name, it in found.items() if it is not None})]
                )
    return document(request, writer)


def _scope(user: User, href: str) -> Node:
    segments = split_path(quote(urlsplit(href).path.removeprefix(DAV_ROOT) if "://" in href else href))
    if segments[:1] != ("files",):
        raise DavError(404, f"File not found: {''.join(segments[:1])} in 'root'")
    folder = user.tree.lookup(segments[2:]) if segments[1:2] == (user.id,) else None
    if segments[1:2] == (user.id,) and folder is None:
        raise not_located(segments[2:])
    if folder is None or not folder.is_folder:
        raise DavError(500, "Search is only supported on directories", exception=_INVALID)
    return folder


def _test(where: ET.Element | None) -> Test:
    if where is None or not len(where):
        raise DavError(
            500, "Argument #1 ($operator) must be of type SearchDAV\\Query\\Operator", exception="TypeError"
        )
    if (
        sum(1 for element in where.iter() if element.tag in {DAV + "eq", DAV + "gt", DAV + "gte"})
        > MOST_OPERATORS
    ):
        raise DavError(500, "Invalid search query, maximum operator limit exceeded", exception=_INVALID)
    return _operator(where[0])


def _operator(element: ET.Element) -> Test:
    if element.tag == DAV + "or":
        tests = [_operator(one) for one in element]
        return lambda node: any(test(node) for test in tests)
    prop, literal = element.find(f"{DAV}prop/*"), element.findtext(DAV + "literal", "")
    name = "" if prop is None else prop.tag
    match element.tag, name:
        case (tag, "{http://owncloud.org/ns}fileid") if tag == DAV + "eq":
            return lambda node: str(node.file_id) == literal
        case (tag, "{http://owncloud.org/ns}fileid"):
            compared = tag.removeprefix(DAV)
            raise DavError(500, f"Unsupported comparison for field  fileid: {compared}", exception=_INVALID)
        case (tag, "{DAV:}getlastmodified") if tag == DAV + "gte":
            return lambda node: node.mtime >= int(literal)
        case (tag, "{DAV:}getlastmodified") if tag == DAV + "gt":
            return lambda node: node.mtime > int(literal)
        case _:
            raise DavError(400, "requested search property is not searchable")

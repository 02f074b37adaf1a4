"""PROPPATCH, also the properties of an extended MKCOL (protocol.md §9)."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # its usual name
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tests.servers.standin.dav.location import Location
from tests.servers.standin.dav.properties import LIVE
from tests.servers.standin.dav.propfind import document
from tests.servers.standin.dav.times import set_mtime_value
from tests.servers.standin.dav.xmlio import DAV, NC, OC, Writer, inner_xml, parse
from tests.servers.standin.messages import Request, Response, empty
from tests.servers.standin.names import quote
from tests.servers.standin.tree import Node, Tree

OK, REMOVED, FORBIDDEN, FAILED_DEPENDENCY = (
    "200 OK",
    "204 No Content",
    "403 Forbidden",
    "424 Failed Dependency",
)


@dataclass(frozen=True)
class Change:
    """One property to set (``element``) or to remove (``None``)."""

    name: str
    element: ET.Element | None


Apply = Callable[[Tree, Node, str], None]


def _favorite(_: Tree, node: Node, value: str) -> None:
    node.favorite = value not in ("", "0")


def _tags(node: Node, element: ET.Element | None) -> None:
    node.tags = [] if element is None else [tag.text or "" for tag in element.iter(OC + "tag")]


def _etag(_: Tree, node: Node, value: str) -> None:
    node.etag = value


def _creation_time(_: Tree, node: Node, value: str) -> None:
    node.creation_time = int(value)


def _creation_date(_: Tree, node: Node, value: str) -> None:
    node.creation_time = int(datetime.fromisoformat(value).timestamp())


_WRITABLE: dict[str, Apply] = {
    OC + "favorite": _favorite,
    DAV + "lastmodified": set_mtime_value,
    DAV + "getetag": _etag,
    DAV + "creationdate": _creation_date,
    NC + "creation_time": _creation_time,
}
_PROTECTED = set(LIVE) - set(_WRITABLE) - {OC + "tags"}


def changes_of(update: ET.Element) -> list[Change]:
    """The changes of a ``propertyupdate`` or ``mkcol`` body, in order."""
    changes: list[Change] = []
    for group in update:
        for prop in group.iter(DAV + "prop") if group.tag in (DAV + "set", DAV + "remove") else ():
            setting = group.tag == DAV + "set"
            changes.extend(Change(element.tag, element if setting else None) for element in prop)
    return changes


def refused(changes: list[Change]) -> list[Change]:
    """The changes that fail with 403: protected properties, and an mtime of 0."""
    return [
        change
        for change in changes
        if change.name in _PROTECTED
        or (
            change.name == DAV + "lastmodified"
            and change.element is not None
            and change.element.text in (None, "0")
        )
    ]


def apply(tree: Tree, node: Node, changes: list[Change]) -> None:
    """Make changes none of which is refused."""
    for change in changes:
        setter = _WRITABLE.get(change.name)
        if change.name == OC + "tags":
            _tags(node, change.element)
        elif setter is not None:
            value = (change.element.text or "") if change.element is not None else ""
            setter(tree, node, value)
        elif change.element is None:
            node.dead_properties.pop(change.name, None)
        else:
            node.dead_properties[change.name] = inner_xml(change.element)


def report(request: Request, href: str, changes: list[Change], failed: list[Change]) -> Response:
    """The 207: all done, or the refused ones as 403 and the others as 424."""
    statuses: dict[str, dict[str, str | None]] = {}
    if failed:
        statuses[FORBIDDEN] = {change.name: None for change in failed}
        others: dict[str, str | None] = {change.name: None for change in changes if change not in failed}
        if others:
            statuses[FAILED_DEPENDENCY] = others
    else:
        for change in changes:
            statuses.setdefault(OK if change.element is not None else REMOVED, {})[change.name] = None
    writer = Writer()
    writer.response(href, list(statuses.items()))
    return document(request, writer)


def proppatch(request: Request, location: Location) -> Response:
    """Set and remove properties: all of them or none. Not checked against permissions (protocol.md §2.2)."""
    changes = changes_of(parse(request.body.read(), DAV + "propertyupdate"))
    with location.user.tree.lock:
        node = location.existing()
        failed = refused(changes)
        if not failed:
            apply(location.user.tree, node, changes)
    if not failed and "return=minimal" in request.header("prefer"):
        return empty(204)
    return report(request, location.href_base + quote("/".join(location.path)), changes, failed)

"""Favourites, tags, shares and comments of one object: asked for when somebody looks, since no ETag tells of them.

SOURCE: measured on Nextcloud 29.0.1 (protocol.md §2.1 and §3.1). What an app that is not installed would tell is
answered with 404 for the property, and left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from cloudfs.errors import ProtocolViolation
from cloudfs.remote import queries, values
from cloudfs.remote.multistatus import parse_document
from cloudfs.remote.session import Session
from cloudfs.types import Annotations, RemotePath

__all__ = ["annotations_in", "ask"]

_PROPERTIES = (
    "oc:favorite",
    "oc:tags",
    "nc:system-tags",
    "nc:sharees",
    "oc:owner-display-name",
    "oc:comments-count",
    "oc:comments-unread",
)
_D, _OC, _NC = (f"{{{queries.NAMESPACES[prefix]}}}" for prefix in ("d", "oc", "nc"))

_KINDS = {
    "0": "{}",
    "1": "group {}",
    "3": "a link",
    "4": "{} (by mail)",
    "6": "{} (another server)",
    "7": "circle {}",
    "9": "group {} (another server)",
    "10": "the conversation {}",
    "12": "the board {}",
}
"""SOURCE: the constants of OCP\\Share\\IShare."""


async def ask(session: Session, path: RemotePath) -> Annotations:
    """Ask once; raises what requests raise, and ProtocolViolation for a reply that is no answer."""
    reply = await session.fetch(session.propfind(path, "0", _PROPERTIES), 207)
    return annotations_in(reply.body)


def annotations_in(body: bytes) -> Annotations:
    """Read the multistatus; ProtocolViolation where it is none. What is missing in it is nothing."""
    root = parse_document(body)
    if root.tag != f"{_D}multistatus":
        raise ProtocolViolation("the reply is XML, but no WebDAV listing")
    found = {element.tag: element for element in root.iterfind(f"{_D}response/{_D}propstat/{_D}prop/*")}
    return Annotations(
        favorite=_text(found.get(f"{_OC}favorite")) == "1",
        tags=(
            *_texts(found.get(f"{_OC}tags"), f"{_OC}tag"),
            *_texts(found.get(f"{_NC}system-tags"), f"{_NC}system-tag"),
        ),
        shared_with=tuple(_sharees(found.get(f"{_NC}sharees"))),
        owner=_text(found.get(f"{_OC}owner-display-name")),
        comments=_count(found.get(f"{_OC}comments-count")),
        unread_comments=_count(found.get(f"{_OC}comments-unread")),
    )


def _text(element: Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def _texts(parent: Element | None, tag: str) -> Iterator[str]:
    return iter(()) if parent is None else (text for child in parent.iterfind(tag) if (text := _text(child)))


def _sharees(parent: Element | None) -> Iterator[str]:
    if parent is None:
        return
    for sharee in parent.iterfind(f"{_NC}sharee"):
        name = _text(sharee.find(f"{_NC}display-name")) or _text(sharee.find(f"{_NC}id"))
        yield _KINDS.get(_text(sharee.find(f"{_NC}type")), "{}").format(name or "somebody")


def _count(element: Element | None) -> int:
    return max(values.whole_number(_text(element)) or 0, 0)

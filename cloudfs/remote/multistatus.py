"""207 bodies, read as they arrive.

What the members of a listing are, and whether it can be believed, is told by `entries`.

INVARIANT: memory does not grow with the reply, only with what the caller keeps: one d:response at a time is
held, and none may be larger than `_MAX_ENTRY_BYTES`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, cast

import msgspec
from lxml import etree

from cloudfs.errors import ProtocolViolation
from cloudfs.remote import queries

__all__ = ["ListingParser", "Member", "parse_document", "parse_error", "parse_members"]

_MAX_ENTRY_BYTES = 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_LONGEST_REMEMBERED = 1000
"""What is kept of a listing for the next one has an end, too."""

_D = "{DAV:}"
_HREF, _STATUS, _PROPSTAT, _PROP = f"{_D}href", f"{_D}status", f"{_D}propstat", f"{_D}prop"
_RESOURCETYPE, _COLLECTION = f"{_D}resourcetype", f"{_D}collection"
_PREFIX_OF = {uri: prefix for prefix, uri in queries.NAMESPACES.items()}

_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r")
_NEUTRAL = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))
_NONCHARACTERS = (b"\xef\xbf\xbe", b"\xef\xbf\xbf")
_REPLACEMENT = "\ufffd".encode()
_STATUS_LINE = re.compile(r"\s*HTTP/\d(?:\.\d)? (\d{3})\b")


class Member(msgspec.Struct, frozen=True):
    """One d:response: what a server says about one object."""

    href: str
    status: int
    """200 where the answer comes by properties."""
    properties: dict[str, str]
    """The properties with a status of 2xx, named "d:getetag"; nested text is joined by blanks."""
    failed: dict[str, int]
    """The status of every other property."""
    collection: bool


class _Sanitiser:
    """Neutralises what no XML may contain, and refuses what no reply may contain.

    One file called U+FFFE makes a whole Nextcloud listing ill-formed (protocol.md, rule 13). A document type can
    only serve to blow up or to read files, and no server sends one.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        # A sequence or a word of interest may be cut in two: the longest, <!DOCTYPE, has 9 bytes.
        ready = data[: max(len(data) - 8, 0)]
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise ProtocolViolation("the reply declares a document type")
        self._held = data[len(ready) :]
        if ready.endswith((b"\xef", b"\xef\xbf")):
            tail = 1 if ready.endswith(b"\xef") else 2
            ready, self._held = ready[:-tail], ready[-tail:] + self._held
        return _clean(ready)

    def close(self) -> bytes:
        return _clean(self._held)


def _clean(data: bytes) -> bytes:
    data = data.translate(_NEUTRAL)
    if b"\xef\xbf" in data:
        for sequence in _NONCHARACTERS:
            data = data.replace(sequence, _REPLACEMENT)
    return data


def _xml_parser(tag: str | None = None) -> etree.XMLPullParser:
    # UTF-8 whatever is declared: all servers send it, and the sanitiser needs to know.
    return etree.XMLPullParser(
        events=("end",),
        tag=tag,
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


class ListingParser:
    """Turns a multistatus body, fed in pieces, into members."""

    def __init__(self) -> None:
        self._parser = _xml_parser(f"{_D}response")
        self._sanitiser = _Sanitiser()
        self._bytes_since_member = 0

    def feed(self, data: bytes) -> list[Member]:
        """Return the members completed by this piece of the body."""
        members = self._step(self._sanitiser.feed(data))
        self._bytes_since_member = 0 if members else self._bytes_since_member + len(data)
        if self._bytes_since_member > _MAX_ENTRY_BYTES:
            raise ProtocolViolation("one object of the listing takes more than a megabyte")
        return members

    def close(self) -> list[Member]:
        """Return the last members; ProtocolViolation where the body is not complete."""
        members = self._step(self._sanitiser.close())
        try:
            root = self._parser.close()
        except etree.XMLSyntaxError as error:
            raise ProtocolViolation(f"the listing is cut or no XML: {error.msg}") from error
        if root.tag != f"{_D}multistatus":
            raise ProtocolViolation("the reply is XML, but no WebDAV listing")
        return members

    def _step(self, data: bytes) -> list[Member]:
        try:
            self._parser.feed(data)
            # Only elements: "end" is all that was asked for, the stubs tell of every kind of event.
            return [self._take(cast("Any", element)) for _, element in self._parser.read_events()]
        except etree.XMLSyntaxError as error:
            raise ProtocolViolation(f"the reply is no XML: {error.msg}") from error

    def _take(self, element: etree._Element) -> Member:
        parent = element.getparent()
        if parent is None or parent.tag != f"{_D}multistatus" or parent.getparent() is not None:
            raise ProtocolViolation("the reply is XML, but no WebDAV listing")
        member = _member_of(element)
        element.clear()
        # The parser still writes behind this element, so only those before it can go.
        while (previous := element.getprevious()) is not None:
            parent.remove(previous)
        return member


def parse_members(body: bytes) -> list[Member]:
    """Parse a small multistatus body at once."""
    parser = ListingParser()
    return [*parser.feed(body), *parser.close()]


def _member_of(element: etree._Element) -> Member:
    # Plain loops: find and findtext cost four times as much, and this runs for every object of every listing.
    href = ""
    status = 200
    found: list[etree._Element] = []
    failed: dict[str, int] = {}
    for child in element:
        if child.tag == _HREF:
            href = (child.text or "").strip()
        elif child.tag == _STATUS:
            status = _status(child.text or "")
        elif child.tag == _PROPSTAT:
            code, properties = _propstat(child)
            if 200 <= code < 300:
                found += properties
            else:
                failed |= {_short_name(prop.tag): code for prop in properties}
    return Member(
        href=href,
        status=status,
        properties={_short_name(prop.tag): _text(prop) for prop in found},
        failed=failed,
        collection=any(prop.tag == _RESOURCETYPE and _has_collection(prop) for prop in found),
    )


def _propstat(element: etree._Element) -> tuple[int, list[etree._Element]]:
    line = ""
    properties: list[etree._Element] = []
    for child in element:
        if child.tag == _STATUS:
            line = child.text or ""
        elif child.tag == _PROP:
            properties += child
    return _status(line), properties


def _has_collection(resourcetype: etree._Element) -> bool:
    return any(child.tag == _COLLECTION for child in resourcetype)


def _text(prop: etree._Element) -> str:
    if not len(prop):
        return prop.text or ""
    return " ".join(piece for piece in (str(text).strip() for text in prop.itertext()) if piece)


@lru_cache(maxsize=256)
def _short_name(tag: str) -> str:
    if len(tag) > _LONGEST_REMEMBERED:
        raise ProtocolViolation("a listing has a property with a name without end")
    uri, _, local = tag[1:].partition("}")
    return f"{_PREFIX_OF.get(uri, uri)}:{local}"


@lru_cache(maxsize=64)
def _status(line: str) -> int:
    match = _STATUS_LINE.match(line)
    if match is None or len(line) > _LONGEST_REMEMBERED:
        raise ProtocolViolation("a listing has an object without a status")
    return int(match[1])


def parse_document(body: bytes) -> etree._Element:
    """Parse a small body whole, with the same care as a listing; ProtocolViolation where it is no XML."""
    parser = _xml_parser()
    sanitiser = _Sanitiser()
    try:
        parser.feed(sanitiser.feed(body) + sanitiser.close())
        return parser.close()
    except etree.XMLSyntaxError as error:
        raise ProtocolViolation(f"the reply is no XML: {error.msg}") from error


def parse_error(body: bytes) -> tuple[str, str]:
    """Return (exception class without its namespace, message for people) of a DAV error body.

    Both are "" where the body is no such thing: a proxy's page, plain text, nothing.
    """
    try:
        root = parse_document(body[:_MAX_ERROR_BYTES])
    except ProtocolViolation:
        return "", ""
    if root.tag != f"{_D}error":
        return "", ""
    sabre = f"{{{queries.NAMESPACES['s']}}}"
    exception = (root.findtext(f"{sabre}exception") or "").strip()
    return exception.rpartition("\\")[2], (root.findtext(f"{sabre}message") or "").strip()

"""207 bodies, read as they arrive.

A listing is whole or it is nothing: whatever is wrong with one (cut, no XML, an href outside the root, one name
twice, an object without its kind) raises ProtocolViolation, and nothing of it may be believed. A member whose name
no file here can have is no such thing: it is left out and counted.

INVARIANT: memory does not grow with the reply, only with what the caller keeps: one d:response at a time is
held, and none may be larger than `_MAX_ENTRY_BYTES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import msgspec
from lxml import etree

from cloudfs.errors import ProtocolViolation, ServerFault
from cloudfs.paths import UnrepresentableName, is_below, parent_of
from cloudfs.remote import etags, queries, values
from cloudfs.remote.hrefs import Place
from cloudfs.types import Kind, RemoteEntry, RemotePath, RemoteVersion

__all__ = ["Listing", "ListingParser", "Member", "entry_of", "parse_document", "parse_error", "parse_members"]

_MAX_ENTRY_BYTES = 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_MOST_MEMBERS = 500_000
"""Each member takes about 700 bytes until it is in the database: a listing that never ends must not take all memory."""
_MOST_TEXT_PER_MEMBER = 1024
"""On average, of hrefs and properties; 500 are usual. One member alone may have more."""
_LONGEST_WORD = 64
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


def entry_of(member: Member, place: Place, folder: RemotePath) -> RemoteEntry | None:
    """Turn a member of a listing of `folder` into an entry; None where it vanished meanwhile (404).

    Raises UnrepresentableName for one that no file here can be.
    """
    try:
        path = place.path_of(member.href, folder)
    except UnrepresentableName:
        raise
    except ValueError as error:
        raise ProtocolViolation(str(error), subject=folder) from error
    if member.status in {404, 410}:
        return None
    if member.status >= 300:
        raise ServerFault("the server cannot list it", subject=path, status=member.status)
    found = member.properties
    if "d:resourcetype" not in found:
        raise ProtocolViolation("listed without its kind", subject=path)
    return RemoteEntry(
        path=path,
        kind=Kind.FOLDER if member.collection else Kind.FILE,
        version=RemoteVersion(
            etag=etags.normalise(found.get("d:getetag")),
            size=0 if member.collection else _size(found, path),
            modified_s=values.http_date_s(found.get("d:getlastmodified")),
            checksum=values.best_checksum([found.get("oc:checksums")]),
        ),
        file_id=_word(found, "oc:fileid", path) or None,
        permissions=_word(found, "oc:permissions", path),
        mount_root=found.get("nc:is-mount-root") == "true",
        fingerprint=_word(found, "oc:data-fingerprint", path),
        quota_free=_natural(found.get("d:quota-available-bytes")),
        quota_used=_natural(found.get("d:quota-used-bytes")),
        spelling=place.spelling_of(member.href, path),
    )


def _word(found: dict[str, str], name: str, path: RemotePath) -> str | None:
    word = found.get(name)
    if word is not None and len(word) > _LONGEST_WORD:
        raise ProtocolViolation(f"{name} has {len(word)} characters", subject=path)
    return word


def _size(found: dict[str, str], path: RemotePath) -> int:
    size = _natural(found.get("d:getcontentlength") or found.get("oc:size"))
    if size is None:
        raise ProtocolViolation("a file is listed without its size", subject=path)
    return size


def _natural(text: str | None) -> int | None:
    # Quota: -1 not computed, -2 unknown, -3 unlimited (protocol.md §2.1).
    number = values.whole_number(text)
    return number if number is not None and number >= 0 else None


class Listing:
    """Checks entries against the request: each inside the folder asked for, none twice."""

    hidden_members: int
    """Members left out, of a listing with depth 1: their names cannot be had here, or are another's in NFC."""
    first_hidden: str
    """The href of the first of them, as it came."""

    def __init__(
        self, place: Place, folder: RemotePath, depth: int | None, *, most_members: int = _MOST_MEMBERS
    ) -> None:
        self._most_members = most_members
        self._text_left = max(_MOST_TEXT_PER_MEMBER * most_members, 2 * _MAX_ENTRY_BYTES)
        self._place = place
        self._folder = folder
        self._depth = depth
        """0, 1, or None for all levels."""
        self._seen: set[RemotePath] = set()
        self._decomposed: dict[str, tuple[str, RemoteEntry]] = {}
        """Members spelled in another form than NFC, with their hrefs, by spelling."""
        self.hidden_members = 0
        self.first_hidden = ""

    def admit(self, members: list[Member]) -> Iterator[RemoteEntry]:
        """Yield the entries of these members; ProtocolViolation for what the request cannot have meant.

        Some are held back until `finish`.
        """
        for member in members:
            self._text_left -= len(member.href) + sum(map(len, member.properties.values()))
            if self._text_left < 0:
                raise ProtocolViolation("the listing is larger than can be kept", subject=self._folder)
            entry = self._entry(member)
            if entry is None:
                continue
            if not self._belongs(entry.path):
                raise ProtocolViolation("listed, but not asked for", subject=entry.path)
            if self._depth == 1 and entry.path != self._folder and self._is_held_back(member.href, entry):
                continue
            if entry.path in self._seen:
                raise ProtocolViolation("listed twice", subject=entry.path)
            self._seen.add(entry.path)
            if len(self._seen) + len(self._decomposed) > self._most_members:
                message = f"the server lists more than {self._most_members} members"
                raise ProtocolViolation(message, subject=self._folder)
            yield entry

    def _entry(self, member: Member) -> RemoteEntry | None:
        try:
            return entry_of(member, self._place, self._folder)
        except UnrepresentableName as error:
            if self._depth != 1:
                raise ProtocolViolation(str(error), subject=self._folder) from error
        if member.status not in {404, 410}:
            self._hide(member.href)
        return None

    def _is_held_back(self, href: str, entry: RemoteEntry) -> bool:
        if entry.spelling is None:
            return False
        if entry.spelling in self._decomposed:
            raise ProtocolViolation("listed twice", subject=entry.path)
        self._decomposed[entry.spelling] = href, entry
        return True

    def finish(self) -> Iterator[RemoteEntry]:
        """Yield what was held back, once everything was admitted.

        Of members whose names are one in NFC, the one spelled so is shown, since requests carry that form and would
        meet it; else the first.
        """
        for href, entry in self._decomposed.values():
            if entry.path in self._seen:
                self._hide(href)
                continue
            self._seen.add(entry.path)
            yield entry

    def _hide(self, href: str) -> None:
        self.hidden_members += 1
        self.first_hidden = self.first_hidden or href

    def _belongs(self, path: RemotePath) -> bool:
        if path == self._folder:
            return True
        if self._depth is None:
            return is_below(path, self._folder)
        return self._depth == 1 and parent_of(path) == self._folder


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

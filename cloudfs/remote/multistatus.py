"""207 bodies, read as they arrive.

What the members of a listing are, and whether it can be believed, is told by `entries`.

INVARIANT: memory does not grow with the reply, only with what the caller keeps: one d:response at a time is
held, and none may be larger than `_MAX_ENTRY_BYTES`. Nor with the replies of a life: what expat knows of a document
goes with its parser. (libxml2 keeps each name that it has ever met in one table of the thread: a server that invents
names could fill the memory with them. It takes 21 µs for an object, and this 23.)
"""

from __future__ import annotations

import re
from functools import lru_cache
from xml.etree import ElementTree  # no document type gets as far as to it
from xml.parsers import expat  # nor to it

import msgspec

from cloudfs.concurrency.threads import in_read_thread
from cloudfs.errors import ProtocolViolation
from cloudfs.remote import queries

__all__ = ["ListingParser", "Member", "parse_document", "parse_error", "parse_members", "read_members"]

_MAX_ENTRY_BYTES = 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_LONG_BYTES = 64 * 1024
_MAX_DOCUMENT_BYTES = 256 * 1024
"""Of what is read into a tree: 0.1 s, and forty times as much memory."""
_BOUND = "\0"
"""Stands where an element begins or ends; no text has it."""
_MOST_NAMES = 1000
"""Different ones in a listing, of elements, attributes and namespaces: expat keeps each to its end. Servers send some
twenty."""
_MAX_DEPTH = 100
"""Elements within elements; servers write six."""
_LONGEST_REMEMBERED = 1000
"""What is kept of a listing for the next one has an end, too."""

_D = "{DAV:}"
# As expat names them: address and name, with what was chosen to lie between.
_MULTISTATUS, _RESPONSE, _PROPSTAT, _PROP = "DAV:}multistatus", "DAV:}response", "DAV:}propstat", "DAV:}prop"
_HREF, _STATUS, _RESOURCETYPE, _COLLECTION = (
    "DAV:}href",
    "DAV:}status",
    "DAV:}resourcetype",
    "DAV:}collection",
)
_OF_MEMBER, _OF_PROPSTAT, _OF_PROPERTY = 3, 4, 5
"""How deep what lies in a d:response does: its d:href and others, what is in a d:propstat, and in its d:prop."""
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


class ListingParser:
    """Turns a multistatus body, fed in pieces, into members."""

    def __init__(self) -> None:
        self._reader = _Reader()
        # UTF-8 whatever is declared: all servers send it, and the sanitiser needs to know.
        self._names: dict[str, str] = {}
        self._parser = expat.ParserCreate("utf-8", "}", self._names)
        self._parser.buffer_text = True
        self._parser.ordered_attributes = True
        # INVARIANT: the parser leads to the reader alone, and that one not back: it goes with its listing, and not
        # whenever somebody looks for circles.
        self._parser.StartElementHandler = self._reader.start
        self._parser.EndElementHandler = self._reader.end
        self._parser.CharacterDataHandler = self._reader.pieces.append
        self._parser.StartNamespaceDeclHandler = _ignore  # for its names to be counted
        self._sanitiser = _Sanitiser()
        self._bytes_since_member = 0

    def feed(self, data: bytes) -> list[Member]:
        """Return the members completed by this piece of the body."""
        members = self._step(self._sanitiser.feed(data), last=False)
        self._bytes_since_member = 0 if members else self._bytes_since_member + len(data)
        if self._bytes_since_member > _MAX_ENTRY_BYTES:
            raise ProtocolViolation("one object of the listing takes more than a megabyte")
        return members

    def close(self) -> list[Member]:
        """Return the last members; ProtocolViolation where the body is not complete."""
        return self._step(self._sanitiser.close(), last=True)

    def _step(self, data: bytes, *, last: bool) -> list[Member]:
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            what = "the listing is cut or no XML" if last else "the reply is no XML"
            raise ProtocolViolation(f"{what}: {expat.ErrorString(error.code)}") from error
        if len(self._names) > _MOST_NAMES:
            raise ProtocolViolation("the listing has names of properties without end")
        return self._reader.take()


def _ignore(*_: object) -> None:
    pass


class _Reader:
    """Puts members together from what expat calls. Plain and short: that is twenty elements for each object."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        """Text since the start of the last element that is not deeper than a property; `_BOUND` for each that is."""
        self._members: list[Member] = []
        self._path: list[str] = []
        """Of the element that is open, from the outermost on."""
        self._begin_member()
        self._begin_propstat()

    def take(self) -> list[Member]:
        """Return what is complete."""
        members, self._members = self._members, []
        return members

    def _begin_member(self) -> None:
        self._href, self._status = "", 200
        self._properties: dict[str, str] = {}
        self._failed: dict[str, int] = {}
        self._collection = False

    def _begin_propstat(self) -> None:
        self._line = ""
        self._found: dict[str, str] = {}
        self._has_collection = False

    def start(self, name: str, _: object) -> None:
        """An element begins."""
        path = self._path
        depth = len(path)
        if depth <= _OF_PROPSTAT:
            self.pieces.clear()
            if depth < _OF_PROPSTAT:
                self._start_outer(name, depth)
        elif depth >= _MAX_DEPTH:
            raise ProtocolViolation("the reply has elements within elements without end")
        else:
            self.pieces.append(_BOUND)
            if name == _COLLECTION and depth == _OF_PROPERTY and path[-1] == _RESOURCETYPE:
                self._has_collection = True
        path.append(name)

    def _start_outer(self, name: str, depth: int) -> None:
        if (name == _MULTISTATUS) != (depth == 0) or (name == _RESPONSE and depth != 1):
            raise ProtocolViolation("the reply is XML, but no WebDAV listing")
        if name == _PROPSTAT:
            self._begin_propstat()

    def end(self, name: str) -> None:
        """It ends."""
        path = self._path
        depth = len(path)
        path.pop()
        if depth == _OF_PROPERTY:
            if path[-1] == _PROP and path[2] == _PROPSTAT:
                self._found[_short_name(name)] = _joined("".join(self.pieces))
        elif depth > _OF_PROPERTY:
            self.pieces.append(_BOUND)
        elif depth == _OF_PROPSTAT:
            if name == _STATUS:
                self._line = "".join(self.pieces)
        elif depth == _OF_MEMBER:
            self._end_part(name)
        elif name == _RESPONSE:
            self._members.append(
                Member(self._href, self._status, self._properties, self._failed, self._collection)
            )
            self._begin_member()

    def _end_part(self, name: str) -> None:
        if name == _HREF:
            self._href = "".join(self.pieces).strip()
        elif name == _STATUS:
            self._status = _status("".join(self.pieces))
        elif name == _PROPSTAT:
            code = _status(self._line)
            if 200 <= code < 300:
                self._properties |= self._found
                self._collection = self._collection or self._has_collection
            else:
                self._failed |= dict.fromkeys(self._found, code)


def _joined(text: str) -> str:
    """Return the text of a property; what lies in elements within it is joined by blanks."""
    if _BOUND not in text:
        return text
    return " ".join(piece for part in text.split(_BOUND) if (piece := part.strip()))


def parse_members(body: bytes) -> list[Member]:
    """Parse a small multistatus body at once."""
    parser = ListingParser()
    return [*parser.feed(body), *parser.close()]


async def read_members(body: bytes) -> list[Member]:
    """Do the same, of a long body in a thread: of 4 MiB it takes two seconds where they hold what no server sends."""
    return parse_members(body) if len(body) <= _LONG_BYTES else await in_read_thread(parse_members, body)


@lru_cache(maxsize=256)
def _short_name(tag: str) -> str:
    if len(tag) > _LONGEST_REMEMBERED:
        raise ProtocolViolation("a listing has a property with a name without end")
    uri, _, local = tag.rpartition("}")
    return f"{_PREFIX_OF.get(uri, uri)}:{local}"


@lru_cache(maxsize=64)
def _status(line: str) -> int:
    match = _STATUS_LINE.match(line)
    if match is None or len(line) > _LONGEST_REMEMBERED:
        raise ProtocolViolation("a listing has an object without a status")
    return int(match[1])


def parse_document(body: bytes) -> ElementTree.Element:
    """Parse a small body whole, with the same care as a listing; ProtocolViolation where it is no XML, or too long."""
    if len(body) > _MAX_DOCUMENT_BYTES:
        raise ProtocolViolation(f"the reply is larger than {_MAX_DOCUMENT_BYTES} bytes")
    parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314  # no document type gets as far as to it
    sanitiser = _Sanitiser()
    try:
        parser.feed(sanitiser.feed(body) + sanitiser.close())
        root: ElementTree.Element = parser.close()
    except ElementTree.ParseError as error:
        raise ProtocolViolation(f"the reply is no XML: {error.msg}") from error
    return root


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

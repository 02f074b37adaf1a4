"""XML in and out. Names are Clark names: ``{DAV:}getetag``."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # its usual name
from xml.sax.saxutils import escape

from tests.servers.standin.errors import DavError

DAV = "{DAV:}"
OC = "{http://owncloud.org/ns}"
NC = "{http://nextcloud.org/ns}"
_PREFIXES = {
    "DAV:": "d",
    "http://sabredav.org/ns": "s",
    "http://owncloud.org/ns": "oc",
    "http://nextcloud.org/ns": "nc",
}
_HEAD = (
    '<?xml version="1.0"?>\n<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" '
    'xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns">'
)


def parse(body: bytes, expected_root: str) -> ET.Element:
    """The document's root; 400 when it is no XML or another root (protocol.md §2.3)."""
    try:
        root = ET.fromstring(body)  # noqa: S314 # only the tests' own clients send this
    except ET.ParseError as error:
        raise DavError(400, f"{error}") from error
    if root.tag != expected_root:
        raise DavError(400, f"Expected {expected_root} but received {root.tag} as the root element")
    return root


def text(value: str) -> str:
    """Escape character data as PHP's writer does. C0 controls and U+FFFE pass: the reply is then ill-formed (§2.4)."""
    return escape(value, {'"': "&quot;"})


class Writer:
    """Writes one multistatus document; numbers prefixes of foreign namespaces as it meets them."""

    def __init__(self) -> None:
        self._foreign: dict[str, str] = {}
        self._parts: list[str] = [_HEAD]

    def response(self, href: str, propstats: list[tuple[str, dict[str, str | None]]]) -> None:
        """One resource: (status line, inner XML by name) for each propstat."""
        self._parts.append(f"<d:response><d:href>{href}</d:href>")
        for status, properties in propstats:
            self._parts.append("<d:propstat><d:prop>")
            self._parts.extend(self._element(name, inner) for name, inner in properties.items())
            self._parts.append(f"</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>")
        self._parts.append("</d:response>")

    def finish(self) -> str:
        """The document."""
        return "".join([*self._parts, "</d:multistatus>"])

    def _element(self, name: str, inner: str | None) -> str:
        tag, declaration = self._tag(name)
        if inner is None:
            return f"<{tag}{declaration}/>"
        return f"<{tag}{declaration}>{inner}</{tag}>"

    def _tag(self, name: str) -> tuple[str, str]:
        namespace, _, local = name[1:].partition("}") if name.startswith("{") else ("", "", name)
        if not namespace:
            return local, ""
        prefix = _PREFIXES.get(namespace)
        if prefix is not None:
            return f"{prefix}:{local}", ""
        prefix = self._foreign.setdefault(namespace, f"x{len(self._foreign) + 1}")
        return f"{prefix}:{local}", f' xmlns:{prefix}="{escape(namespace)}"'


def inner_xml(element: ET.Element) -> str:
    """What a property element contains, to be stored as a dead property."""
    inner = text(element.text or "")
    for member in element:
        inner += ET.tostring(member, encoding="unicode")
    return inner

"""A small WebDAV client for the suite: shows every status, header and property as the server sent it."""

from __future__ import annotations

import socket
import time
import xml.etree.ElementTree as ET  # its usual name
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

PREFIXES = {
    "d": "DAV:",
    "oc": "http://owncloud.org/ns",
    "nc": "http://nextcloud.org/ns",
    "x": "urn:cloudfs:test",
}
_DECLARATIONS = " ".join(f'xmlns:{prefix}="{namespace}"' for prefix, namespace in PREFIXES.items())
COMMON_PROPERTIES = ("d:resourcetype", "d:getlastmodified", "d:getcontentlength", "d:getetag")
TIMEOUT_S = 60.0
TLS = httpx.create_ssl_context()
"""Made once: a client makes its own otherwise, which costs more than a test."""


@dataclass(frozen=True)
class Entry:
    """One response of a multistatus: decoded path, and text of the properties by prefixed name."""

    path: str
    """Below the folder of the test; the folder itself is ``""``. Folders keep their trailing slash."""
    href: str
    found: Mapping[str, str]
    """Properties with status 200. Element content is shown as the names of the elements."""
    statuses: Mapping[str, int]
    """Status of every property named in the reply."""

    @property
    def is_folder(self) -> bool:
        """Whether ``resourcetype`` says so."""
        return "d:collection" in self.found.get("d:resourcetype", "")


def once(method: str, url: str, **options: Any) -> httpx.Response:
    """One request on a connection of its own, without cookies and credentials but those given."""
    return httpx.request(method, url, verify=TLS, timeout=TIMEOUT_S, **options)


class Dav:
    """Requests relative to one folder of a server."""

    def __init__(self, client: httpx.Client, folder_url: str) -> None:
        self.client = client
        self.folder_url = folder_url
        """With a trailing slash."""

    def url(self, path: str = "") -> str:
        """Absolute URL of a path below the folder."""
        return self.folder_url + quote(path)

    def request(
        self, method: str, path: str = "", *, content: bytes | str | None = None, **headers: str
    ) -> httpx.Response:
        """One request; ``X_OC_Mtime="1"`` is the header ``X-OC-Mtime: 1``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, self.url(path), content=content, headers=sent)

    def put(self, path: str, content: bytes | str = b"content", **headers: str) -> httpx.Response:
        """PUT that has to succeed."""
        response = self.request("PUT", path, content=content, **headers)
        assert response.status_code in {201, 204}, response.text
        return response

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET without compression."""
        return self.request("GET", path, Accept_Encoding="identity", **headers)

    def mkcol(self, path: str) -> httpx.Response:
        """MKCOL that has to succeed."""
        response = self.request("MKCOL", path)
        assert response.status_code == 201, response.text
        return response

    def transfer(self, method: str, path: str, to: str, **headers: str) -> httpx.Response:
        """MOVE or COPY within the folder."""
        return self.request(method, path, Destination=self.url(to), **headers)

    def proppatch(self, path: str, inner: str, **headers: str) -> httpx.Response:
        """Set properties given as XML."""
        change = f"<d:set><d:prop>{inner}</d:prop></d:set>"
        body = f'<?xml version="1.0"?><d:propertyupdate {_DECLARATIONS}>{change}</d:propertyupdate>'
        return self.request("PROPPATCH", path, content=body, Content_Type="application/xml", **headers)

    def propfind(
        self, path: str = "", *names: str, depth: str | None = "0", **headers: str
    ) -> httpx.Response:
        """PROPFIND for properties by prefixed name."""
        inner = "".join(f"<{name}/>" for name in names or COMMON_PROPERTIES)
        body = f'<?xml version="1.0"?><d:propfind {_DECLARATIONS}><d:prop>{inner}</d:prop></d:propfind>'
        if depth is not None:
            headers["Depth"] = depth
        return self.request(
            "PROPFIND", path, content=body, Content_Type="application/xml; charset=utf-8", **headers
        )

    def listing(self, path: str = "", *names: str, depth: str = "1") -> dict[str, Entry]:
        """Entries by path."""
        return {entry.path: entry for entry in self.entries(self.propfind(path, *names, depth=depth))}

    def stat(self, path: str, *names: str) -> Entry:
        """The one entry of a Depth 0 PROPFIND."""
        entries = self.entries(self.propfind(path, *names, depth="0"))
        assert len(entries) == 1
        return entries[0]

    def entries(self, response: httpx.Response) -> list[Entry]:
        """The responses of a multistatus."""
        assert response.status_code == 207, response.text
        root = ET.fromstring(response.content)  # noqa: S314 # from a server under test
        return [self._entry(element) for element in root.iter("{DAV:}response")]

    def _entry(self, element: ET.Element) -> Entry:
        href = (element.findtext("{DAV:}href") or "").strip()
        found: dict[str, str] = {}
        statuses: dict[str, int] = {}
        for propstat in element.iter("{DAV:}propstat"):
            status = int((propstat.findtext("{DAV:}status") or "").split()[1])
            for prop in propstat.iterfind("{DAV:}prop/*"):
                name = short_name(prop.tag)
                statuses[name] = status
                if status == 200:
                    found[name] = (prop.text or "").strip() + " ".join(
                        short_name(member.tag) + (f"={member.text}" if member.text else "") for member in prop
                    )
        path = unquote(urlsplit(href).path)
        return Entry(path.removeprefix(unquote(urlsplit(self.folder_url).path)), href, found, statuses)


def short_name(tag: str) -> str:
    """``{DAV:}getetag`` as ``d:getetag``."""
    for prefix, namespace in PREFIXES.items():
        tag = tag.replace("{" + namespace + "}", prefix + ":")
    return tag


def start_of_second() -> None:
    """Wait until a second has just begun, so that a few requests fit into it."""
    time.sleep(1.02 - time.time() % 1)


def bare_etag(value: str) -> str:
    """An ETag without ``W/`` and quotes."""
    return value.removeprefix("W/").strip('"')


def exception_of(response: httpx.Response) -> str:
    """Class name in an error body of SabreDAV's."""
    return _error(response, "exception")


def message_of(response: httpx.Response) -> str:
    """Message in an error body of SabreDAV's."""
    return _error(response, "message")


def _error(response: httpx.Response, name: str) -> str:
    root = ET.fromstring(response.content)  # noqa: S314 # from a server under test
    return root.findtext("{http://sabredav.org/ns}" + name) or ""


def cut_put(dav: Dav, path: str, content: bytes, announced_bytes: int, **headers: str) -> None:
    """Begin a PUT of ``announced_bytes``, send only ``content``, and close the connection."""
    request = dav.client.build_request("PUT", dav.url(path))
    auth = dav.client.auth
    assert isinstance(auth, httpx.BasicAuth)
    request = next(auth.auth_flow(request))
    assert request.url.port, "plain http on an explicit port"
    head = (
        f"PUT {request.url.raw_path.decode()} HTTP/1.1\r\nHost: {request.url.netloc.decode()}\r\n"
        f"Authorization: {request.headers['Authorization']}\r\nContent-Length: {announced_bytes}\r\n"
    )
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    with socket.create_connection((request.url.host, request.url.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(head.encode() + content)

"""The server as a bench itself talks to it: straight, beside the proxy, so that nothing of it is counted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx
from lxml import etree

__all__ = ["Server"]

_DAV = "{DAV:}"
_FILE_ID = "{http://owncloud.org/ns}fileid"
_ASKED = (
    '<d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">'
    "<d:prop><d:resourcetype/><d:getcontentlength/><oc:fileid/></d:prop></d:propfind>"
)


@dataclass(frozen=True)
class Server:
    """A WebDAV folder and who may go there. Every method raises httpx.HTTPError where it cannot."""

    url: str
    user: str
    password: str

    @property
    def host(self) -> tuple[str, int]:
        """Where it listens. Raises ValueError where nobody can count what is said there."""
        address = urlsplit(self.url)
        if address.scheme != "http" or not address.hostname:
            raise ValueError("only plain http can be counted: give an http:// address, as of this machine")
        return address.hostname, address.port or 80

    def behind(self, port: int) -> Server:
        """Return the same folder as it is reached through a proxy on this machine."""
        parts = urlsplit(self.url)
        return replace(self, url=parts._replace(netloc=f"127.0.0.1:{port}").geturl())

    def inside(self, folder: str) -> Server:
        """Return a folder in it."""
        return replace(self, url=self.address(folder))

    def address(self, path: str) -> str:
        """Return the URL of what is in it."""
        return f"{self.url.rstrip('/')}/{quote(path)}"

    def make(self, path: str) -> bool:
        """Make a folder; False where there was one."""
        status = self._request("MKCOL", path, allowed=(405,)).status_code
        return status != 405

    def remove(self, path: str) -> None:
        """Remove whatever is there; nothing is fine too."""
        self._request("DELETE", path, allowed=(404,))

    def copy(self, path: str, to: str) -> None:
        """Copy a file or a folder within the server."""
        self._request("COPY", path, {"Destination": self.address(to)})

    def put(self, path: str, source: Path) -> None:
        """Send a file with its checksum, as clients do that cloudfs and others can append to."""
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha1").hexdigest()
            file.seek(0)
            self._request("PUT", path, {"OC-Checksum": f"SHA1:{digest}"}, content=_pieces(file))

    def file_id(self, path: str) -> str:
        """Return what the server calls this file, whatever its name; "" where it has no such thing."""
        answer = self._propfind(path, "0")
        return answer.findtext(f".//{_FILE_ID}") or ""

    def exists(self, path: str) -> bool:
        """Tell whether there is anything."""
        reply = self._request("PROPFIND", path, {"Depth": "0"}, allowed=(404,))
        return reply.status_code != 404

    def size(self, path: str) -> int:
        """Return the bytes of a file."""
        return int(self._propfind(path, "0").findtext(f".//{_DAV}getcontentlength") or -1)

    def count_files(self, path: str) -> int:
        """Return how many files are in the folder and below."""
        count, folders = 0, [path.strip("/")]
        while folders:
            folder = folders.pop()
            own = unquote(urlsplit(self.address(folder)).path).rstrip("/")
            for entry in self._propfind(folder, "1").iterfind(f"{_DAV}response"):
                place = unquote(urlsplit(entry.findtext(f"{_DAV}href") or "").path).rstrip("/")
                if entry.find(f".//{_DAV}collection") is None:
                    count += 1
                elif place != own:
                    folders.append(f"{folder}/{place.rpartition('/')[2]}".strip("/"))
        return count

    def is_nextcloud(self) -> bool:
        """Tell whether it is one, by the form of its addresses."""
        return re.search(r"/remote\.php/dav/files/[^/]+", self.url) is not None

    def _propfind(self, path: str, depth: str) -> etree._Element:
        headers = {"Depth": depth, "Content-Type": "application/xml"}
        return etree.fromstring(self._request("PROPFIND", path, headers, content=_ASKED.encode()).content)

    def _request(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        content: bytes | Iterator[bytes] = b"",
        allowed: tuple[int, ...] = (),
    ) -> httpx.Response:
        with self._client() as client:
            reply = client.request(method, self.address(path), headers=headers, content=content)
        if reply.status_code not in allowed:
            reply.raise_for_status()
        return reply

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        with httpx.Client(auth=(self.user, self.password), timeout=300, trust_env=False) as client:
            yield client


def _pieces(file: object) -> Iterator[bytes]:
    while data := file.read(1024 * 1024):  # type: ignore[attr-defined]
        yield data

"""A file of a real Nextcloud, and what people attach to it there: asked for by another client, not by cloudfs."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET  # its usual name
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.tooling.needs import ACCOUNT_VARIABLES, SHARER_VARIABLES

__all__ = ["Attached", "Document", "People", "people"]

_TAG = "cloudfs tests"
"""Only an administrator can remove a tag: one for all runs."""
_DECLARED = 'xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns"'
_NAMES = {"d": "DAV:", "oc": "http://owncloud.org/ns", "nc": "http://nextcloud.org/ns"}


@dataclass(frozen=True)
class Attached:
    """Everything that a replaced file would have lost."""

    file_id: str
    shares: frozenset[tuple[str, str]]
    """Number and type; each keeps its link and its receivers."""
    tags: frozenset[str]
    comments: tuple[str, ...]
    favorite: bool


@dataclass(frozen=True)
class People:
    """Two accounts of one server, each with a client of its own."""

    url: str
    user: str
    password: str
    owner: httpx.Client
    receiver_name: str
    receiver: httpx.Client


@contextmanager
def people() -> Iterator[People]:
    """Log both in; skips without a second account."""
    if not all(map(os.environ.get, SHARER_VARIABLES)):
        pytest.skip(f"only with {', '.join(SHARER_VARIABLES)} set")
    url, user, password_file = (os.environ[name] for name in ACCOUNT_VARIABLES)
    other, other_file = (os.environ[name] for name in SHARER_VARIABLES)
    password, other_password = (Path(file).read_text().strip() for file in (password_file, other_file))
    with _client(user, password) as owner, _client(other, other_password) as receiver:
        yield People(url.rstrip("/"), user, password, owner, other, receiver)


def _client(user: str, password: str) -> httpx.Client:
    return httpx.Client(auth=(user, password), headers={"OCS-APIRequest": "true"}, timeout=60)


class Document:
    """One file, by the path below the account's root."""

    def __init__(self, people: People, path: str) -> None:
        self._people, self._client, self._path = people, people.owner, path
        self._dav = f"{people.url}/remote.php/dav"
        self._file = f"{self._dav}/files/{people.user}/{quote(path)}"
        self._shares = f"{people.url}/ocs/v2.php/apps/files_sharing/api/v1/shares"

    def write(self, content: bytes, mtime_s: int) -> None:
        headers = {"X-OC-Mtime": str(mtime_s)}
        self._client.put(self._file, content=content, headers=headers).raise_for_status()

    def read(self) -> bytes:
        return self._client.get(self._file).raise_for_status().content

    def read_by_receiver(self) -> bytes:
        """As the other account finds it in its own root."""
        people, name = self._people, quote(self._path.rpartition("/")[2])
        file = f"{self._dav}/files/{people.receiver_name}/{name}"
        return people.receiver.get(file).raise_for_status().content

    def attach(self, comment: str) -> None:
        """Share it with a person and by a link, tag it, comment on it, mark it."""
        for wanted in ({"shareType": "0", "shareWith": self._people.receiver_name}, {"shareType": "3"}):
            self._client.post(self._shares, data={"path": f"/{self._path}", **wanted}).raise_for_status()
        file_id = self._properties("oc:fileid")["oc:fileid"]
        relation = f"{self._dav}/systemtags-relations/files/{file_id}/{self._tag()}"
        self._client.put(relation).raise_for_status()
        said = {"actorType": "users", "verb": "comment", "message": comment}
        self._client.post(f"{self._dav}/comments/files/{file_id}", json=said).raise_for_status()
        body = (
            f"<d:propertyupdate {_DECLARED}><d:set><d:prop><oc:favorite>1</oc:favorite></d:prop></d:set>"
            "</d:propertyupdate>"
        )
        self._client.request("PROPPATCH", self._file, content=body).raise_for_status()

    def unshare(self) -> None:
        """A file that is removed leaves its shares, and with one of those no share that was received can be renamed.

        SOURCE: measured on 29.0.1 (500, "Node for share not found"), until its job for that has run.
        """
        for number, _ in self.attached().shares:
            self._client.delete(f"{self._shares}/{number}").raise_for_status()

    def attached(self) -> Attached:
        found = self._properties("oc:fileid", "nc:system-tags", "oc:favorite")
        listed = self._client.get(self._shares, params={"path": f"/{self._path}", "format": "json"})
        shares = listed.raise_for_status().json()["ocs"]["data"]
        comments = self._ask(f"{self._dav}/comments/files/{found['oc:fileid']}", "1", "oc:message")
        return Attached(
            found["oc:fileid"],
            frozenset((str(share["id"]), str(share["share_type"])) for share in shares),
            frozenset(found["nc:system-tags"].split("\n")),
            tuple(sorted(it["oc:message"] for it in comments if it.get("oc:message"))),
            found["oc:favorite"] == "1",
        )

    def versions(self) -> dict[int, bytes | None]:
        """Return the history: what was there by its time, None for what is there now."""
        folder = (
            f"{self._dav}/versions/{self._people.user}/versions/{self._properties('oc:fileid')['oc:fileid']}"
        )
        names = [it["href"].rstrip("/").rpartition("/")[2] for it in self._ask(folder, "1", "d:getetag")][1:]
        replies = {int(name): self._client.get(f"{folder}/{name}") for name in names}
        return {
            time_s: reply.content if reply.status_code == 200 else None for time_s, reply in replies.items()
        }

    def _tag(self) -> str:
        tags = f"{self._dav}/systemtags/"
        for known in self._ask(tags, "1", "oc:id", "oc:display-name"):
            if known.get("oc:display-name") == _TAG:
                return known["oc:id"]
        made = self._client.post(tags, json={"name": _TAG, "userVisible": True, "userAssignable": True})
        return str(made.raise_for_status().headers["Content-Location"]).rpartition("/")[2]

    def _properties(self, *names: str) -> dict[str, str]:
        (found,) = self._ask(self._file, "0", *names)
        return found

    def _ask(self, url: str, depth: str, *names: str) -> list[dict[str, str]]:
        """Return the properties of each thing, and its href."""
        body = (
            f"<d:propfind {_DECLARED}><d:prop>{''.join(f'<{name}/>' for name in names)}</d:prop></d:propfind>"
        )
        reply = self._client.request("PROPFIND", url, content=body, headers={"Depth": depth})
        assert reply.status_code == 207, reply.text
        root = ET.fromstring(reply.content)  # noqa: S314  # from a server under test
        return [
            {"href": response.findtext("d:href", "", _NAMES)}
            | {
                name: "\n".join(prop.itertext())
                for name in names
                if (prop := response.find(f"d:propstat/d:prop/{name}", _NAMES)) is not None
            }
            for response in root.iter("{DAV:}response")
        ]

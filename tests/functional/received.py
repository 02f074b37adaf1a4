"""A folder that another account shares with the one that is mounted: on the stand-in, or on a real Nextcloud."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from tests.conformance.conftest import share_letters
from tests.conformance.dav import TIMEOUT_S, TLS
from tests.functional.stages import USER
from tests.servers import StandIn
from tests.tooling.needs import ACCOUNT_VARIABLES, SHARER_VARIABLES

__all__ = ["ALL", "PretendedShare", "RealShare", "Received", "real_share"]

ALL = 31
"""Read 1, update 2, create 4, delete 8, share on 16."""
_CONTENTS = {"file": b"theirs", "other": b"theirs", "sub/file": b"theirs"}


class Received(Protocol):
    """The share. Paths are below it."""

    @property
    def name(self) -> str:
        """In the receiver's root."""
        ...

    @property
    def allowed(self) -> int:
        """At first."""
        ...

    def allow(self, allowed: int) -> None: ...
    def withdraw(self) -> None: ...
    def write(self, path: str, content: bytes) -> None:
        """As its owner."""
        ...

    def read(self, path: str) -> bytes | None:
        """As its owner; None where there is none."""
        ...

    def shown_at(self, path: str) -> bool:
        """Tell whether the receiver has something there, by a path below its root."""
        ...


class PretendedShare:
    """The stand-in has one account: its content is where it is shown, and withdrawn it is gone."""

    def __init__(self, server: StandIn, allowed: int) -> None:
        self.allowed = allowed
        self.name = f"share {secrets.token_hex(4)}"
        self._account = server.account(USER)
        self._account.populate({f"{self.name}/{path}": content for path, content in _CONTENTS.items()})
        self._account.populate({f"{self.name}/empty": None})
        self._account.share_root(f"/{self.name}", share_letters(allowed))
        self._node = self._account.node(f"/{self.name}")

    @property
    def _at(self) -> str:
        return "/" + "/".join(self._node.segments())

    def allow(self, allowed: int) -> None:
        self._account.set_permissions(self._at, share_letters(allowed))

    def withdraw(self) -> None:
        self._account.delete(self._at)

    def write(self, path: str, content: bytes) -> None:
        self._account.write(f"{self._at}/{path}", content)

    def read(self, path: str) -> bytes | None:
        there = f"{self._at}/{path}"
        return self._account.read(there) if self._account.exists(there) else None

    def shown_at(self, path: str) -> bool:
        return self._account.exists(f"/{path}")


@dataclass(frozen=True)
class RealShare:
    """Made by the second account (CLOUDFS_TEST_SHARER)."""

    name: str
    url: str
    owner: httpx.Client
    receiver: httpx.Client
    owner_name: str
    receiver_name: str
    number: str
    allowed: int

    @property
    def _shares(self) -> str:
        return f"{self.url}/ocs/v2.php/apps/files_sharing/api/v1/shares/{self.number}"

    def _file(self, path: str) -> str:
        return f"{self.url}/remote.php/dav/files/{self.owner_name}/{self.name}/{path}"

    def allow(self, allowed: int) -> None:
        self.owner.put(self._shares, data={"permissions": allowed}).raise_for_status()

    def withdraw(self) -> None:
        self.owner.delete(self._shares).raise_for_status()

    def write(self, path: str, content: bytes) -> None:
        self.owner.put(self._file(path), content=content).raise_for_status()

    def read(self, path: str) -> bytes | None:
        reply = self.owner.get(self._file(path), headers={"Accept-Encoding": "identity"})
        return None if reply.status_code == 404 else reply.raise_for_status().content

    def shown_at(self, path: str) -> bool:
        there = f"{self.url}/remote.php/dav/files/{self.receiver_name}/{path}"
        return self.receiver.request("PROPFIND", there, headers={"Depth": "0"}).status_code == 207


@contextmanager
def real_share(allowed: int) -> Iterator[RealShare]:
    """Share a new folder ; gone afterwards."""
    if not all(map(os.environ.get, SHARER_VARIABLES)):
        pytest.skip(f"only with {', '.join(SHARER_VARIABLES)} set")
    url, receiver, file = (os.environ[name] for name in ACCOUNT_VARIABLES)
    sharer, sharer_file = (os.environ[name] for name in SHARER_VARIABLES)
    url, name = url.rstrip("/"), f"share {secrets.token_hex(4)}"
    with _client(sharer, sharer_file) as owner, _client(receiver, file) as other:
        folder = f"{url}/remote.php/dav/files/{sharer}/{name}"
        for path in ("", "/sub", "/empty"):
            owner.request("MKCOL", folder + path).raise_for_status()
        try:
            for path, content in _CONTENTS.items():
                owner.put(f"{folder}/{path}", content=content).raise_for_status()
            wanted = {"path": name, "shareType": 0, "shareWith": receiver, "permissions": allowed}
            shares = f"{url}/ocs/v2.php/apps/files_sharing/api/v1/shares?format=json"
            made = owner.post(shares, data=wanted).raise_for_status().json()["ocs"]["data"]
            assert made["file_target"] == f"/{name}"
            number = str(made["id"])
            yield RealShare(name, url, owner, other, sharer, receiver, number, allowed)
            # A folder that is removed leaves its share: `attached.Document.unshare`.
            owner.delete(shares.replace("?", f"/{number}?"))
        finally:
            owner.request("DELETE", folder)


def _client(user: str, password_file: str) -> httpx.Client:
    auth = (user, Path(password_file).read_text().strip())
    return httpx.Client(auth=auth, headers={"OCS-APIRequest": "true"}, timeout=TIMEOUT_S, verify=TLS)

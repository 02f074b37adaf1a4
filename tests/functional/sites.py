"""A server that a mount is tested on, and what another client finds there: the stand-in or the real one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import httpx

from tests.conformance.conftest import real_account
from tests.conformance.dav import Dav
from tests.functional.stages import PASSWORD, USER
from tests.servers import StandIn

__all__ = ["RealSite", "Site", "StandInSite", "real_site"]

PATIENCE_S = 120.0
"""How long the mount may have a file locked that it reads or writes, or a process of the server be mistaken."""


class Site(Protocol):
    """Where to log in, and another client's eyes and hands. Paths are below the root, with no slash in front."""

    @property
    def url(self) -> str:
        """What is logged in to: the server, or the folder that is to be the root."""
        ...

    @property
    def user(self) -> str: ...

    @property
    def password(self) -> str: ...

    @property
    def app_password(self) -> str:
        """What may be sent with each request."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, None where there is none."""
        ...

    def file_id(self, path: str) -> str: ...

    def tree(self, folder: str) -> dict[str, bytes | None]:
        """Return everything below a folder by relative path, folders as None."""
        ...

    def write(self, path: str, data: bytes, mtime_s: int) -> None:
        """Make or replace a file. Another time makes another ETag: within one second a Nextcloud gives only one."""
        ...

    def mkdir(self, path: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None: ...
    def rmdir(self, path: str) -> None:
        """Remove a folder, with what is in it."""
        ...


@dataclass(frozen=True)
class StandInSite:
    """The stand-in, asked from inside."""

    server: StandIn
    user: str = USER
    password: str = PASSWORD
    app_password: str = PASSWORD

    @property
    def url(self) -> str:
        return self.server.url

    def read(self, path: str) -> bytes | None:
        account = self.server.account(USER)
        return account.read(f"/{path}") if account.exists(f"/{path}") else None

    def file_id(self, path: str) -> str:
        return str(self.server.account(USER).node(f"/{path}").file_id)

    def tree(self, folder: str) -> dict[str, bytes | None]:
        return self.server.account(USER).tree(f"/{folder}")

    def write(self, path: str, data: bytes, mtime_s: int) -> None:
        self.server.account(USER).write(f"/{path}", data, mtime=mtime_s, parents=False)

    def mkdir(self, path: str) -> None:
        self.server.account(USER).mkdir(f"/{path}")

    def rename(self, source: str, target: str) -> None:
        self.server.account(USER).move(f"/{source}", f"/{target}")

    def unlink(self, path: str) -> None:
        self.server.account(USER).delete(f"/{path}")

    def rmdir(self, path: str) -> None:
        self.server.account(USER).delete(f"/{path}")


@dataclass(frozen=True)
class RealSite:
    """A folder of the account in CLOUDFS_TEST_URL, asked by a client that shares nothing with cloudfs."""

    user: str
    password: str
    """What a person types: the mount makes an app password of its own from it."""
    dav: Dav
    """Logs in with another one."""
    app_password: str

    @property
    def url(self) -> str:
        return self.dav.folder_url

    def move(self, url: str, to: str) -> None:
        self._request("MOVE", url, Destination=to).raise_for_status()

    def _request(self, method: str, url: str, content: bytes | None = None, **headers: str) -> httpx.Response:
        """Ask again where somebody else has just locked the file: the mount that reads or writes it.

        Also where a process of the server still knows a file of a folder's name, and cannot open what is in it: PUT is
        500 then and GET 503, by chance, for two minutes (PHP's realpath cache).
        """
        headers |= {"Accept-Encoding": "identity"}
        ask = partial(self.dav.client.request, method, url, content=content, headers=headers)
        until = time.monotonic() + PATIENCE_S
        while (reply := ask()).status_code in {423, 500, 503} and time.monotonic() < until:
            time.sleep(0.1)
        return reply

    def read(self, path: str) -> bytes | None:
        reply = self._request("GET", self.dav.url(path))
        return None if reply.status_code == 404 else reply.raise_for_status().content

    def file_id(self, path: str) -> str:
        return self.dav.stat(path, "oc:fileid").found["oc:fileid"]

    def tree(self, folder: str) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        unseen = [f"{folder}/"]
        while unseen:
            parent = unseen.pop()
            for path, entry in self.dav.listing(parent).items():
                if path != parent:
                    found[path.removeprefix(f"{folder}/").rstrip("/")] = (
                        None if entry.is_folder else self.read(path)
                    )
                    unseen += [path] if entry.is_folder else []
        return found

    def write(self, path: str, data: bytes, mtime_s: int) -> None:
        url, sent = self.dav.url(path), {"X-OC-Mtime": str(mtime_s)}
        self._request("PUT", url, data, **sent).raise_for_status()

    def mkdir(self, path: str) -> None:
        self._request("MKCOL", self.dav.url(path)).raise_for_status()

    def rename(self, source: str, target: str) -> None:
        self.move(self.dav.url(source), self.dav.url(target))

    def unlink(self, path: str) -> None:
        self._request("DELETE", self.dav.url(path)).raise_for_status()

    def rmdir(self, path: str) -> None:
        self.unlink(path)


@contextmanager
def real_site() -> Iterator[RealSite]:
    """Make a folder for the mount, which is gone afterwards."""
    with real_account() as target, target.client() as client:
        yield RealSite(target.user, target.login_password, Dav(client, target.root_url), target.password)

"""A real file manager's window follows what another client changes, with nobody touching it.

Also on a real Nextcloud, where CLOUDFS_TEST_URL and so on are set: in a folder of its own, which is deleted.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.functional.desktop import FileManager
from tests.functional.stages import PASSWORD, USER, MountStage
from tests.servers import StandIn
from tests.tooling.needs import ACCOUNT_VARIABLES

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Site:
    """A Nextcloud, and the account that is mounted."""

    url: str
    user: str
    password: str


@contextmanager
def _stand_in() -> Iterator[Site]:
    with StandIn(push=True) as server:
        yield Site(server.url, USER, PASSWORD)


@contextmanager
def _real() -> Iterator[Site]:
    url, user, password_file = (os.environ[name] for name in ACCOUNT_VARIABLES)
    yield Site(url.rstrip("/"), user, Path(password_file).read_text().strip())


class OtherClient:
    """Another device of the same account; all paths are relative to one new folder."""

    def __init__(self, site: Site, folder: str) -> None:
        self._base = f"{site.url}/remote.php/dav/files/{site.user}/{folder}/"
        self._client = httpx.Client(auth=(site.user, site.password), timeout=60)
        self._send("MKCOL", "")

    def _send(self, method: str, path: str, content: bytes | None = None, **headers: str) -> None:
        reply = self._client.request(method, self._base + path, content=content, headers=headers)
        reply.raise_for_status()

    def make_folder(self, path: str) -> None:
        self._send("MKCOL", path)

    def write(self, path: str, content: bytes) -> None:
        self._send("PUT", path, content)

    def remove(self, path: str) -> None:
        self._send("DELETE", path)

    def rename(self, path: str, target: str) -> None:
        self._send("MOVE", path, Destination=self._base + target)

    def close(self) -> None:
        self._send("DELETE", "")
        self._client.close()


_SITES = {"standin": _stand_in, "nextcloud": _real}


@pytest.fixture(params=["standin", pytest.param("nextcloud", marks=pytest.mark.real_nextcloud)])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    running: AbstractContextManager[Site] = _SITES[request.param]()
    with running as site:
        yield site


@pytest.fixture
def stage(tmp_path: Path, site: Site) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "mount", site, settings="poll_s = 1", user=site.user, password=site.password)
    yield made
    made.cloudfs("unmount", "a")
    made.cloudfs("logout", "a")
    made.close()


def test_its_window_follows_another_client(site: Site, stage: MountStage) -> None:
    folder = f"window-{secrets.token_hex(4)}"
    other = OtherClient(site, folder)
    try:
        other.write("first.txt", b"twelve bytes")
        stage.wait((stage.mount_point / folder / "first.txt").exists)
        with FileManager(stage.mount_point / folder) as window:
            window.shows({"first.txt": "12 bytes"})
            other.make_folder("papers")
            window.shows({"papers": "0 bytes", "first.txt": "12 bytes"})
            other.write("second.txt", b"one")
            window.shows({"papers": "0 bytes", "first.txt": "12 bytes", "second.txt": "3 bytes"})
            other.write("second.txt", b"one, two")
            window.shows({"papers": "0 bytes", "first.txt": "12 bytes", "second.txt": "8 bytes"})
            other.rename("first.txt", "1.txt")
            window.shows({"papers": "0 bytes", "1.txt": "12 bytes", "second.txt": "8 bytes"})
            other.rename("second.txt", "papers/second.txt")
            window.shows({"papers": "0 bytes", "1.txt": "12 bytes"})
            other.remove("1.txt")
            window.shows({"papers": "0 bytes"})
            other.remove("papers")
            window.shows({})
    finally:
        other.close()

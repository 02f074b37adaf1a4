"""Servers that the adapter is tried on, and remotes that talk to them."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from cloudfs.errors import NotFound, Unsupported
from cloudfs.remote.connect import Site, discover, exchange_password, revoke
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Body, Condition
from cloudfs.types import RemotePath, Stored
from tests.servers import ApacheServer, PlainServer, RcloneServer, StandIn, WsgidavServer

PLAIN_SERVERS: dict[str, type[PlainServer]] = {
    "wsgidav": WsgidavServer,
    "rclone": RcloneServer,
    "apache": ApacheServer,
}


class Login(msgspec.Struct, frozen=True):
    """How to get into a server."""

    kind: str
    url: str
    user: str
    password: str


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("standin", marks=pytest.mark.server("standin")),
        pytest.param("wsgidav", marks=pytest.mark.server("wsgidav")),
        pytest.param("rclone", marks=pytest.mark.server("rclone")),
        pytest.param("apache", marks=pytest.mark.server("apache")),
        pytest.param("real", marks=pytest.mark.real_nextcloud),
    ],
)
def login(request: pytest.FixtureRequest) -> Iterator[Login]:
    kind = str(request.param)
    if kind == "real":
        password = Path(os.environ["CLOUDFS_TEST_PASSWORD_FILE"]).read_text().strip()
        yield from _real_login(os.environ["CLOUDFS_TEST_URL"], os.environ["CLOUDFS_TEST_USER"], password)
    elif kind == "standin":
        with StandIn() as standin:
            yield Login(kind, standin.url, "alice", standin.account("alice").password)
    else:
        with PLAIN_SERVERS[kind]() as server:
            yield Login(kind, server.url, server.user, server.password)


def _real_login(url: str, user: str, password: str) -> Iterator[Login]:
    """Work with an app password: a login password costs the server half a second of hashing per request."""
    site = trio.run(discover, url, user, password)
    app_password = trio.run(exchange_password, site, password, "cloudfs tests")
    yield Login("real", url, user, app_password)
    if app_password != password:
        assert trio.run(revoke, site, app_password)


@pytest.fixture(scope="module")
def site(login: Login) -> Site:
    """What `discover` finds there."""
    return trio.run(discover, login.url, login.user, login.password)


@pytest.fixture
async def remote(login: Login, site: Site) -> AsyncIterator[WebdavRemote]:
    async with tidied(WebdavRemote(site, login.password)) as remote:
        yield remote


class Begun:
    """The uploads in pieces that have not come to their end."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.spare: set[str] = set()

    def began(self, folder: str, name: str) -> None:
        del name
        self.folders.add(folder)

    def begun(self, prefix: str) -> list[str]:
        return [folder for folder in self.folders if folder.startswith(prefix)]

    def ended(self, folder: str) -> None:
        self.folders.discard(folder)

    def unwanted(self, folder: str) -> None:
        self.spare.add(folder)

    def left(self, folder: str) -> None:
        """It may go on."""


@asynccontextmanager
async def tidied(remote: WebdavRemote) -> AsyncIterator[WebdavRemote]:
    """Leave no pieces behind, as the engine does: a real server keeps them for a day."""
    begun = Begun()
    remote.note_pieces(begun)
    yield remote
    for folder in begun.folders:
        await remote.drop_pieces(folder)
    await remote.aclose()


@pytest.fixture
async def top(remote: WebdavRemote) -> AsyncIterator[RemotePath]:
    """Make a folder of the test's own, and delete it afterwards."""
    path = RemotePath(f"/cloudfs remote test {secrets.token_hex(4)}")
    await remote.make_folder(path)
    yield path
    with trio.fail_after(30):
        while not await _is_removed(remote, path):
            await trio.sleep(0.05)


async def _is_removed(remote: WebdavRemote, path: RemotePath) -> bool:
    """Remove a folder; False: what came of an upload that was cut a moment ago has just been put into it.

    SOURCE: rclone answers 405 to any removal that fails (golang.org/x/net/webdav, `handleDelete`).
    """
    try:
        await remote.delete(path)
    except NotFound:
        return True
    except Unsupported as error:
        if error.status != 405:
            raise
        return False
    return True


def body_of(data: bytes, step: int = 65536) -> Body:
    """Return a body that can be started again."""

    async def chunks(start: int = 0) -> AsyncIterator[bytes]:
        for at in range(start, len(data), step):
            yield data[at : at + step]

    return chunks


async def store(remote: WebdavRemote, path: RemotePath, data: bytes) -> Stored:
    """Make a new file."""
    return await remote.put(path, body_of(data), len(data), Condition(absent=True))

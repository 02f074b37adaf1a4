"""Plain servers with other habits than the three that the contract is tried on: see `tests.servers.plain.dialects`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from cloudfs.errors import Changed, NotFound, ServerFault
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition
from cloudfs.types import RemotePath
from tests.remote.conftest import body_of
from tests.servers.plain.dialects import LikeLighttpd, LikeNginx

pytestmark = pytest.mark.server("wsgidav")

FILE, FOLDER = RemotePath("/a.bin"), RemotePath("/folder")
DATA = os.urandom(50_000)


@pytest.fixture(params=[LikeNginx, LikeLighttpd])
def server(request: pytest.FixtureRequest) -> Iterator[LikeNginx | LikeLighttpd]:
    with request.param() as made:
        made.write("/a.bin", DATA)
        made.write("/folder/inside", b"inside")
        yield made


@pytest.fixture
async def remote(server: LikeNginx | LikeLighttpd) -> AsyncIterator[WebdavRemote]:
    made = WebdavRemote(await discover(server.url, server.user, server.password), server.password)
    yield made
    await made.aclose()


async def test_a_file_is_read(remote: WebdavRemote) -> None:
    version = (await remote.stat(FILE)).version
    assert await remote.get_range(FILE, 0, len(DATA), version) == DATA
    assert await remote.get_range(FILE, 777, 4242, version) == DATA[777:4242]
    async with remote.stream(FILE, 10, 30_000, version) as chunks:
        assert b"".join([bytes(chunk) async for chunk in chunks]) == DATA[10:30_000]


async def test_what_goes_up_comes_back(remote: WebdavRemote) -> None:
    path = RemotePath("/new")
    stored = await remote.put(path, body_of(b"new"), 3, Condition(absent=True))
    entry = await remote.stat(path)
    assert stored.etag == entry.version.etag
    assert await remote.get_range(path, 0, 3, entry.version) == b"new"
    stored = await remote.put(path, body_of(b"newer"), 5, Condition(version=entry.version))
    entry = await remote.stat(path)
    assert await remote.get_range(path, 0, 5, entry.version) == b"newer"


async def test_another_version_is_never_taken_for_the_one_asked_for(
    remote: WebdavRemote, server: LikeNginx | LikeLighttpd
) -> None:
    version = (await remote.stat(FILE)).version
    server.write("/a.bin", os.urandom(len(DATA)), mtime=version.modified_s + 5)
    with pytest.raises(Changed):
        await remote.get_range(FILE, 0, len(DATA), version)
    with pytest.raises(Changed):
        async with remote.stream(FILE, 10, 20, version):
            pytest.fail("a version that nobody asked for")


async def test_a_folder_is_moved_and_removed(remote: WebdavRemote, server: LikeNginx | LikeLighttpd) -> None:
    await remote.move(FOLDER, RemotePath("/moved"))
    assert server.tree() == {"a.bin": DATA, "moved": None, "moved/inside": b"inside"}
    await remote.delete(RemotePath("/moved"))
    assert server.tree() == {"a.bin": DATA}
    with pytest.raises(NotFound):
        await remote.delete(RemotePath("/moved"))


async def test_what_is_refused_of_a_file_is_sent_once(
    remote: WebdavRemote, server: LikeNginx | LikeLighttpd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "refuse", lambda method, _: "400 Bad Request" if method == "DELETE" else None)
    with pytest.raises(ServerFault):
        await remote.delete(FILE)
    assert [path for method, path in server.asked if method == "DELETE"] == [FILE]

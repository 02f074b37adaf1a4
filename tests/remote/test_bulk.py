"""Many small new files in one request, on every server that takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from cloudfs.errors import (
    NotAuthenticated,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    Unreachable,
    Unsupported,
)
from cloudfs.paths import join
from cloudfs.remote.connect import Site, discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import NewFile
from cloudfs.types import RemotePath
from tests.remote.conftest import Login
from tests.servers import Answer, LoseReply, StandIn
from tests.servers.standin.faults import Action

MTIME_S = 1_500_000_000
NAMES = [
    "a b",
    "%41%2f",
    "#?&+;=@,$!",
    "x[1](2){3}'\"~^`|",
    "ünïcödé ß € 語 😀",
    "...",
    ".hidden",
    "a:b",
    "n" * 240,
]


def new(path: RemotePath, content: bytes = b"content", mtime_s: int = MTIME_S) -> NewFile:
    return NewFile(path, content, mtime_s)


async def test_files_arrive_as_they_are(remote: WebdavRemote, top: RemotePath) -> None:
    files = [new(join(top, name), name.encode() * n) for n, name in enumerate(NAMES)]
    assert all(file.fits_bulk for file in files)
    if not remote.features.bulk:
        with pytest.raises(Unsupported):
            await remote.put_bulk(files)
        return
    stored = await remote.put_bulk(files)
    entries = {entry.path: entry for entry in (await remote.list_folder(top))[1]}
    assert set(entries) == {file.path for file in files}
    for file, made in zip(files, stored, strict=True):
        entry = entries[file.path]
        assert made is not None
        assert (made.etag, made.file_id) == (entry.version.etag, entry.file_id)
        assert (made.modified_s, made.mtime_kept) == (entry.version.modified_s, True)
        assert entry.version.size == len(file.content)
        assert await remote.get_range(file.path, 0, len(file.content), entry.version) == file.content


async def test_a_file_that_is_refused_stops_no_other(remote: WebdavRemote, top: RemotePath) -> None:
    if not remote.features.bulk:
        pytest.skip("only where it is offered")
    files = [new(join(top, "a")), new(join(join(top, "missing"), "b")), new(join(top, "c"))]
    assert [made is None for made in await remote.put_bulk(files)] == [False, True, False]
    assert [entry.name for entry in (await remote.list_folder(top))[1]] == ["a", "c"]


async def test_times_that_the_server_does_not_take(remote: WebdavRemote, top: RemotePath) -> None:
    if not remote.features.bulk:
        pytest.skip("only where it is offered")
    (stored,) = await remote.put_bulk([new(join(top, "old"), mtime_s=0)])
    entry = await remote.stat(join(top, "old"))
    assert stored is not None
    assert (stored.modified_s, stored.mtime_kept) == (entry.version.modified_s, False)


async def test_into_a_folder_of_the_account(
    login: Login, site: Site, remote: WebdavRemote, top: RemotePath
) -> None:
    if not remote.features.bulk:
        pytest.skip("only where it is offered")
    inner = join(top, "in ner#")
    await remote.make_folder(inner)
    part = await discover(
        site.root_url + inner.lstrip("/").replace(" ", "%20").replace("#", "%23"), login.user, login.password
    )
    below = WebdavRemote(part, login.password)
    try:
        (stored,) = await below.put_bulk([new(RemotePath("/f"))])
        assert stored is not None
        assert (await remote.stat(join(inner, "f"))).file_id == stored.file_id
    finally:
        await below.aclose()


@pytest.mark.parametrize("path", ["/a.part", "/a.PART/b", "/back\\slash", "/a ", "/ a", "/line\nbreak"])
def test_names_for_which_a_put_is_needed(path: str) -> None:
    assert not new(RemotePath(path)).fits_bulk


class TestStandIn:
    @pytest.fixture
    def standin(self) -> Iterator[StandIn]:
        with StandIn() as server:
            yield server

    @pytest.fixture
    async def bulk(self, standin: StandIn) -> AsyncIterator[WebdavRemote]:
        account = standin.account("alice")
        remote = WebdavRemote(await discover(standin.url, "alice", account.password), account.password)
        yield remote
        await remote.aclose()

    async def test_it_comes_without_the_session(self, standin: StandIn, bulk: WebdavRemote) -> None:
        """Rule 3: with cookies it ends the session; so the jar has to be as it was."""
        await bulk.stat(RemotePath("/"))
        for _ in range(3):
            assert all(await bulk.put_bulk([new(RemotePath("/f"))]))
        await bulk.stat(RemotePath("/"))
        posts = [line for line in standin.requests if line.method == "POST"]
        assert len(posts) == 3
        assert all("cookie" not in line.headers for line in posts)

    async def test_what_came_back_of_a_broken_one(self, standin: StandIn, bulk: WebdavRemote) -> None:
        cases: list[tuple[Action, type[Exception]]] = [
            (Answer(502, b"<html>"), ServerFault),
            (Answer(200, b"<html>welcome"), ProtocolViolation),
            (Answer(400, b'{"/f": 1}'), ProtocolViolation),
            (Answer(401), NotAuthenticated),
            (LoseReply(), Unreachable),
        ]
        for fault, error in cases:
            standin.faults.add(fault, method="POST")
            with pytest.raises(error) as failed:
                await bulk.put_bulk([new(RemotePath("/f"))])
            assert isinstance(failed.value, RemoteError)
            assert not failed.value.unsent

    async def test_without_a_connection_nothing_was_sent(self, standin: StandIn, bulk: WebdavRemote) -> None:
        standin.stop()
        with pytest.raises(Unreachable) as failed:
            await bulk.put_bulk([new(RemotePath("/f"))])
        assert failed.value.unsent

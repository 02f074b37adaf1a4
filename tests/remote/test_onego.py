"""Large new files in one request where the line is quick, and in pieces where it is not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import AlreadyExists, QuotaExceeded, ServerFault, Unreachable
from cloudfs.remote import onego
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.onego import OneGo, TooSlow
from cloudfs.remote.protocol import Condition
from cloudfs.remote.transport import Limits
from cloudfs.types import RemotePath
from tests.remote.conftest import body_of
from tests.servers import Account, Answer, CutUpload, StandIn

MIB = 1024 * 1024
PIECE = 5 * MIB
DATA = random.Random(7).randbytes(2 * PIECE + 4711)
NEW = RemotePath("/new")
ABSENT = Condition(absent=True)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def account(server: StandIn) -> Account:
    return server.account("alice")


@pytest.fixture
async def remote(server: StandIn, account: Account) -> AsyncIterator[WebdavRemote]:
    """Of 256 MiB and 64 MiB small ones are made, with which all goes as with these."""
    site = await discover(server.url, "alice", account.password)
    limits = Limits(whole_bytes=PIECE, piece_bytes=PIECE, hopeful_bytes=4 * PIECE)
    remote = WebdavRemote(site, account.app_password(), limits=limits)
    await remote.stat(RemotePath("/"))
    server.requests.reset()
    yield remote
    await remote.aclose()


async def send(remote: WebdavRemote, path: RemotePath = NEW, data: bytes = DATA) -> None:
    await remote.put(path, body_of(data), len(data), ABSENT, name=f"name of {path}")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no line be quick enough."""
    monkeypatch.setattr(onego, "_JUDGED_S", 0.0)
    monkeypatch.setattr(onego, "_MOST_S", 0.0)


async def test_on_a_quick_line_it_is_one_request(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await send(remote)
    assert server.requests.methods == ["PUT"]
    assert account.read("/new") == DATA


async def test_what_is_too_large_goes_in_pieces_at_once(remote: WebdavRemote, server: StandIn) -> None:
    await send(remote, data=bytes(4 * PIECE + 1))
    assert server.requests.methods[:2] == ["MKCOL", "PUT"]


@pytest.mark.usefixtures("slow")
async def test_on_a_slow_line_it_goes_in_pieces_and_so_do_the_next(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    await send(remote)
    assert account.read("/new") == DATA
    assert not account.uploads
    assert [method for method in server.requests.methods if method != "PROPFIND"][-4:] == [
        "MKCOL",
        "PUT",
        "PUT",
        "MOVE",
    ]
    server.requests.reset()
    await send(remote, RemotePath("/another"))
    assert server.requests.methods[0] == "MKCOL"
    assert account.read("/another") == DATA


async def test_a_proxy_that_takes_less_in_one_request_gets_pieces(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    server.faults.add(Answer(413), method="PUT")
    await send(remote)
    assert server.requests.methods[:2] == ["PUT", "MKCOL"]
    assert account.read("/new") == DATA


async def test_after_a_broken_line_it_goes_in_pieces(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    server.faults.add(CutUpload(MIB), method="PUT")
    with pytest.raises(Unreachable):
        await send(remote)
    assert "/new" not in account.tree()
    server.requests.reset()
    await send(remote)
    assert server.requests.methods[0] == "MKCOL"
    assert account.read("/new") == DATA


async def test_what_another_client_put_there_stays(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    account.write("/new", b"theirs")
    with pytest.raises(AlreadyExists):
        await send(remote)
    assert account.read("/new") == b"theirs"
    assert "MKCOL" not in server.requests.methods


@pytest.mark.parametrize(("bytes_per_s", "quick"), [(11 * MIB, True), (9 * MIB, False)])
async def test_a_line_is_judged_by_what_all_of_it_would_take(
    autojump_clock: MockClock, bytes_per_s: int, quick: bool
) -> None:
    del autojump_clock
    size = 100 * MIB
    taken = 0
    began = trio.current_time()
    chunks: Any = OneGo(256 * MIB).paced(body_of(bytes(size)), size)(0)
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                taken += len(chunk)
                await trio.sleep(len(chunk) / bytes_per_s)
        except TooSlow:
            assert not quick
            assert trio.current_time() - began == pytest.approx(2, abs=0.5)
        else:
            assert quick
            assert taken == size


async def test_a_line_is_judged_once(autojump_clock: MockClock) -> None:
    """Later more would be thrown away than two seconds' worth."""
    del autojump_clock
    size, taken = 100 * MIB, 0
    async for chunk in OneGo(256 * MIB).paced(body_of(bytes(size)), size)(0):
        taken += len(chunk)
        await trio.sleep(len(chunk) / (12 * MIB if taken < 30 * MIB else MIB))
    assert taken == size


@pytest.mark.parametrize("status", [400, 403, 408, 411, 415, 500, 502, 504])
async def test_whoever_takes_no_large_bodies_in_whatever_way_it_says_so_gets_pieces(
    remote: WebdavRemote, server: StandIn, account: Account, status: int
) -> None:
    server.faults.add(Answer(status), method="PUT", path="/new$", times=None)
    try:
        await send(remote)
    except ServerFault:  # it may have been stored all the same, and was not
        server.requests.reset()
        await send(remote)
    assert "MKCOL" in server.requests.methods
    assert account.read("/new") == DATA


async def test_a_full_account_says_nothing_about_the_line(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    account.set_quota(PIECE)
    for _ in range(2):
        server.requests.reset()
        with pytest.raises(QuotaExceeded):
            await send(remote)
        assert server.requests.methods[0] == "PUT"
    assert "MKCOL" not in server.requests.methods


async def test_pieces_from_before_a_restart_are_gone_on_with(
    remote: WebdavRemote, server: StandIn, account: Account
) -> None:
    noted = _Noted()
    remote.note_pieces(noted)
    server.faults.add(CutUpload(MIB), method="PUT")
    server.faults.add(CutUpload(MIB), method="PUT", path="uploads", nth=2)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await send(remote)
    assert noted.folders
    remote._storing.forget()
    remote._storing._one_go = OneGo(4 * PIECE)  # as in another process
    server.requests.reset()
    await send(remote)
    assert server.requests.methods[0] == "MKCOL"
    assert account.read("/new") == DATA


class _Noted:
    """What is begun in pieces."""

    def __init__(self) -> None:
        self.folders: set[str] = set()

    def began(self, folder: str, name: str) -> None:
        del name
        self.folders.add(folder)

    def is_begun(self, folder: str) -> bool:
        return folder in self.folders

    def ended(self, folder: str) -> None:
        self.folders.discard(folder)

    def left(self, folder: str) -> None:
        """It may go on."""


@pytest.mark.usefixtures("slow")
async def test_what_was_given_up_is_in_the_log(
    remote: WebdavRemote, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="cloudfs.remote.transport"):
        await send(remote)
    assert any("PUT /new: given up" in record.getMessage() for record in caplog.records)


async def test_after_a_while_it_is_tried_again(autojump_clock: MockClock) -> None:
    del autojump_clock
    one_go = OneGo(MIB)
    assert one_go.is_worth_a_try(MIB, MIB)
    assert not one_go.is_worth_a_try(MIB, MIB - 1), "a limit lets less through in time"
    assert not one_go.is_worth_a_try(MIB + 1, 2 * MIB)
    one_go.was_in_vain()
    await trio.sleep(599)
    assert not one_go.is_worth_a_try(MIB, MIB)
    await trio.sleep(2)
    assert one_go.is_worth_a_try(MIB, MIB)

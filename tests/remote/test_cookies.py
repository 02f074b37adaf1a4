"""protocol.md, rules 1 and 2: one session for each account, which no other account's requests ever carry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from cloudfs.paths import ROOT_PATH
from cloudfs.remote.connect import discover
from cloudfs.remote.exchange import Request
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.tls import make_context
from cloudfs.remote.transport import Limits, Transport
from cloudfs.types import RemotePath
from tests.servers import StandIn
from tests.servers.standin.faults import Answer, Delay
from tests.servers.standin.log import Record
from tests.servers.standin.site import INSTANCE_ID


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        for name in ("alice", "bob"):
            server.account(name).write(f"/of-{name}", b"x")
        yield server


async def remote_of(server: StandIn, name: str) -> WebdavRemote:
    password = server.account(name).app_password()
    return WebdavRemote(await discover(server.url, name, password), password)


def session(record: Record) -> str | None:
    pairs = (part.strip().partition("=") for part in record.headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == INSTANCE_ID), None)


async def test_rule_2_no_account_uses_the_session_of_another(server: StandIn) -> None:
    remotes = {name: await remote_of(server, name) for name in ("alice", "bob")}
    server.requests.reset()

    async def look(name: str) -> None:
        _, members = await remotes[name].list_folder(ROOT_PATH)
        assert [it.name for it in members] == [f"of-{name}"]

    for name in remotes:
        await look(name)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            for name in remotes:
                nursery.start_soon(look, name)
    for remote in remotes.values():
        await remote.aclose()
    asked = {name: [it for it in server.requests if f"/files/{name}/" in it.path] for name in remotes}
    assert all(it.user == name for name, records in asked.items() for it in records)
    sessions = {name: {session(it) for it in records[1:]} for name, records in asked.items()}
    assert all(len(its) == 1 and None not in its for its in sessions.values()), "rule 1: with the session"
    assert sessions["alice"].isdisjoint(sessions["bob"])


async def test_another_login_begins_without_the_old_session(server: StandIn) -> None:
    remote = await remote_of(server, "alice")
    await remote.stat(RemotePath("/of-alice"))
    remote.use_password(server.account("alice").app_password())
    server.requests.reset()
    await remote.stat(RemotePath("/of-alice"))
    assert [session(it) for it in server.requests] == [None]
    await remote.aclose()


async def test_a_server_that_sets_cookies_without_end_fills_no_memory(server: StandIn) -> None:
    """Nor does it make every request larger than the one before. The cookies that were there first go on."""
    transport = Transport(server.url, None, tls=make_context())
    for number in range(100):
        headers = {"Set-Cookie": f"c{number}={number}"}
        server.faults.add(Answer(200, headers=headers), times=1)
        await transport.fetch(Request("GET", f"{server.url}/status.php", "/"))
    server.faults.add(Answer(200, headers={"Set-Cookie": "c0=again"}), times=1)
    for _ in range(2):
        await transport.fetch(Request("GET", f"{server.url}/status.php", "/"))
    await transport.aclose()
    cookies = list(server.requests)[-1].headers["cookie"].split("; ")
    assert len(cookies) == 50
    assert "c0=again" in cookies
    server.requests.reset()
    transport = Transport(server.url, None, tls=make_context())
    server.faults.add(Answer(200, headers={"Set-Cookie": f"large={'v' * 5000}"}), times=1)
    for _ in range(2):
        await transport.fetch(Request("GET", f"{server.url}/status.php", "/"))
    await transport.aclose()
    assert "large" not in list(server.requests)[-1].headers.get("cookie", "")


@pytest.mark.parametrize("set_", ["c=gr\u00fcn", "c\u00e9=1", "c=1; Path=/\u00e9", "c=a\x01b"])
async def test_a_cookie_that_no_request_can_bring_is_left(server: StandIn, set_: str) -> None:
    """Every request from then on would have failed, and been said to be about the name of the server."""
    transport = Transport(server.url, None, tls=make_context())
    server.faults.add(Answer(200, headers={"Set-Cookie": set_}), times=1)
    server.faults.add(Answer(200, headers={"Set-Cookie": "good=1"}), times=1)
    server.requests.reset()
    for _ in range(3):
        await transport.fetch(Request("GET", f"{server.url}/status.php", "/"))
    await transport.aclose()
    assert [it.headers.get("cookie") for it in server.requests] == [None, None, "good=1"]


async def test_what_needs_no_login_is_asked_without_one(server: StandIn) -> None:
    remote = await remote_of(server, "alice")
    await remote.stat(RemotePath("/of-alice"))
    server.requests.reset()
    await remote.health()
    await remote.asks_for_wipe()
    assert len(server.requests) == 2
    assert all(not {"cookie", "authorization"} & set(it.headers) for it in server.requests)
    await remote.aclose()


async def test_logins_that_the_server_delays_are_waited_for(server: StandIn) -> None:
    """Brute-force protection: what has no session waits, maybe for others' mistakes; what has one does not."""
    password = server.account("alice").app_password()
    site = await discover(server.url, "alice", password)
    sessions = server.site.users._sessions
    server.faults.add(Delay(0.8), predicate=lambda it: session(it) not in sessions, times=None)
    remote = WebdavRemote(site, password, limits=Limits(read_s=0.3, login_s=10.0))
    assert (await remote.stat(RemotePath("/of-alice"))).name == "of-alice"
    server.requests.reset()
    await remote.stat(RemotePath("/of-alice"))
    assert len(server.requests) == 1
    sessions.clear()  # it ended there: the next one is a login again, and nobody could know
    await remote.stat(RemotePath("/of-alice"))
    assert len(server.requests) == 3, "given up once, then waited for"
    await remote.aclose()

"""A server that always says a little more, before anybody could call it silent: nobody waits for its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import RemoteError
from cloudfs.paths import ROOT_PATH
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition, Features, NewFile
from cloudfs.types import RemotePath

PATH = RemotePath("/a")
NEXTCLOUD = Features(name="Nextcloud", nextcloud=True, bulk=True, depth_infinity=True)
EVERY_S = 4.0
"""Less than any silence that is waited for."""
Ask = Callable[[WebdavRemote], Awaitable[object]]


async def blanks() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await trio.sleep(EVERY_S)


async def pieces() -> AsyncIterator[bytes]:
    yield b"x"


async def ended(status: int, ask: Ask) -> float:
    """Return after how many seconds an answer without end was given up."""
    base_url = "http://h/"
    site = Site(f"{base_url}remote.php/dav/files/jo/", "jo", NEXTCLOUD, base_url, "jo")
    headers = {"Content-Type": "application/xml"}
    remote = WebdavRemote(
        site,
        "secret",
        wire=lambda _lane: httpx.MockTransport(
            lambda _: httpx.Response(status, content=blanks(), headers=headers)
        ),
    )
    began_s = trio.current_time()
    with trio.fail_after(3600), pytest.raises(RemoteError):
        await ask(remote)
    took_s = trio.current_time() - began_s
    await remote.aclose()
    return took_s


@pytest.mark.parametrize(
    ("ask", "within_s"),
    [
        (lambda remote: remote.stat(PATH), 15),
        (lambda remote: remote.space(), 15),
        (lambda remote: remote.find("77"), 15),
        (lambda remote: remote.list_folder(ROOT_PATH), 125),
        (lambda remote: remote.list_tree(ROOT_PATH, most=1000), 35),
    ],
    ids=["stat", "space", "find", "folder", "tree"],
)
async def test_what_is_asked_ends(autojump_clock: MockClock, ask: Ask, within_s: float) -> None:
    assert await ended(207, ask) <= within_s
    assert await ended(200, ask) <= within_s


@pytest.mark.parametrize("status", [200, 201, 500])
@pytest.mark.parametrize(
    "ask",
    [
        lambda remote: remote.make_folder(PATH),
        lambda remote: remote.identify(["77"]),
        lambda remote: remote.delete(PATH),
        lambda remote: remote.move(PATH, RemotePath("/b")),
        lambda remote: remote.put(PATH, pieces, 1, Condition(absent=True)),
        lambda remote: remote.put_bulk([NewFile(PATH, b"x", 1600000000)]),
    ],
    ids=["folder", "identify", "delete", "move", "put", "bulk"],
)
async def test_what_is_changed_ends(autojump_clock: MockClock, ask: Ask, status: int) -> None:
    """Its outcome is looked up, as after every lost answer."""
    assert await ended(status, ask) <= 200

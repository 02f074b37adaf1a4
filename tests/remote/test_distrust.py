"""Idle connections that nothing can come from any more are not used, and not waited for."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from cloudfs.errors import RemoteError
from cloudfs.remote.exchange import Request
from cloudfs.remote.transport import Transport
from cloudfs.remote.wire import has_address
from tests.remote.test_wire import connected, read_head, served

IP_FREEBIND = 15
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Counted:
    """A server that knows how many connections were made to it."""

    def __init__(self) -> None:
        self.connections = 0
        self.both = trio.Event()

    async def script(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        if self.connections == 2:
            self.both.set()
        while head := await read_head(stream):
            if b"/both" in head:
                await self.both.wait()
            if b"/fail" in head:
                return
            await stream.send_all(REPLY)


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Counted, Transport, str]]:
    server = Counted()
    async with served(server.script) as url, connected(url) as transport:
        yield server, transport, url


async def get(transport: Transport, url: str) -> None:
    assert (await transport.fetch(Request("GET", url, "/"), 200)).body == b"ok"


async def test_distrusted_connections_are_not_used_again() -> None:
    async with talking() as (server, transport, url):
        await get(transport, url)
        await get(transport, url)
        assert server.connections == 1
        transport.distrust_connections()
        await get(transport, url)
        await get(transport, url)
        assert server.connections == 2


async def test_a_failed_request_has_the_other_idle_ones_distrusted() -> None:
    async with talking() as (server, transport, url):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, transport, url + "both")
            nursery.start_soon(get, transport, url + "both")
        assert server.connections == 2
        with pytest.raises(RemoteError):
            await get(transport, url + "fail")
        await get(transport, url)
        assert server.connections == 3


async def test_a_request_under_way_is_not_disturbed() -> None:
    async with talking() as (_, transport, url), trio.open_nursery() as nursery:
        nursery.start_soon(get, transport, url + "both")
        await trio.testing.wait_all_tasks_blocked(0.05)
        transport.distrust_connections()
        nursery.start_soon(get, transport, url + "both")


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.3.2.1")]
)
def test_an_address_of_this_machine(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as made:
        made.bind((address, 0))
        assert has_address(trio.socket.from_stdlib_socket(made))


def test_an_address_that_is_gone() -> None:
    with socket.socket() as made:
        made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        made.bind(("192.0.2.1", 0))
        assert not has_address(trio.socket.from_stdlib_socket(made))


def test_other_sockets_have_no_address_to_lose() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert has_address(trio.socket.from_stdlib_socket(ours))

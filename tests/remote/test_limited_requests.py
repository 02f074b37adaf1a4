"""Requests under a limit: what it costs is never taken for a server's silence, and counts for what is sent at once."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from cloudfs.errors import Unreachable
from cloudfs.remote.connect import discover
from cloudfs.remote.exchange import Lane, Request
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.limiting import Bucket, Rank, Traffic, asking_as
from cloudfs.remote.protocol import Condition
from cloudfs.remote.tls import make_context
from cloudfs.remote.transport import Limits, Transport
from cloudfs.types import RemotePath
from tests.remote.conftest import body_of
from tests.remote.test_wire import certificate, read_head, served, upload
from tests.servers import StandIn

__all__ = ["certificate"]

KIB, MIB = 1024, 1024 * 1024
SHORT = Limits(read_s=1.0, change_s=1.0, attempt_s=1.0, slowest_bytes_per_s=10**9)
"""All of them less than what a bucket that owes two seconds has everybody wait."""


def owing(bucket: Bucket, rate: float = 256 * KIB) -> None:
    """Set a limit under which the next byte has to wait two seconds."""
    bucket.limit(rate)
    bucket.charge(10**9)


@asynccontextmanager
async def connected(url: str, traffic: Traffic, ca_file: Path | None = None) -> AsyncIterator[Transport]:
    auth = httpx.BasicAuth("u", "p")
    transport = Transport(url, auth, tls=make_context(ca_file), limits=SHORT, traffic=traffic)
    try:
        yield transport
    finally:
        await transport.aclose()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(
    request: pytest.FixtureRequest, certificate: tuple[ssl.SSLContext, Path]
) -> tuple[ssl.SSLContext, Path] | None:
    return certificate if request.param else None


async def test_a_held_up_upload_is_no_silence(tls: tuple[ssl.SSLContext, Path] | None) -> None:
    size, traffic = 4 * 64 * KIB, Traffic()

    async def script(stream: trio.abc.Stream) -> None:
        head = await read_head(stream)
        left = size - len(head.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    context, ca_file = tls or (None, None)
    async with served(script, context) as url, connected(url, traffic, ca_file) as transport:
        owing(traffic.up)
        began = trio.current_time()
        await transport.fetch(upload(url, size), 201)
        assert trio.current_time() - began >= 2
    assert size < traffic.sent_bytes < size + 4 * KIB
    assert 0 < traffic.received_bytes < 4 * KIB


@pytest.mark.parametrize("size", [64 * KIB, 9 * MIB], ids=["through HTTP's parser", "straight"])
async def test_a_held_up_download_is_no_silence(tls: tuple[ssl.SSLContext, Path] | None, size: int) -> None:
    traffic = Traffic()

    async def script(stream: trio.abc.Stream) -> None:
        while await read_head(stream):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // (64 * KIB)):
                await stream.send_all(bytes(64 * KIB))

    context, ca_file = tls or (None, None)
    async with served(script, context) as url, connected(url, traffic, ca_file) as transport:
        request = Request("GET", url + "a", "/a", lane=Lane.STREAMS)
        owing(traffic.down, 4 * MIB)
        began, came = trio.current_time(), 0
        async with transport.open(request) as reply:
            while chunk := await reply.read_raw():
                came += len(chunk)
            assert came == size
            assert trio.current_time() - began >= 2
    assert size < traffic.received_bytes < size + 4 * KIB


async def test_a_silent_server_is_still_one(certificate: tuple[ssl.SSLContext, Path]) -> None:
    del certificate
    traffic = Traffic()

    async def script(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await trio.sleep_forever()

    async with served(script) as url, connected(url, traffic) as transport:
        traffic.down.limit(10 * MIB)
        traffic.up.limit(10 * MIB)
        for request in (Request("GET", url + "a", "/a", lane=Lane.STREAMS), upload(url)):
            with trio.fail_after(30), pytest.raises(Unreachable):
                await transport.fetch(request, 200)


async def test_what_somebody_waits_for_goes_at_once() -> None:
    traffic = Traffic()

    async def script(stream: trio.abc.Stream) -> None:
        while await read_head(stream):
            await stream.send_all(b"HTTP/1.1 207 Multi\r\nContent-Length: 5\r\n\r\nwords")

    async with served(script) as url, connected(url, traffic) as transport:
        owing(traffic.down, 1)
        owing(traffic.up, 1)
        with trio.fail_after(30):
            assert (await transport.fetch(Request("PROPFIND", url, "/"), 207)).body == b"words"


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@asynccontextmanager
async def account(standin: StandIn, traffic: Traffic, limits: Limits) -> AsyncIterator[WebdavRemote]:
    password = standin.account("alice").password
    site = await discover(standin.url, "alice", password)
    remote = WebdavRemote(site, password, limits=limits, traffic=traffic)
    try:
        yield remote
    finally:
        await remote.aclose()


async def test_reads_in_one_piece_have_the_time_that_they_need(standin: StandIn) -> None:
    """Ranges and archives end within a time that goes by their size; what limits cost is not counted."""
    data, traffic = bytes(range(256)) * 1024, Traffic()
    for name in ("a", "b"):
        standin.account("alice").write(f"/{name}", data)
    limits = Limits(attempt_s=1.0, change_s=1.0, slowest_bytes_per_s=10**9)
    async with account(standin, traffic, limits) as remote:
        version = (await remote.stat(RemotePath("/a"))).version
        owing(traffic.down)
        assert await remote.get_range(RemotePath("/a"), 0, len(data), version) == data
        owing(traffic.down)
        with asking_as(lambda: Rank.BACKGROUND):
            found = await remote.read_archive(RemotePath("/"), {"a": len(data), "b": len(data)})
    assert found == {"a": data, "b": data}


@pytest.mark.parametrize(
    ("rate", "pieces"), [(None, 1), (100 * MIB, 1), (8000, 2), (200 * KIB, 2), (800 * KIB, 1)], ids=str
)
async def test_a_low_limit_has_files_go_in_smaller_pieces(
    standin: StandIn, rate: float | None, pieces: int
) -> None:
    """So that a connection that breaks costs seconds of what the limit allows, and not the hour of a whole file."""
    traffic, data = Traffic(), bytes(12 * MIB)
    standin.requests.reset()
    async with account(standin, traffic, Limits()) as remote:
        if rate is not None:
            traffic.up.limit(rate)
        path = RemotePath(f"/{rate}")

        async def lift() -> None:
            # What was decided by the limit is not changed by lifting it; waiting for it would be the test of a clock.
            while not traffic.up.waiting:
                await trio.sleep(0.01)
            traffic.up.limit(None)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lift)
            await remote.put(path, body_of(data), len(data), Condition(absent=True), name=f"x-{rate}")
            nursery.cancel_scope.cancel()
    assert standin.requests.count("PUT") == pieces

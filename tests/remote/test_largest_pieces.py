"""How large a request may be at most, as newer servers say (`files.chunked_upload`), and what becomes of nonsense."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Condition
from cloudfs.remote.transport import Limits
from cloudfs.types import RemotePath
from tests.remote.conftest import body_of
from tests.servers import StandIn

MIB = 1024 * 1024
FILE = RemotePath("/file")


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


def tell(server: StandIn, told: object) -> None:
    files = server.application.ocs.capabilities["files"]
    assert isinstance(files, dict)
    files["chunked_upload"] = {"max_size": told, "max_parallel_count": 5}


async def sent(server: StandIn, size: int, limits: Limits | None = None) -> list[int]:
    """Send a new file; return the sizes of the requests that carry it."""
    account = server.account("alice")
    site = await discover(server.url, "alice", account.password)
    remote = WebdavRemote(site, account.app_password(), limits=limits)
    try:
        await remote.put(FILE, body_of(bytes(size)), size, Condition(absent=True), name="x-1")
    finally:
        await remote.aclose()
    assert account.read("/file") == bytes(size)
    while not all(request.done for request in server.requests):
        await trio.sleep(0.01)  # a record is complete a moment after its answer
    return [request.request_bytes for request in server.requests.matching("PUT")]


async def test_no_request_is_larger_than_the_server_wants(server: StandIn) -> None:
    tell(server, 6 * MIB)
    assert await sent(server, 20 * MIB) == [6 * MIB, 6 * MIB, 6 * MIB, 2 * MIB]


async def test_pieces_grow_up_to_that_and_no_further(server: StandIn) -> None:
    tell(server, 6 * MIB)
    limits = Limits(whole_bytes=MIB, one_go_bytes=0, piece_bytes=MIB)
    assert await sent(server, 14 * MIB, limits) == [MIB, 2 * MIB, 4 * MIB, 6 * MIB, MIB]


async def test_what_fits_goes_whole(server: StandIn) -> None:
    tell(server, 6 * MIB)
    assert await sent(server, 6 * MIB) == [6 * MIB]


@pytest.mark.parametrize("told", [0, -1, "100", None, True])
async def test_without_a_word_the_measured_sizes_hold(server: StandIn, told: object) -> None:
    tell(server, told)
    assert await sent(server, 7 * MIB) == [7 * MIB]

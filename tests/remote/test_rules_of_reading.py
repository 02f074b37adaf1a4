"""What protocol.md demands of downloads, each rule on the wire: against the stand-in, as its log has it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.content.fetch import Fetcher, MemoryBudget
from cloudfs.content.source import Source, Whereabouts
from cloudfs.errors import Changed, ProtocolViolation
from cloudfs.remote.connect import Site, discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.types import ContentVersion, Ino, RemotePath, RemoteVersion
from tests.servers import Answer, Record, StandIn

FILE = RemotePath("/d/f.bin")
DATA = os.urandom(100_000)
MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.account("alice").write(FILE, DATA, mtime=10**9)
        yield standin


@pytest.fixture
async def remote(server: StandIn) -> AsyncIterator[WebdavRemote]:
    password = server.account("alice").app_password()
    site: Site = await discover(server.url, "alice", password)
    made = WebdavRemote(site, password)
    server.requests.reset()
    yield made
    await made.aclose()


def gets(server: StandIn) -> list[Record]:
    return server.requests.matching("GET", "/d/")


async def read(remote: WebdavRemote, start: int, stop: int, version: RemoteVersion) -> bytes:
    """Read by both ways; they have to agree."""
    async with remote.stream(FILE, start, stop, version) as chunks:
        streamed = b"".join([chunk async for chunk in chunks])
    assert streamed == await remote.get_range(FILE, start, stop, version)
    return streamed


class TestRule10:
    """`bytes=0-0` gets the whole file, HEAD with Range is a 500, and a file of 0 bytes ignores ranges."""

    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    async def test_rule_10_a_single_byte_is_never_asked_for(
        self, server: StandIn, remote: WebdavRemote, size: int
    ) -> None:
        server.account("alice").write(FILE, DATA[:size])
        version = (await remote.stat(FILE)).version
        for at in range(min(size, 4)):
            assert await read(remote, at, at + 1, version) == DATA[at : at + 1]
        for record in gets(server):
            if asked := record.headers.get("range"):
                match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked)
                assert match is not None
                assert int(match[2]) > int(match[1])

    async def test_rule_10_no_range_of_a_file_of_no_bytes(
        self, server: StandIn, remote: WebdavRemote
    ) -> None:
        server.account("alice").write(FILE, b"")
        version = (await remote.stat(FILE)).version
        assert await read(remote, 0, 0, version) == b""
        assert gets(server) == []

    async def test_rule_10_no_head(self, server: StandIn, remote: WebdavRemote) -> None:
        version = (await remote.stat(FILE)).version
        await remote.connect()
        await read(remote, 0, 5000, version)
        assert server.requests.count("HEAD") == 0

    async def test_rule_10_a_whole_file_in_the_place_of_a_part_is_noticed(
        self, server: StandIn, remote: WebdavRemote
    ) -> None:
        version = (await remote.stat(FILE)).version
        headers = {"ETag": f'"{version.etag}"', "Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}
        server.faults.add(Answer(206, DATA, headers), method="GET", times=None)
        with pytest.raises(ProtocolViolation):
            await read(remote, 10, 20, version)

    @pytest.mark.parametrize("size", [1, 2, 4096, MIB, MIB + 1, 3 * MIB + 1])
    async def test_rule_10_through_the_fetcher(
        self, server: StandIn, remote: WebdavRemote, tmp_path: Path, size: int
    ) -> None:
        """However a program reads: no single byte, and nothing twice."""
        data = os.urandom(size)
        server.account("alice").write(FILE, data)
        source = Source(Ino(7), ContentVersion(1), (await remote.stat(FILE)).version)
        blocks = await BlockStore.open(tmp_path / "c", "test", limit_bytes=64 * MIB, keep_free_bytes=0)
        async with trio.open_nursery() as nursery:
            place = Whereabouts(FILE, source.remote)
            fetcher = Fetcher(blocks, remote, lambda _: place, MemoryBudget(), nursery)
            for at in (size - 1, size // 2, 0):
                assert await fetcher.read(source, at, at + 1) == data[at : at + 1]
            await fetcher.prefetch_whole(source)
            assert await fetcher.read(source, 0, size) == data
            nursery.cancel_scope.cancel()
        await blocks.aclose()
        for record in gets(server):
            first, last = map(int, record.headers.get("range", f"bytes=0-{size}")[6:].split("-"))
            assert last > first


class TestRule16:
    """What goes with every request."""

    async def test_rule_16_headers(self, server: StandIn, remote: WebdavRemote) -> None:
        version = (await remote.stat(FILE)).version
        await remote.list_folder(RemotePath("/d"))
        await read(remote, 0, 5000, version)
        await remote.connect()
        assert len(server.requests) > 5
        for record in server.requests:
            assert re.match(r"cloudfs/\d", record.headers["user-agent"])
            assert record.headers["ocs-apirequest"] == "true"
            if record.method == "GET":
                assert record.headers["accept-encoding"] == "identity"
            if record.method == "PROPFIND":
                assert record.headers["accept-encoding"] == "gzip"
        listings = server.requests.matching("PROPFIND", "/d")
        assert {record.headers["prefer"] for record in listings} == {"return=minimal"}

    async def test_rule_16_archives_too(self, server: StandIn, remote: WebdavRemote) -> None:
        server.account("alice").write("/d/g", b"g")
        await remote.read_archive(RemotePath("/d"), {"f.bin": len(DATA), "g": 1})
        assert {record.headers["accept-encoding"] for record in server.requests} == {"identity"}
        assert {record.headers["ocs-apirequest"] for record in server.requests} == {"true"}

    async def test_an_encoded_body_is_refused(self, server: StandIn, remote: WebdavRemote) -> None:
        """§5: a front end that compresses drops the length and weakens the ETag."""
        version = (await remote.stat(FILE)).version
        headers = {"ETag": f'W/"{version.etag}"', "OC-ETag": f'"{version.etag}"', "Content-Encoding": "gzip"}
        server.faults.add(Answer(200, DATA, headers), method="GET", times=None)
        with pytest.raises(ProtocolViolation):
            await read(remote, 0, len(DATA), version)


class TestSection5:
    """If-Match with Range, and OC-ETag before ETag."""

    async def test_if_match_goes_with_every_read(self, server: StandIn, remote: WebdavRemote) -> None:
        version = (await remote.stat(FILE)).version
        await read(remote, 0, len(DATA), version)
        await read(remote, 500, 7000, version)
        assert [record.headers["if-match"] for record in gets(server)] == [f'"{version.etag}"'] * 4
        assert [record.headers.get("range") for record in gets(server)] == [None] * 2 + ["bytes=500-6999"] * 2

    async def test_if_match_spares_the_bytes_of_a_changed_file(
        self, server: StandIn, remote: WebdavRemote
    ) -> None:
        version = (await remote.stat(FILE)).version
        server.account("alice").write(FILE, DATA[::-1], mtime=10**9 + 7)
        server.requests.reset()
        with pytest.raises(Changed):
            await read(remote, 0, len(DATA), version)
        (record,) = gets(server)
        assert record.status == 412
        assert record.response_bytes < 1000

    async def test_oc_etag_is_believed_before_etag(self, server: StandIn, remote: WebdavRemote) -> None:
        version = (await remote.stat(FILE)).version
        for etag, oc_etag, served in (
            ('W/"weakened by a proxy"', f'"{version.etag}"', True),
            (f'"{version.etag}"', '"another"', False),
        ):
            rule = server.faults.add(
                Answer(200, DATA, {"ETag": etag, "OC-ETag": oc_etag}), method="GET", times=None
            )
            if served:
                assert await read(remote, 0, len(DATA), version) == DATA
            else:
                with pytest.raises(Changed):
                    await read(remote, 0, len(DATA), version)
            server.faults.remove(rule)

    async def test_a_checksum_of_another_content_is_another_version(
        self, server: StandIn, remote: WebdavRemote
    ) -> None:
        """§3.2: written within the same second it has the same ETag, and only the checksum tells."""
        account = server.account("alice")
        account.write(FILE, DATA, mtime=10**9, checksum="SHA1:" + "0" * 40)
        version = (await remote.stat(FILE)).version
        account.write(FILE, DATA[::-1], mtime=10**9, checksum="SHA1:" + "1" * 40)
        assert (await remote.stat(FILE)).version.etag == version.etag
        with pytest.raises(Changed):
            await read(remote, 0, 1000, version)

"""Reading through the real adapter and the real block cache, from the stand-in server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.content.fetch import Fetcher, MemoryBudget, Source
from cloudfs.content.source import Whereabouts
from cloudfs.errors import Changed, Locked
from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Body, Condition
from cloudfs.types import ContentVersion, Ino, RemotePath
from tests.content.fakes import KIB, MIB, some_bytes
from tests.servers.standin import CutResponse, Drop, StandIn

pytestmark = pytest.mark.server("standin")

PATH = RemotePath("/folder/film.bin")


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@asynccontextmanager
async def reading(standin: StandIn, cache: Path) -> AsyncIterator[tuple[Fetcher, WebdavRemote]]:
    site = await discover(standin.url, "alice", standin.account("alice").password)
    remote = WebdavRemote(site, standin.account("alice").password)
    blocks = await BlockStore.open(cache, "test", limit_bytes=1024 * MIB, keep_free_bytes=0)
    async with trio.open_nursery() as nursery:
        try:
            yield (
                Fetcher(
                    blocks, remote, lambda source: Whereabouts(PATH, source.remote), MemoryBudget(), nursery
                ),
                remote,
            )
            with trio.move_on_after(5):
                while nursery.child_tasks:  # no event tells it
                    await trio.sleep(0.05)
        finally:
            nursery.cancel_scope.cancel()
            standin.faults.clear()
            with trio.CancelScope(shield=True):
                await blocks.aclose()
                await remote.aclose()


async def source_of(remote: WebdavRemote, version: int = 1) -> Source:
    return Source(Ino(7), ContentVersion(version), (await remote.stat(PATH)).version)


async def read_all(fetcher: Fetcher, source: Source) -> bytes:
    pattern = fetcher.pattern()
    parts = [
        await fetcher.read(source, at, min(at + 128 * KIB, source.size), pattern)
        for at in range(0, source.size, 128 * KIB)
    ]
    pattern.release()
    return b"".join(parts)


async def test_a_file_is_read_over_a_bad_line_and_again_without_a_server(
    standin: StandIn, cache: Path
) -> None:
    data = some_bytes(20 * MIB + 99)
    standin.account("alice").write(PATH, data)
    async with reading(standin, cache) as (fetcher, remote):
        source = await source_of(remote)
        standin.faults.add(CutResponse(700 * KIB), method="GET", path="film", nth=1)
        standin.faults.add(Drop(reset=True), method="GET", path="film", nth=3)
        assert await read_all(fetcher, source) == data
        assert fetcher.statistics().resumes == 2
        asked = fetcher.statistics().requests
        await fetcher.prefetch_whole(source)
        fetcher.forget()
        assert await read_all(fetcher, source) == data
        assert fetcher.statistics().requests == asked
    assert asked < 8


async def test_a_file_that_somebody_changed_is_stale(standin: StandIn, cache: Path) -> None:
    account = standin.account("alice")
    account.write(PATH, some_bytes(20 * MIB, 1), mtime=1_000_000_000)
    async with reading(standin, cache) as (fetcher, remote):
        source = await source_of(remote)
        assert await fetcher.read(source, 0, 1000) == some_bytes(20 * MIB, 1)[:1000]
        account.write(PATH, some_bytes(20 * MIB, 2), mtime=1_000_000_002)
        with pytest.raises(Changed):
            await fetcher.read(source, 10 * MIB, 10 * MIB + 5)
        newer = await source_of(remote, 2)
        assert await fetcher.read(newer, 0, 1000) == some_bytes(20 * MIB, 2)[:1000]


async def test_a_pause_frees_the_lock_that_our_reading_holds(standin: StandIn, cache: Path) -> None:
    """Without it our own upload of the file would fail with 423 (protocol.md §14)."""
    standin.account("alice").write(PATH, some_bytes(64 * MIB))
    async with reading(standin, cache) as (fetcher, remote):
        source = await source_of(remote)
        chunks = fetcher.chunks(source, 0, source.size)
        await anext(chunks)
        with pytest.raises(Locked):
            await remote.put(PATH, _body, 3, Condition(version=source.remote))
        async with fetcher.paused(source.ino):
            await _put_when_unlocked(remote, source)
        with pytest.raises(Changed):
            async for _ in chunks:
                pass


def _three(start: int = 0) -> AsyncIterator[bytes]:
    assert start == 0

    async def generate() -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield b"new"

    return generate()


_body: Body = _three


async def _put_when_unlocked(remote: WebdavRemote, source: Source) -> None:
    """The server notices a closed connection at its next send: some milliseconds later."""
    with trio.fail_after(2):
        while True:
            try:
                await remote.put(PATH, _body, 3, Condition(version=source.remote))
            except Locked:
                await trio.sleep(0.02)
            else:
                return

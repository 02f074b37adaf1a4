"""Programs that look at the heads of a folder's larger files: little is fetched, and ahead of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from cloudfs.content.prefetch import PrefetchStatistics
from cloudfs.errors import PosixError
from cloudfs.types import ROOT
from cloudfs.vfs.filesystem import FileSystem
from cloudfs.vfs.records import HandleId
from tests.functional.stages import USER, VfsStage
from tests.servers import StandIn

pytestmark = pytest.mark.shared_engine

KIB = 1024
CONTENTS = {f"p{number:02}.jpg": os.urandom(1_500_000) for number in range(12)}
KERNEL = ((0, 16), (16, 48), (48, 112))
GUESS = 112, 240
"""How the kernel asks, in KiB, for the first 64 of a file, and for what of it nobody waits."""
HEAD_BYTES = 112 * KIB


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        account = standin.account(USER)
        account.mkdir("/pictures")
        for name, data in CONTENTS.items():
            account.write(f"/pictures/{name}", data, mtime=10**9)
        account.write("/pictures/p03.txt", b"in between")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path / "engine", server, listing_ttl_s=600)
    assert len(made.root().names("pictures")) == len(CONTENTS) + 1
    server.requests.reset()
    yield made
    made.close()


def look_at(stage: VfsStage, number: int) -> None:
    name = f"p{number:02}.jpg"

    async def look(fs: FileSystem) -> None:
        folder = await fs.lookup(ROOT, b"pictures")
        handle = (await fs.open((await fs.lookup(folder.ino, name.encode())).ino, os.O_RDONLY)).handle
        for start, stop in KERNEL:
            got = await fs.read(handle, start * KIB, (stop - start) * KIB)
            assert got == CONTENTS[name][start * KIB : stop * KIB]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guess, fs, handle)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            await fs.flush(handle)
        await fs.release(handle)

    async def guess(fs: FileSystem, handle: HandleId) -> None:
        start, stop = GUESS
        with suppress(PosixError):
            got = await fs.read(handle, start * KIB, (stop - start) * KIB)
            assert got == CONTENTS[name][start * KIB : stop * KIB]

    stage.root().run(look)


def asked(server: StandIn, number: int) -> int:
    return server.requests.count("GET", f"/p{number:02}.jpg")


def received(server: StandIn) -> int:
    return sum(record.response_bytes for record in server.requests if record.method == "GET")


def ledger(stage: VfsStage) -> PrefetchStatistics:
    return stage.call_sync(stage.engine.prefetcher.statistics)


def until(stage: VfsStage, server: StandIn, number: int) -> None:
    """Wait until the head of a file was asked for, by whomever."""
    stage.wait(lambda: asked(server, number) == 1)


def test_the_next_heads_come_ahead_and_once(stage: VfsStage, server: StandIn) -> None:
    for number in range(3):
        look_at(stage, number)
    for number in range(3, 6):
        until(stage, server, number)  # four names ahead, of which one is a small file
    assert asked(server, 6) == 0
    for number in range(3, 12):
        look_at(stage, number)
    assert [asked(server, number) for number in range(12)] == [1] * 12
    assert received(server) <= 1_500_000 + 11 * HEAD_BYTES
    told = ledger(stage)
    assert (told.used_bytes, told.wasted_bytes, told.unread_bytes) == (9 * HEAD_BYTES, 0, 0)


def test_one_look_or_two_cause_nothing(stage: VfsStage, server: StandIn) -> None:
    for number in (5, 6, 2, 3):
        look_at(stage, number)
    assert ledger(stage).files == 0
    assert asked(server, 7) == asked(server, 4) == 0


def test_whoever_reads_whole_files_gets_no_heads(stage: VfsStage, server: StandIn) -> None:
    for number in range(6):
        file = stage.root().open(f"pictures/p{number:02}.jpg")
        name = f"p{number:02}.jpg"
        assert file.read(0, 1_500_000) == CONTENTS[name]
        file.close()
    assert [asked(server, number) for number in range(8)] == [1] * 6 + [0] * 2
    assert ledger(stage).files == 0


def test_a_file_that_was_looked_at_ahead_and_replaced_is_the_new_one(
    stage: VfsStage, server: StandIn
) -> None:
    for number in range(3):
        look_at(stage, number)
    for number in range(3, 6):
        until(stage, server, number)
    new = os.urandom(1_600_000)
    server.account(USER).write("/pictures/p04.jpg", new)
    stage.look()
    file = stage.root().open("pictures/p04.jpg")
    assert file.read(0, 16 * KIB) == new[: 16 * KIB]
    file.close()

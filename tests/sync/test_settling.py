"""What the server has is there, though its bytes are still made into clean blocks here."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.staging import StagedFile
from cloudfs.content.hardening import Hardening
from cloudfs.errors import PosixError
from tests.model.account import Account
from tests.model.fake_remote import FakeRemote, now_s
from tests.sync.mount import World, opened, tell

CONTENT = b"0123456789" * 1_000_000
"""Ten blocks, of which the last is not full."""
A_WHILE_S = 60.0


def slow_blocks(world: World) -> trio.Event:
    """Have blocks be kept by nobody at once; return what tells that the first ones are to be."""
    begun, put_many = trio.Event(), world.engine.blocks.put_many

    async def slowly(blocks: Any) -> None:
        begun.set()
        await trio.sleep(A_WHILE_S)
        await put_many(blocks)

    world.engine.blocks.put_many = slowly  # type: ignore[method-assign]  # that of this life alone
    return begun


@pytest.mark.parametrize("settled", [False, True])
def test_who_waits_for_the_server_does_not_wait_for_blocks(tmp_path: Path, *, settled: bool) -> None:
    async def story(world: World) -> None:
        slow_blocks(world)
        await world.save("a", CONTENT)
        began = trio.current_time()
        assert await world.engine.worker.wait_synced(lambda _: True, settled=settled) == []
        assert (trio.current_time() - began >= A_WHILE_S) is settled
        assert world.remote.other.read("/a") == CONTENT
        assert await world.read_file("a") == CONTENT
        await world.engine.worker.wait_settled()

    tell(tmp_path, story)


def test_an_end_waits_until_they_are_kept(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        begun = slow_blocks(world)
        await world.save("a", CONTENT)
        await begun.wait()
        await world.engine.worker.wait_settled()
        assert world.engine.blocks.held_bytes(*await known(world, "a")) == len(CONTENT)

    tell(tmp_path, story)


def test_an_end_does_not_wait_for_what_is_not_there(tmp_path: Path) -> None:
    remote = FakeRemote()

    async def story(world: World) -> None:
        await world.save("a", CONTENT)
        remote.latency_s = 100.0
        while not world.engine.worker.in_flight():
            await trio.sleep(1)
        began = trio.current_time()
        await world.engine.worker.wait_settled()
        assert trio.current_time() == began
        assert "/a" not in remote.other.tree()

    tell(tmp_path, story, remote)


async def known(world: World, name: str) -> Any:
    """Return a file's inode, and the version of it that the server has."""
    node = world.engine.store.nodes.get((await world.lookup(name)).ino)
    assert node is not None
    return node.ino, node.s_version


def test_all_blocks_are_kept_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_many, sizes = BlockStore.put_many, list[int]()

    async def counted(store: BlockStore, blocks: Any) -> None:
        sizes.append(len(blocks))
        await put_many(store, blocks)

    async def story(world: World) -> None:
        monkeypatch.setattr(BlockStore, "put_many", counted)
        await world.save("a", CONTENT)
        await world.drain()
        assert sizes == [4, 4, 2]
        assert world.engine.blocks.held_bytes(*await known(world, "a")) == len(CONTENT)

    tell(tmp_path, story)


def test_of_a_tail_on_blocks_that_are_not_here_none_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the cache asked to keep nothing: where the disk is full, it would give up blocks for that."""
    put_many, sizes = BlockStore.put_many, list[int]()

    async def counted(store: BlockStore, blocks: Any) -> None:
        sizes.append(len(blocks))
        await put_many(store, blocks)

    async def story(world: World) -> None:
        monkeypatch.setattr(BlockStore, "put_many", counted)
        async with opened(world, "a", os.O_WRONLY) as handle:
            await world.write(handle, len(CONTENT), b"tail")
        await world.drain()
        assert remote.other.read("/a") == CONTENT + b"tail"
        assert not sizes

    remote = FakeRemote(account=Account(now_s, sticky=True))
    checksum = f"SHA1:{hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()}"
    remote.other.write("/a", CONTENT, mtime_s=1_600_000_000, checksum=checksum)
    tell(tmp_path, story, remote, append_bytes=1024)


@pytest.mark.expect_log("/a: not sent yet: ")
def test_what_the_disk_did_not_take_has_no_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is hashed while it is put there: a sum of bytes that a power cut takes would be the proof of others."""
    sync, known = StagedFile.sync, list[str | None]()

    async def story(world: World) -> None:
        async def failing(file: StagedFile) -> None:
            known.extend(row.checksum for row in world.engine.store.all_staged())
            if len(known) == 1:
                await trio.sleep(A_WHILE_S)  # longer than hashing takes
                raise PosixError(errno.EIO, "the disk")
            await sync(file)

        monkeypatch.setattr(StagedFile, "sync", failing)
        monkeypatch.setattr(Hardening, "harden", unhurried)
        await world.save("a", CONTENT)
        await world.drain()
        assert known == [None, None]
        assert world.remote.other.read("/a") == CONTENT

    tell(tmp_path, story)


async def unhurried(_: Hardening) -> None:
    """Put nothing on the disk before it is sent."""

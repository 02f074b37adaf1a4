"""Nodes that somebody has to himself: no step works on them, nor on what they lie in, nor anybody else."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.sync.deletions import Outcome
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino, Stored
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, opened, tell

OLD, NEW = 1_600_000_000, 1_650_000_000


def slow_down(world: World) -> None:
    """Have every block that is cached take a second to read."""
    read = world.engine.blocks.get

    async def slowly(ino: Ino, version: ContentVersion, index: int) -> bytes | None:
        await trio.sleep(1)
        return await read(ino, version, index)

    world.engine.blocks.get = slowly  # type: ignore[method-assign]  # that of this life alone


@pytest.mark.expect_log("was set back to a backup")
def test_what_is_restored_is_not_sent_before_it_is_here_in_full(tmp_path: Path) -> None:
    """Its bytes are gathered in a layer, which makes it look edited: as such it would be a conflict."""
    newer = bytes(2 * BLOCK_SIZE) + b"the newer one"
    remote = FakeRemote()
    remote.account.fingerprint = "a"
    remote.other.write("/f", newer, mtime_s=NEW)

    async def story(world: World) -> None:
        await world.walk()
        assert await world.read_file("f") == newer
        remote.other.write("/f", b"the older one", mtime_s=OLD)
        remote.account.fingerprint = "b"
        await world.refresh_all()
        await world.restart()  # what was read lately is in memory
        slow_down(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.save, "other", b"what wakes the worker")
            nursery.start_soon(world.drain)
            assert await world.engine.deletions.restore_vanished() == Outcome(1)
        assert not await world.drain()
        assert remote.other.tree() == {"/f": newer, "/other": b"what wakes the worker"}

    tell(tmp_path, story, remote, poll_s=0)


@pytest.mark.expect_log("was set back to a backup")
@pytest.mark.expect_log("1: not sent yet: another client replaced", optional=True)
def test_what_cannot_be_restored_does_not_keep_the_rest_from_it(tmp_path: Path) -> None:
    """A program goes on writing to a file of which not all is here: that is its own affair."""
    remote = FakeRemote()
    remote.account.fingerprint = "a"
    for name in ("/1", "/2"):
        remote.other.write(name, b"the newer one", mtime_s=NEW)

    async def story(world: World) -> None:
        await world.walk()
        assert await world.read_file("2") == b"the newer one"
        remote.account.fingerprint = "b"
        for name in ("/1", "/2"):
            remote.other.write(name, b"the older one!", mtime_s=OLD)
        await world.refresh_all()
        async with opened(world, "1", os.O_WRONLY) as handle:
            write, keep = partial(world.write, handle, 3, b"-"), world.engine.deletions._keep

            async def keep_what_is_written(ino: Ino) -> bool:
                if not restored:
                    await write()
                restored.append(ino)
                return await keep(ino)

            restored: list[Ino] = []
            world.engine.deletions._keep = keep_what_is_written  # type: ignore[method-assign]  # of this life alone
            assert await world.engine.deletions.restore_vanished() == Outcome(1, 1)
        await world.drain()
        assert remote.other.tree()["/2"] == b"the newer one"

    tell(tmp_path, story, remote, poll_s=0)


def test_what_is_reserved_is_reserved_for_one(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("f", b"f")
        ino, inside = (await world.lookup("f")).ino, 0

        async def work() -> None:
            nonlocal inside
            async with world.engine.worker.reserved(ino):
                inside += 1
                assert inside == 1
                await trio.sleep(1)
                inside -= 1

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work)
        assert trio.current_time() - began >= 3
        assert not await world.drain()

    tell(tmp_path, story, poll_s=0)


async def in_a_folder(world: World) -> Ino:
    await world.mkdir("d")
    await world.save("d/f", b"f")
    assert not await world.drain()
    return (await world.lookup("d/f")).ino


@pytest.mark.parametrize("target", ["e", "d~"])
def test_no_folder_above_what_is_reserved_is_moved_or_removed(tmp_path: Path, target: str) -> None:
    """To remove it all below is kept here first, also what somebody has to himself."""

    async def story(world: World) -> None:
        ino = await in_a_folder(world)
        async with world.engine.worker.reserved(ino):
            await world.rename("d", target)
            await trio.sleep(60)
            assert "/d/f" in world.remote.other.tree()
        assert not await world.drain()
        assert "/d/f" not in world.remote.other.tree()

    tell(tmp_path, story, poll_s=0)


class Slow(FakeRemote):
    """A server on which a rename takes a minute."""

    async def move(self, *args: Any, **named: Any) -> Stored:
        await trio.sleep(60)
        return await super().move(*args, **named)


def test_a_reservation_waits_for_the_move_of_a_folder_above(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        ino = await in_a_folder(world)
        await world.rename("d", "e")
        while not world.engine.worker.in_flight():
            await trio.sleep(1)
        async with world.engine.worker.reserved(ino):
            assert set(world.remote.other.tree()) == {"/e", "/e/f"}

    tell(tmp_path, story, Slow(), poll_s=0)


class SlowToDelete(FakeRemote):
    """A server that takes a minute before it deletes, or after it before it says so."""

    says_late = False

    async def delete(self, *args: Any, **named: Any) -> None:
        await trio.sleep(0 if self.says_late else 60)
        await super().delete(*args, **named)
        await trio.sleep(60 if self.says_late else 0)


@pytest.mark.parametrize("says_late", [False, True])
@pytest.mark.parametrize("removed", ["f", "d"])
def test_what_is_being_removed_is_not_brought_back_without_its_bytes(
    tmp_path: Path, removed: str, *, says_late: bool
) -> None:
    """Some of what is to be restored may have gone already; that is not to be shown as if the server had it."""
    remote = SlowToDelete()
    remote.says_late = says_late
    remote.other.write("/f", b"f")
    remote.other.mkdir("/d")
    remote.other.write("/d/g", b"g")

    async def story(world: World) -> None:
        await world.walk()
        if removed == "f":
            await world.unlink("f")
        else:
            await world.unlink("d/g")
            await world.rmdir("d")
        while not world.engine.worker.in_flight():
            await trio.sleep(1)
        assert await world.engine.deletions.restore_removed() == Outcome(0)
        assert not await world.drain()
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote, poll_s=0)

"""A time that is set here goes up alone, and what the server makes of it is no other version of the file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio

from cloudfs.engine import EngineConfig, open_engine
from cloudfs.metadata.changes import NullSink
from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.virtual import run_virtually
from tests.sync.mount import World, opened, tell

TIMES_S = (1_500_000_000, 1_500_000_001, 0, 1, -5, 86_400, 2**33, 2**40, -(2**40))


async def touch(world: World, path: str, mtime_s: int) -> None:
    await world.fs.setattr((await world.lookup(path)).ino, mtime_ns=mtime_s * 10**9)


async def check(world: World, expected: dict[str, bytes | None]) -> None:
    await world.drain()
    await world.refresh_all()
    for tree in (world.remote.other.tree(), await world.tree()):
        assert tree == expected
    assert not world.unfinished()


@pytest.mark.parametrize("mtime_s", TIMES_S)
def test_a_file_whose_time_was_set_is_written_on_without_a_conflict(tmp_path: Path, mtime_s: int) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"one")
        await world.drain()
        await touch(world, "a", mtime_s)
        await world.drain()
        async with opened(world, "a", os.O_WRONLY | os.O_APPEND) as handle:
            await world.fs.write(handle, 3, b" two")
        await check(world, {"/a": b"one two"})

    tell(tmp_path, story)


@pytest.mark.parametrize("mtime_s", TIMES_S)
def test_a_file_whose_time_was_set_can_be_removed(tmp_path: Path, mtime_s: int) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"one")
        await world.drain()
        await touch(world, "a", mtime_s)
        await world.drain()
        await world.unlink("a")
        await check(world, {})

    tell(tmp_path, story)


def test_the_same_bytes_written_again_are_no_conflict_later(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for _ in range(3):
            await world.save("a", b"one")
            await world.drain()
            await trio.sleep(10)
        async with opened(world, "a", os.O_WRONLY | os.O_APPEND) as handle:
            await world.fs.write(handle, 3, b" two")
        await check(world, {"/a": b"one two"})

    tell(tmp_path, story)


def test_whoever_has_it_open_keeps_its_inode(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"one")
        await world.drain()
        async with opened(world, "a", os.O_RDONLY) as handle:
            before = await world.lookup("a")
            await touch(world, "a", 1_500_000_000)
            await world.drain()
            await world.refresh_all()
            assert (await world.lookup("a")).ino == before.ino
            assert await world.fs.read(handle, 0, 10) == b"one"

    tell(tmp_path, story)


def test_a_time_that_was_set_after_an_upload_whose_reply_was_lost_is_sent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"one")
        await world.drain()
        await trio.sleep(10)
        await world.save("a", b"another")
        world.remote.faults.next("put", [FaultKind.LOSE_REPLY])
        while world.remote.other.tree() != {"/a": b"another"}:
            await trio.sleep(0.01)
        await touch(world, "a", 1_500_000_000)
        await check(world, {"/a": b"another"})
        assert world.remote.other.mtime_s("/a") == 1_500_000_000

    tell(tmp_path, story)


def test_another_client_that_writes_at_the_same_time_is_not_taken_for_us(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"one")
        await world.drain()
        ask = world.remote.set_mtime

        async def late(*args: object, **named: object) -> object:
            world.remote.set_mtime = ask  # type: ignore[method-assign]
            await trio.sleep(3)  # between the look and the request, and in another second
            world.remote.other.write("/a", b"two")
            return await ask(*args, **named)  # type: ignore[arg-type]

        world.remote.set_mtime = late  # type: ignore[method-assign,assignment]
        await touch(world, "a", 1_500_000_000)
        await check(world, {"/a": b"two"})
        async with opened(world, "a", os.O_WRONLY | os.O_APPEND) as handle:
            await world.fs.write(handle, 3, b" three")
        await check(world, {"/a": b"two three"})

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "theirs", [b"other", b"", b"ONE"], ids=["longer", "empty", "of our size, a second later"]
)
def test_another_client_that_sets_the_same_time_after_us_is_not_taken_for_us(
    tmp_path: Path, theirs: bytes
) -> None:
    """What would be noted as ours here would be believed for ever: no listing would bring the other bytes."""

    async def story(world: World) -> None:
        await world.save("a", b"one")
        await world.drain()
        ask = world.remote.set_mtime

        async def overtaken(*args: object, **named: object) -> object:
            world.remote.set_mtime = ask  # type: ignore[method-assign]
            taken_s = await ask(*args, **named)  # type: ignore[arg-type]
            world.remote.other.write("/a", theirs, mtime_s=1_500_000_000 + (len(theirs) == len(b"one")))
            return taken_s

        world.remote.set_mtime = overtaken  # type: ignore[method-assign,assignment]
        await touch(world, "a", 1_500_000_000)
        await check(world, {"/a": theirs})
        assert (await world.lookup("a")).size == len(theirs)
        async with opened(world, "a", os.O_WRONLY | os.O_APPEND) as handle:
            await world.fs.write(handle, len(theirs), b" three")
        await check(world, {"/a": theirs + b" three"})

    tell(tmp_path, story)


def test_a_listing_that_breaks_in_an_unexpected_way_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        remote = FakeRemote()
        remote.other.write("/a", b"there")

        async def broken(_path: object) -> object:
            raise RuntimeError("a bug")

        ask = remote.list_folder
        remote.list_folder = broken  # type: ignore[method-assign,assignment]
        config = EngineConfig(
            state=tmp_path, cache=tmp_path / "cache", cache_bytes=2**26, cache_keep_free_bytes=0
        )
        async with open_engine(config, remote, NullSink()) as engine:
            engine.lister.refresh_later(ROOT)
            await trio.sleep(100)
            remote.list_folder = ask  # type: ignore[method-assign]
            assert (await engine.filesystem.lookup(ROOT, b"a")).size == 5

    with caplog.at_level(logging.CRITICAL, "cloudfs"):
        run_virtually(story, 1)


@pytest.mark.parametrize("by_rename", [False, True], ids=["over it", "renamed over it"])
@pytest.mark.parametrize("killed", [False, True], ids=["lost reply", "killed"])
def test_an_edit_after_a_time_whose_answer_was_lost_is_no_conflict(
    tmp_path: Path, by_rename: bool, killed: bool
) -> None:
    """The server has no checksum of the file: its size, and the very time that was asked for, tell whose it is."""
    remote = FakeRemote()
    remote.other.write("/a", b"one")
    remote.faults.next("set_mtime", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.refresh_all()
        await touch(world, "a", 1_500_000_000)
        with trio.move_on_after(60):
            while not remote.faults.happened:
                await trio.sleep(0.05)
        if killed:
            await world.kill()
        await world.save("new" if by_rename else "a", b"three")
        if by_rename:
            await world.rename("new", "a")
        await check(world, {"/a": b"three"})
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0, ttl_s=1e6)


def test_another_client_s_edit_after_a_time_whose_answer_was_lost_is_one(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.write("/a", b"one")
    remote.faults.next("set_mtime", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.refresh_all()
        await touch(world, "a", 1_500_000_000)
        while not remote.faults.happened:
            await trio.sleep(0.05)
        remote.other.write("/a", b"two")
        await world.save("a", b"three")
        await world.drain()
        await world.refresh_all()
        assert sorted(content or b"" for content in (await world.tree()).values()) == [b"three", b"two"]
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0, ttl_s=1e6)

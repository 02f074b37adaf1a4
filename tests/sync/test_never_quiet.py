"""What is never left alone goes up all the same, at some moment between two of its changes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from cloudfs.sync import patience
from tests.sync.mount import World, opened, tell

LONGEST_S = 20.0
LONG = 50
"""Virtual s: more than two times as long."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LONGEST_S", LONGEST_S)


def line(number: int) -> bytes:
    return b"line %d\n" % number


async def appended_to_an_open_file(world: World) -> None:
    async with opened(world, "log", os.O_WRONLY) as handle:
        at = 0
        for number in range(LONG):
            await world.write(handle, at, line(number))
            at += len(line(number))
            await trio.sleep(1)


async def opened_for_each_line(world: World) -> None:
    at = 0
    for number in range(2 * LONG):
        async with opened(world, "log", os.O_WRONLY) as handle:
            await world.write(handle, at, line(number))
        at += len(line(number))
        await trio.sleep(0.5)


async def saved_by_rename(world: World) -> None:
    content = b""
    for number in range(2 * LONG):
        content += line(number)
        await world.save("log.new", content)
        await world.rename("log.new", "log")
        await trio.sleep(0.5)


@pytest.mark.parametrize("write", [appended_to_an_open_file, opened_for_each_line, saved_by_rename])
def test_a_file_that_is_written_for_ever_goes_up_all_the_same(
    tmp_path: Path, write: Callable[[World], Awaitable[None]]
) -> None:
    seen: set[bytes] = set()

    async def story(world: World) -> None:
        await world.save("log", b"")
        await world.drain()
        file_id = world.remote.other.file_id("/log")
        async with trio.open_nursery() as nursery:

            async def look() -> None:
                while True:
                    await trio.sleep(3)
                    seen.add(world.remote.other.read("/log"))
                    assert world.remote.other.tree().keys() == {"/log"}

            nursery.start_soon(look)
            await write(world)
            nursery.cancel_scope.cancel()
        whole = await world.read_file("log")
        assert 2 <= len(seen - {b""}) <= 4
        for content in seen:
            assert whole.startswith(content)
            assert content.endswith(b"\n") or not content
        await world.drain()
        assert world.remote.other.tree() == {"/log": whole}
        assert world.remote.other.file_id("/log") == file_id

    tell(tmp_path, story)


def test_what_comes_and_goes_each_second_is_not_one_that_never_rests(tmp_path: Path) -> None:
    """A name that a program uses again and again for a moment never goes up."""

    async def story(world: World) -> None:
        for _ in range(LONG):
            await world.save("lock", b"x")
            await trio.sleep(0.3)
            await world.unlink("lock")
            await trio.sleep(0.7)
        await world.drain()
        assert world.remote.other.tree() == {}
        assert not [line for line in world.remote.methods() if line.startswith("put")]

    tell(tmp_path, story)


@pytest.mark.parametrize("write", [appended_to_an_open_file, opened_for_each_line])
def test_who_waits_for_it_waits_for_what_was_written_before(
    tmp_path: Path, write: Callable[[World], Awaitable[None]]
) -> None:
    """An upload takes longer than it is from one line to the next: there is no moment at which all of it is there."""

    async def story(world: World) -> None:
        await world.save("log", b"")
        await world.drain()
        world.remote.latency_s = 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, world)
            for _ in range(2):
                await trio.sleep(5)
                before = await world.read_file("log")
                with trio.fail_after(30):
                    assert await world.engine.worker.wait_synced(lambda _: True) == []
                sent = world.remote.other.read("/log")
                assert sent.startswith(before)
                assert before
            nursery.cancel_scope.cancel()

    tell(tmp_path, story)

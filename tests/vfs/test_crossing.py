"""Reads that the kernel sends while a write to the same page is on its way: their answer stays in its page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cloudfs.content.layers import Layer
from cloudfs.vfs.records import HandleId
from tests.sync.mount import World, opened, tell

PAGE = 4096


@asynccontextmanager
async def written(world: World, data: bytes = b"123") -> AsyncIterator[HandleId]:
    await world.save("/a", data)
    async with opened(world, "/a") as handle:
        await world.write(handle, 0, data)
        yield handle


async def read_into(found: list[bytes], world: World, handle: HandleId) -> None:
    found.append(bytes(await world.fs.read(handle, 0, PAGE)))


class HeldDisk:
    """A disk that is slow in one call: it writes at `go`, what it has read comes at `go`."""

    def __init__(self, world: World, handle: HandleId, call: str) -> None:
        top = world.fs._handles.file(handle).content.top
        assert isinstance(top, Layer)
        self.go, self.asked = trio.Event(), trio.Event()
        does = getattr(top.file, call)

        async def held(*args: object) -> object:
            result = await does(*args) if call == "pread" else None
            self.asked.set()
            await self.go.wait()
            return await does(*args) if call == "pwrite" else result

        setattr(top.file, call, held)


@pytest.mark.parametrize(("offset", "data"), [(3, b"456"), (0, b"9")], ids=["at its end", "over it"])
def test_a_read_is_answered_with_what_is_just_being_written(tmp_path: Path, offset: int, data: bytes) -> None:
    """From before it, the kernel would show zeros where the file has grown, or what was there before."""

    async def story(world: World) -> None:
        async with written(world) as handle:
            disk, found = HeldDisk(world, handle, "pwrite"), list[bytes]()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.fs.write, handle, offset, data)
                await disk.asked.wait()
                nursery.start_soon(read_into, found, world, handle)
                await trio.sleep(1)
                disk.go.set()
            assert found == [b"123"[:offset] + data + b"123"[offset + len(data) :]]

    tell(tmp_path, story)


def test_a_read_is_answered_with_what_came_to_be_written_meanwhile(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with written(world) as handle:
            disk, found = HeldDisk(world, handle, "pread"), list[bytes]()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_into, found, world, handle)
                await disk.asked.wait()
                await world.write(handle, 3, b"456")
                disk.go.set()
            assert found == [b"123456"]

    tell(tmp_path, story)


def test_a_write_elsewhere_holds_no_read_up(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with written(world, bytes(2 * PAGE)) as handle:
            disk, found = HeldDisk(world, handle, "pwrite"), list[bytes]()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.fs.write, handle, PAGE, b"1")
                await disk.asked.wait()
                await read_into(found, world, handle)
                assert found == [bytes(PAGE)]
                disk.go.set()

    tell(tmp_path, story)


def test_who_writes_without_a_pause_keeps_no_reader_waiting_for_ever(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with written(world) as handle:
            found = list[bytes]()

            async def write_on() -> None:
                while not found:
                    await world.write(handle, 0, b"1")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write_on)
                with trio.fail_after(60):
                    await read_into(found, world, handle)

    tell(tmp_path, story)

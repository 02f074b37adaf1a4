"""Files that are read while what they lack is copied up from the version that they were edited from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.blocks.staging import StagedFile
from cloudfs.content.layers import Layer
from cloudfs.content.outgoing import Outgoing
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, opened, tell

OLD = b"old content " * 90
NEW = b"new" + OLD[3:]


def server() -> FakeRemote:
    remote = FakeRemote()
    remote.other.write("/a", OLD)
    return remote


async def edit(world: World) -> None:
    async with opened(world, "a") as handle:
        await world.write(handle, 0, b"new")


def test_a_read_that_began_before_and_goes_on_after_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the file stands on nothing any more: what it lacked before was taken for zeros."""
    make_whole, pread = Outgoing.make_whole, StagedFile.pread
    whole = trio.Event()

    async def noticed(outgoing: Outgoing, layer: Layer, **more: Any) -> None:
        await make_whole(outgoing, layer, **more)
        whole.set()

    async def slowly(file: StagedFile, offset: int, size: int) -> bytes:
        data = await pread(file, offset, size)
        await whole.wait()
        return data

    async def story(world: World) -> None:
        await edit(world)
        monkeypatch.setattr(Outgoing, "make_whole", noticed)
        monkeypatch.setattr(StagedFile, "pread", slowly)
        assert await world.read_file("a") == NEW
        assert whole.is_set()
        await world.drain()
        assert world.remote.other.read("/a") == NEW

    tell(tmp_path, story, server())


@pytest.mark.parametrize("call", ["pread", "sync"])
def test_whoever_is_at_a_layer_that_is_given_up_meanwhile_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The layer was sent, and the one on top got a copy of what it lacked: a read, or an fsync, ended with EIO."""
    do = getattr(StagedFile, call)
    lower: list[StagedFile] = []
    there, buried, done = trio.Event(), trio.Event(), trio.Event()

    async def slowly(file: StagedFile, *more: Any) -> Any:
        if file in lower and not there.is_set():
            there.set()
            await buried.wait()
        return await do(file, *more)

    async def story(world: World) -> None:
        async def read_and_sync() -> None:
            assert await world.read_file("a") == b"New" + OLD[3:]
            await world.fs.fsync(handle, data_only=False)
            done.set()

        async def while_it_is_sent() -> None:
            await world.write(handle, 0, b"N")
            content = world.engine.files.live((await world.lookup("a")).ino)
            assert content is not None
            assert isinstance(content.top, Layer)
            assert isinstance(content.top.base, Layer)
            lower.append(content.top.base.file)
            nursery.start_soon(read_and_sync)
            await there.wait()
            world.remote.before["put"] = while_the_next_is_sent

        async def while_the_next_is_sent() -> None:
            await trio.sleep(5)  # virtual; what is given up goes within half a second
            buried.set()
            await done.wait()

        async with opened(world, "a") as handle, trio.open_nursery() as nursery:
            await world.write(handle, 0, b"new")
            await world.fs.flush(handle)
            world.remote.before["put"] = while_it_is_sent
            await done.wait()
        await world.drain()
        assert world.remote.other.read("/a") == b"New" + OLD[3:]

    monkeypatch.setattr(StagedFile, call, slowly)
    tell(tmp_path, story, server())

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

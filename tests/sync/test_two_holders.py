"""Contents that an upload and something else make whole at the same time."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import trio

from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.outgoing import Outgoing
from cloudfs.errors import Unreachable
from cloudfs.types import BLOCK_SIZE
from tests.model.fake_remote import FakeRemote
from tests.model.faults import Span
from tests.sync.mount import World, opened, tell

OLD = b"old content " * (BLOCK_SIZE // 6)
"""More than a block: its base is not fetched by itself."""


def server() -> FakeRemote:
    remote = FakeRemote()
    remote.other.write("/a", OLD)
    return remote


async def edit(world: World, at: int, data: bytes) -> None:
    async with opened(world, "a") as handle:
        await world.write(handle, at, data)


def edited(at: int, data: bytes) -> bytes:
    return OLD[:at] + data + OLD[at + len(data) :]


async def keep(world: World) -> None:
    """As for a folder that is about to be removed, out of which the file is moved meanwhile."""
    node = world.engine.store.nodes.get((await world.lookup("a")).ino)
    assert node is not None
    await world.engine.resolver._outgoing.keep(node)


def test_a_write_after_one_of_them_is_done_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went into the layer that was about to be sent, and the other one wrote the base's bytes over it."""
    seal, sealed, wrote = Outgoing.seal, trio.Event(), trio.Event()

    async def noticed(outgoing: Outgoing, content: FileContent) -> Layer | None:
        layer = await seal(outgoing, content)
        sealed.set()
        return layer

    async def story(world: World) -> None:
        async def for_keeping() -> None:
            world.remote.before["stream"] = wrote.wait  # where the upload asks for the same
            await sealed.wait()

        await edit(world, 0, b"new")
        world.remote.before |= {"stream": for_keeping, "put": wrote.wait}
        await keep(world)
        await edit(world, 0, b"NEWER")
        wrote.set()
        newest = edited(0, b"NEWER")
        assert await world.read_file("a") == newest
        await world.drain()
        assert world.remote.other.read("/a") == newest
        assert await world.read_file("a") == newest

    monkeypatch.setattr(Outgoing, "seal", noticed)
    tell(tmp_path, story, server())


def test_what_fails_again_and_again_begins_no_layer_each_time(tmp_path: Path) -> None:
    """While a program has the file open; each read went through all of them."""

    async def story(world: World) -> None:
        async with opened(world, "a") as handle:
            await world.write(handle, 100, b"new")
            await world.fs.flush(handle)
            before = len(world.engine.store.all_staged())
            world.remote.faults.during(Span.AWAY, math.inf)
            for _ in range(3):
                with pytest.raises(Unreachable):
                    await keep(world)
            assert len(world.engine.store.all_staged()) == before
            world.remote.faults.end(Span.AWAY)
            await world.write(handle, 101, b"EWER")
        newest = edited(100, b"nEWER")
        await world.drain()
        assert world.remote.other.read("/a") == newest

    tell(tmp_path, story, server())


def test_what_is_closed_while_a_file_is_kept_here_survives_a_kill(tmp_path: Path) -> None:
    """What was written before that, and not closed yet, was in a layer whose row nobody wrote any more."""

    async def story(world: World) -> None:
        asked = trio.Event()

        async def for_ever() -> None:
            asked.set()
            await trio.sleep_forever()

        handle = await world.open("a", os.O_RDWR)
        await world.write(handle, 0, b"first")
        world.remote.before["stream"] = for_ever
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, world)
            await asked.wait()
            await world.write(handle, 5, b"second")
            await world.fs.flush(handle)
            nursery.cancel_scope.cancel()
        await world.kill()
        assert await world.read_file("a") == edited(0, b"firstsecond")

    tell(tmp_path, story, server())

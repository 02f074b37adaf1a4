"""Runs a story on an account mounted over a server in memory, in virtual time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from cloudfs.metadata.changes import ChangeSink
from cloudfs.sync.appending import FROM_BYTES
from cloudfs.vfs.records import HandleId
from tests.model.fake_remote import FakeRemote
from tests.model.virtual import run_virtually
from tests.model.world import World

__all__ = ["World", "mounted", "opened", "tell"]


@asynccontextmanager
async def mounted(
    folder: Path,
    remote: FakeRemote,
    *,
    sink: ChangeSink | None = None,
    poll_s: float = 30.0,
    append_bytes: int = FROM_BYTES,
    **more: Any,
) -> AsyncIterator[World]:
    """Mount; at the end nothing may have been logged as an error, and no checksum may be a lie.

    `more` are fields of EngineConfig.
    """
    async with World(
        folder / "world", remote, sink=sink, poll_s=poll_s, append_bytes=append_bytes, **more
    ) as world:
        yield world
        world.check_log()
        world.check_checksums()


def tell(
    folder: Path,
    story: Callable[[World], Awaitable[None]],
    remote: FakeRemote | None = None,
    *,
    seed: int = 1,
    sink: ChangeSink | None = None,
    poll_s: float = 30.0,
    append_bytes: int = FROM_BYTES,
    **more: Any,
) -> FakeRemote:
    """Play a story to its end; return the server. `more` are fields of EngineConfig."""
    remote = remote or FakeRemote()

    async def play() -> None:
        with trio.fail_after(100_000):
            async with mounted(
                folder, remote, sink=sink, poll_s=poll_s, append_bytes=append_bytes, **more
            ) as world:
                await story(world)

    run_virtually(play, seed)
    return remote


@asynccontextmanager
async def opened(world: World, path: str, flags: int = os.O_RDWR) -> AsyncIterator[HandleId]:
    """Open, and close as a program does."""
    handle = await world.open(path, flags)
    try:
        yield handle
    finally:
        await world.fs.flush(handle)
        await world.fs.release(handle)


_CALM_S = 10.0
"""Virtual time: between two files that are brought one after the other passes less, where no program reads."""


async def brought(world: World) -> None:
    """Have what is to be kept here counted anew, and wait until nothing has been under way for a while since."""
    hydrator = world.engine.hydrator
    before = hydrator.kept
    hydrator.wake()
    calm_s = 0.0
    while calm_s < _CALM_S:
        await trio.sleep(0.5)
        calm_s = 0.0 if hydrator.kept is before or hydrator.under_way() else calm_s + 0.5

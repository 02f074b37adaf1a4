"""Another client renames a file just when a step of ours is about it, and a listing comes in between: ours follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell
from tests.sync.test_times import touch

STAMP_S = 1_500_000_000
Act = Callable[[World], Awaitable[None]]


async def stamp(world: World) -> None:
    await touch(world, "a", STAMP_S)


async def save(world: World) -> None:
    await world.save("a", b"ours")


@pytest.mark.parametrize(("method", "act", "content"), [("stat", stamp, b"theirs"), ("put", save, b"ours")])
def test_what_is_renamed_while_our_request_is_on_its_way(
    tmp_path: Path, method: str, act: Act, content: bytes
) -> None:
    remote = FakeRemote()
    remote.other.write("/a", b"theirs")

    async def story(world: World) -> None:
        async def meanwhile() -> None:
            remote.other.move("/a", "/b")
            await world.engine.lister.refresh(ROOT)

        await world.walk()
        ino = (await world.lookup("a")).ino
        remote.before[method] = meanwhile
        await act(world)
        await world.drain()
        await world.refresh_all()
        assert not remote.before
        assert remote.other.tree() == await world.tree() == {"/b": content}
        shown = await world.lookup("b")
        assert shown.ino == ino
        if act is stamp:
            assert remote.other.mtime_s("/b") == shown.mtime_ns // 10**9 == STAMP_S

    tell(tmp_path, story, remote)

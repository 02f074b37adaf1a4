"""What another client moves is followed also where its new folder is not known yet."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, opened, tell

OLD = b"old" * 100


def test_an_edit_follows_into_a_folder_that_the_same_listing_shows_for_the_first_time(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.write("/a", OLD)

    async def story(world: World) -> None:
        await world.tree()
        async with opened(world, "a", os.O_WRONLY) as handle:
            await world.write(handle, 0, b"new")
        remote.other.mkdir("/made")
        remote.other.move("/a", "/made/a")
        await world.engine.lister.refresh(ROOT)
        await trio.sleep(60)
        await world.drain()
        assert remote.other.tree() == {"/made": None, "/made/a": b"new" + OLD[3:]}

    tell(tmp_path, story, remote)

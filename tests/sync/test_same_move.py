"""Another client moves a file to where it was moved here, and wrote it before: that is not our move that arrived."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell


@pytest.mark.parametrize("written", [True, False])
def test_what_they_wrote_before_is_not_overwritten(tmp_path: Path, written: bool) -> None:
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.write("/a", b"known")

    async def story(world: World) -> None:
        async def meanwhile() -> None:
            remote.other.write("/a", b"theirs, which nobody here has seen")
            remote.other.move("/a", "/d/b")

        await trio.sleep(5)  # past the second in which an ETag may hide a change
        await world.walk()
        remote.before["move"] = meanwhile
        await world.rename("a", "d/b")
        if written:
            await world.save("d/b", b"ours")
        await world.drain()
        await world.refresh_all()
        assert not remote.before
        contents = [data for data in remote.other.tree().values() if data is not None]
        assert b"theirs, which nobody here has seen" in contents
        assert (b"ours" in contents) is written
        assert remote.other.tree() == await world.tree()

    tell(tmp_path, story, remote)

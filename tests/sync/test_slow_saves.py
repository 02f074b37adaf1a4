"""A save by "write new, rename over" that is so slow that the new file went up by itself before."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell


@pytest.mark.parametrize("content", [b"new", b"", b"x" * 3_000_000])
def test_the_old_file_is_overwritten_and_keeps_its_identity(tmp_path: Path, content: bytes) -> None:
    remote = FakeRemote()
    remote.other.write("/doc", b"old")
    before = remote.other.file_id("/doc")

    async def story(world: World) -> None:
        await world.tree()
        await world.save("doc.tmp", content)
        await trio.sleep(10)
        assert remote.other.tree() == {"/doc": b"old", "/doc.tmp": content}
        await world.rename("doc.tmp", "doc")
        await world.drain()
        assert remote.other.tree() == {"/doc": content}
        assert remote.other.file_id("/doc") == before
        assert await world.read_file("doc") == content
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_another_client_s_version_of_the_old_file_is_not_overwritten(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.write("/doc", b"old")

    async def story(world: World) -> None:
        await world.tree()
        await world.save("doc.tmp", b"new")
        await trio.sleep(10)
        await world.rename("doc.tmp", "doc")
        remote.other.write("/doc", b"theirs")
        await world.drain()
        shown = dict(remote.other.tree())
        assert shown.pop("/doc") == b"theirs"
        assert list(shown.values()) == [b"new"]

    tell(tmp_path, story, remote, poll_s=0)

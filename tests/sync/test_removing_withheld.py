"""What is removed here inside a folder that the server lost, and that is kept until somebody answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell
from tests.sync.plain_remote import PlainRemote
from tests.sync.test_silent_backup import Backup


def stocked(kind: Callable[[], FakeRemote] = FakeRemote) -> FakeRemote:
    remote = kind()
    for path in ("/d", "/d/e", "/d/e/folder"):
        remote.other.mkdir(path)
    for number in range(10):
        remote.other.write(f"/d/e/{number}", b"content")
    remote.other.write("/d/e/file", b"content")
    return remote


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_its_removal_waits_for_nothing(tmp_path: Path, kind: Callable[[], FakeRemote], what: str) -> None:
    """Neither it nor its folder is there, and no listing has the folder gone: it was asked for again and again."""
    remote = stocked(kind)

    async def story(world: World) -> None:
        before = await world.tree()
        backup = Backup(remote)
        await trio.sleep(60)
        remote.other.delete("/d/e")
        folder = world.engine.store.nodes.child(ROOT, "d")
        assert folder is not None
        await world.engine.lister.refresh(folder.ino)
        assert world.engine.deletions.vanished() is not None
        await (world.unlink if what == "file" else world.rmdir)(f"d/e/{what}")
        with trio.fail_after(600):
            assert not await world.drain()
        assert world.engine.deletions.vanished() is not None
        # It was only away: what counted as gone with it is there, and so it is shown.
        backup.restore()
        remote.other.write("/another", b"another")
        if remote.features.nextcloud:
            await trio.sleep(400)  # until the account was looked at in any case
        else:
            await world.refresh_all()
        assert not await world.drain()
        assert world.engine.deletions.vanished() is None
        assert await world.tree() == remote.other.tree() == before | {"/another": b"another"}

    tell(tmp_path, story, remote, held_from=5)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_nor_where_another_folder_has_the_place_of_one_that_was_renamed_here(
    tmp_path: Path, what: str
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(60)
        world.engine.pause.begin()
        await world.rename("d/e", "d/f")
        await (world.unlink if what == "file" else world.rmdir)(f"d/f/{what}")
        remote.other.delete("/d/e")
        remote.other.mkdir("/d/e")
        world.engine.pause.end()
        with trio.fail_after(600):
            (trouble,) = await world.drain()
        assert "cloudfs deletions" in trouble.next_step
        assert trouble.name == "f"

    tell(tmp_path, story, remote, held_from=5)

"""What vanished there in bulk, and is kept until somebody answers, gets a name of this machine alone meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.errors import Forbidden
from cloudfs.types import ROOT, RemotePath
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell

WHERE = pytest.mark.parametrize("renamed", ["top", "top/d"])
LISTED = pytest.mark.parametrize("listed", [True, False], ids=["listed first", "met by the step"])


def stocked() -> FakeRemote:
    remote = FakeRemote()
    for folder in ("/top", "/top/d"):
        remote.other.mkdir(folder)
    for name in ("a", "b", "c"):
        remote.other.write(f"/top/d/{name}", name.encode())
    remote.other.mkdir("/top/beside")
    remote.other.write("/top/beside/x", b"x")
    return remote


async def vanish(world: World, renamed: str, *, listed: bool) -> str:
    """Have much vanish, give a folder with it a local name, and see that it waits; return where it is shown."""
    await world.walk()
    assert await world.read_file("top/d/a") == b"a"
    world.remote.other.delete("/top/d")
    if listed:
        for folder in (ROOT, (await world.lookup("top")).ino):
            await world.engine.lister.refresh(folder)
    shown = renamed.replace("d", "d~") if "d" in renamed else "top~"
    await world.rename(renamed, shown)
    world.engine.deletions.accept_removed()  # that is another question
    troubles = await world.drain()
    assert troubles
    assert all("cloudfs deletions" in trouble.next_step for trouble in troubles)
    assert world.engine.deletions.vanished() is not None
    asked = len(world.remote.log)
    await trio.sleep(600)
    assert len(world.remote.log) - asked < 30, "each minute somebody looks whether it is back"
    assert await world.read_file("top/d~/a" if "d" in renamed else "top~/d/a") == b"a"
    return shown


class Unyielding(FakeRemote):
    """A server that lets nobody delete anything."""

    async def delete(self, path: RemotePath, **_: object) -> None:
        raise Forbidden("not allowed", subject=path, status=403)


@pytest.mark.parametrize("local", [True, False], ids=["local", "removed"])
def test_what_would_go_along_with_a_folder_that_is_blocked_is_not_waited_for(
    tmp_path: Path, *, local: bool
) -> None:
    remote = Unyielding()
    remote.other.mkdir("/d")
    remote.other.write("/d/a", b"a")

    async def story(world: World) -> None:
        await world.walk()
        if local:
            await world.rename("d", "d~")
        else:
            await world.unlink("d/a")
            await world.rmdir("d")
        troubles = await world.drain()
        assert {trouble.name for trouble in troubles} == {"d~" if local else "d"}

    tell(tmp_path, story, remote, poll_s=0)


@WHERE
@LISTED
def test_it_waits_for_the_answer_too_and_goes_with_it(tmp_path: Path, renamed: str, *, listed: bool) -> None:
    async def story(world: World) -> None:
        shown = await vanish(world, renamed, listed=listed)
        await world.engine.deletions.accept_vanished()
        assert not await world.drain()
        assert {found for found in (await world.tree()).values() if found is not None} == {b"x"}
        assert (await world.lookup(shown)).ino

    tell(tmp_path, story, stocked(), poll_s=0, held_from=1)


@WHERE
@LISTED
def test_what_of_it_is_here_stays_where_that_is_the_answer(
    tmp_path: Path, renamed: str, *, listed: bool
) -> None:
    async def story(world: World) -> None:
        await vanish(world, renamed, listed=listed)
        await world.engine.deletions.restore_vanished()
        await world.engine.deletions.accept_vanished()
        assert not await world.drain()
        assert {found for found in (await world.tree()).values() if found is not None} == {b"a", b"x"}

    tell(tmp_path, story, stocked(), poll_s=0, held_from=1)

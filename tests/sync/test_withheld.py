"""What vanished there in bulk, and is kept until somebody answers, gets a name of this machine alone meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.types import ROOT
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


@WHERE
@LISTED
def test_it_waits_for_the_answer_too_and_goes_with_it(tmp_path: Path, renamed: str, *, listed: bool) -> None:
    async def story(world: World) -> None:
        shown = await vanish(world, renamed, listed=listed)
        await world.engine.deletions.accept_vanished()
        assert not await world.drain()
        assert not [path for path, found in (await world.tree()).items() if found is not None]
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
        assert {found for found in (await world.tree()).values() if found is not None} == {b"a"}

    tell(tmp_path, story, stocked(), poll_s=0, held_from=1)

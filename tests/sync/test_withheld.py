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


CHANGED = pytest.mark.parametrize("change", ["renamed", "touched"])


async def set_back(world: World, change: str) -> str:
    """Have a file that is here in full kept by a set back server in an older version, and change it; see it wait."""
    await world.tree()
    world.remote.account.fingerprint = "second"
    world.remote.other.write("/d/a", b"older", mtime_s=1_600_000_000)
    await world.refresh_all()
    if change == "renamed":
        await world.rename("d/a", "b")
    else:
        ino = (await world.lookup("d/a")).ino
        await world.fs.setattr(ino, mtime_ns=1_640_000_000 * 10**9)
    with trio.fail_after(600):
        (trouble,) = await world.drain()
    assert "set back" in trouble.reason
    assert world.engine.obstacles.all_blocked() == [trouble]
    held = world.engine.deletions.vanished()
    assert held is not None
    assert held.older == 1
    assert world.remote.other.tree() == {"/d": None, "/d/a": b"older"}
    return "/b" if change == "renamed" else "/d/a"


def before_a_setback() -> FakeRemote:
    remote = FakeRemote()
    remote.account.fingerprint = "first"
    remote.other.mkdir("/d")
    remote.other.write("/d/a", b"newer", mtime_s=1_650_000_000)
    return remote


SET_BACK = pytest.mark.expect_log("set back to a backup")


@SET_BACK
@CHANGED
@pytest.mark.parametrize("restarted", [False, True])
def test_a_newer_version_that_was_renamed_meanwhile_is_restored(
    tmp_path: Path, change: str, restarted: bool
) -> None:
    async def story(world: World) -> None:
        path = await set_back(world, change)
        file_id = world.remote.other.file_id("/d/a")
        if restarted:
            await world.restart()
        assert (await world.engine.deletions.restore_vanished()).done == 1
        assert not await world.drain()
        await world.refresh_all()
        assert await world.tree() == world.remote.other.tree() == {"/d": None, path: b"newer"}
        assert world.remote.other.file_id(path) == file_id

    tell(tmp_path, story, before_a_setback())


@SET_BACK
@CHANGED
def test_an_older_version_is_accepted_under_the_name_that_it_got_meanwhile(
    tmp_path: Path, change: str
) -> None:
    async def story(world: World) -> None:
        path = await set_back(world, change)
        await world.engine.deletions.accept_vanished()
        assert not await world.drain()
        await world.refresh_all()
        assert await world.tree() == world.remote.other.tree() == {"/d": None, path: b"older"}

    tell(tmp_path, story, before_a_setback())

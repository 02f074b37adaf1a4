"""What vanished there in bulk and comes back in part: the rest waits on for the answer, however little it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell

ALL = {f"/d/{name}" for name in ("0", "1", "2", "sub/0", "sub/1", "sub/2", "sub/3")}
LOST = {"/d/1", "/d/sub/2", "/d/sub/3"}
"""Few beside what else there is: alone they would be believed to be gone."""


def stocked() -> FakeRemote:
    remote = FakeRemote()
    fill(remote, ALL)
    for number in range(5):
        remote.other.write(f"/{number}", b"x")
    return remote


def fill(remote: FakeRemote, paths: set[str]) -> None:
    for folder in ("/d", "/d/sub"):
        remote.other.mkdir(folder)
    for path in sorted(paths):
        remote.other.write(path, path.encode())


async def vanish(world: World) -> None:
    """Have the folder vanish, and nobody answer for an hour, after which nothing counts with it any more."""
    await world.walk()
    world.remote.other.delete("/d")
    await world.engine.lister.refresh(ROOT)
    assert waiting(world) == 9
    await trio.sleep(3600)


def waiting(world: World) -> int:
    held = world.engine.deletions.vanished()
    return 0 if held is None else held.count


async def shown(world: World) -> set[str]:
    return {f"/{path}" for path in (await world.walk()).attributes if path.startswith("d/")} - {"/d/sub"}


@pytest.mark.parametrize("restarted", [False, True])
def test_what_does_not_come_back_waits_on(tmp_path: Path, *, restarted: bool) -> None:
    async def story(world: World) -> None:
        await vanish(world)
        fill(world.remote, ALL - LOST)
        await world.engine.lister.refresh(ROOT)
        if restarted:
            await world.restart()
        await world.refresh_all()
        assert await shown(world) == ALL
        assert waiting(world) == len(LOST)
        await world.engine.deletions.accept_vanished()
        assert await shown(world) == ALL - LOST
        assert not waiting(world)

    tell(tmp_path, story, stocked(), delete_guard=5, poll_s=0)


def test_what_goes_once_all_of_it_came_back_is_believed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await vanish(world)
        fill(world.remote, ALL)
        await world.refresh_all()
        assert not waiting(world)
        for path in LOST:
            world.remote.other.delete(path)
        await world.refresh_all()
        assert await shown(world) == ALL - LOST
        assert not waiting(world)

    tell(tmp_path, story, stocked(), delete_guard=5, poll_s=0)


def test_what_was_answered_for_and_came_back_in_part_is_gone_as_far_as_it_is(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await vanish(world)
        fill(world.remote, ALL - LOST)
        await world.engine.deletions.accept_vanished()
        await world.refresh_all()
        assert await shown(world) == ALL - LOST
        assert not waiting(world)

    tell(tmp_path, story, stocked(), delete_guard=5, poll_s=0)

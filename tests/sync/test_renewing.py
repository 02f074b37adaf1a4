"""Many known folders in which something is new are asked for in one request, and seen as if each had been listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.types import RemoteEntry, RemotePath
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, tell

POLL_S = 30.0
Folder = tuple[RemoteEntry, Sequence[RemoteEntry]]
FOLDERS = [f"/top/{number}" for number in range(20)]


def stocked() -> FakeRemote:
    remote = FakeRemote(latency_s=0.1)
    remote.other.mkdir("/top")
    for folder in FOLDERS:
        remote.other.mkdir(folder)
        remote.other.write(f"{folder}/old", b"old")
    return remote


def asked(world: World) -> Counter[str]:
    return Counter(line.split()[0] for line in world.remote.methods())


def looked(
    folder: Path, change: Callable[[World], Awaitable[None]], remote: FakeRemote | None = None
) -> Counter[str]:
    """Have all folders known, then something done, and the next look; return what that took."""
    taken: Counter[str] = Counter()

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(POLL_S + 1)
        world.remote.log.clear()
        await change(world)
        await trio.sleep(POLL_S + 1)
        taken.update(asked(world))
        await world.drain()
        assert await world.tree() == world.remote.other.tree()

    tell(folder, story, remote or stocked(), poll_s=POLL_S)
    return taken


async def write_into_all(world: World) -> None:
    for folder in FOLDERS:
        world.remote.other.write(f"{folder}/new", b"new")
        world.remote.other.delete(f"{folder}/old")


def test_they_come_in_one_request(tmp_path: Path) -> None:
    assert looked(tmp_path, write_into_all) == {"stat": 1, "list_folder": 2, "list_tree": 1}


def test_a_few_are_listed_one_by_one(tmp_path: Path) -> None:
    async def change(world: World) -> None:
        for folder in FOLDERS[:10]:
            world.remote.other.write(f"{folder}/new", b"new")

    assert looked(tmp_path, change) == {"stat": 1, "list_folder": 12}


def test_where_trees_are_refused_each_is_listed(tmp_path: Path) -> None:
    remote = stocked()

    async def change(world: World) -> None:
        remote.faults.next("list_tree", [FaultKind.FAULT])
        await write_into_all(world)

    assert looked(tmp_path, change, remote)["list_folder"] == 2 + len(FOLDERS)


def test_a_tree_that_lacks_its_own_folder_serves_for_those_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is left out where it has a file whose size the server does not know yet."""
    list_tree = FakeRemote.list_tree

    async def lacking(remote: FakeRemote, path: RemotePath, **how: Any) -> Sequence[Folder]:
        return [it for it in await list_tree(remote, path, **how) if it[0].path != path]

    monkeypatch.setattr(FakeRemote, "list_tree", lacking)
    assert looked(tmp_path, write_into_all)["list_folder"] == 1 + 1 + len(FOLDERS)


def test_what_nobody_has_seen_is_not_asked_for_along(tmp_path: Path) -> None:
    async def change(world: World) -> None:
        world.remote.other.mkdir("/top/unseen")
        for number in range(50):
            world.remote.other.mkdir(f"/top/unseen/{number}")
        await write_into_all(world)

    taken = looked(tmp_path, change)
    assert taken["list_tree"] == 0
    assert taken["list_folder"] == 2 + len(FOLDERS)


def test_a_tree_with_much_else_in_it_is_not_asked_for(tmp_path: Path) -> None:
    remote = stocked()
    for number in range(30 * len(FOLDERS)):
        remote.other.write(f"/top/{number} beside", b"")

    assert looked(tmp_path, write_into_all, remote)["list_tree"] == 0


def test_what_is_done_here_meanwhile_is_not_undone(tmp_path: Path) -> None:
    """The tree is from before: one folder was moved here since, one was replaced, in one there is a new file."""
    remote = stocked()
    late = 0

    async def change(world: World) -> None:
        tree = remote.list_tree

        async def list_late(
            path: RemotePath, **how: Any
        ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
            nonlocal late
            seen = await tree(path, **how)
            late += 1
            await world.rename("top/3", "moved")
            await world.rename("top/4", "top/3")
            await world.save("top/5/ours", b"ours")
            await world.drain()
            remote.list_tree = tree  # type: ignore[method-assign]
            return seen

        remote.list_tree = list_late  # type: ignore[method-assign]
        await write_into_all(world)

    looked(tmp_path, change, remote)
    assert late == 1
    there = remote.other.tree()
    assert there["/moved/new"] == there["/top/3/new"] == b"new"
    assert there["/top/5/ours"] == b"ours"


def test_an_empty_folder_is_listed_where_nothing_shows_how_far_the_server_goes(tmp_path: Path) -> None:
    async def change(world: World) -> None:
        for folder in FOLDERS:
            world.remote.other.delete(f"{folder}/old")

    taken = looked(tmp_path, change)
    assert taken["list_tree"] <= 1
    assert taken["list_folder"] == 2 + len(FOLDERS)

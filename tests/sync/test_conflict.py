"""Two contents for one name: the rules, row by row, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.metadata.placing import free_copy_name
from cloudfs.store.store import Store
from cloudfs.sync.conflict import Conflicts
from cloudfs.types import ROOT, Ino
from tests.metadata.world import Metadata, file, folder


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Metadata]:
    store = Store(tmp_path / "state.sqlite")
    yield Metadata(store, None)
    store.close()


def conflicts(room: Metadata) -> Conflicts:
    return Conflicts(room.store, room.takeover, room.sink)


def copies(room: Metadata) -> list[str]:
    return [name for name in room.shown() if "conflicted copy" in name]


async def changed_file(room: Metadata, name: str = "a") -> Ino:
    await room.merge(file(f"/{name}", "base", file_id="7"))
    ino = room.shown()[name].ino
    room.write(ino)
    room.sink.take()
    return ino


async def test_the_servers_version_keeps_the_name_and_ours_keeps_the_inode(room: Metadata) -> None:
    ours = await changed_file(room)
    before = room.node(ours)
    conflicts(room).keep_both(before, (ROOT, "a"), file("/a", "theirs", size=3, file_id="7"))
    theirs = room.shown()["a"]
    assert (theirs.size, theirs.dirty, theirs.s_etag) == (3, 0, "theirs")
    after = room.node(ours)
    assert (after.version, after.size, after.synced) == (before.version, before.size, False)
    assert copies(room) == [after.name]
    (conflict,) = room.store.conflicts()
    assert (conflict.ours, conflict.theirs) == (ours, theirs.ino)
    assert set(room.sink.take()) == {("changed", ROOT, after.name), ("changed", ROOT, "a")}


async def test_ours_moved_on_meanwhile_keeps_its_new_name(room: Metadata) -> None:
    ours = await changed_file(room)
    planned = room.node(ours)
    room.nodes.update(ours, name="elsewhere")
    conflicts(room).keep_both(planned, (ROOT, "a"), file("/a", "theirs"))
    assert room.node(ours).name in {"elsewhere", *copies(room)}
    assert room.node(ours).linked
    assert room.shown()["a"].ino != ours


async def test_another_folder_in_its_place_is_kept_too(room: Metadata) -> None:
    ours = await changed_file(room)
    conflicts(room).keep_both(room.node(ours), (ROOT, "a"), folder("/a", "theirs"))
    assert room.shown()["a"].folder
    assert room.node(ours).linked


async def test_observations_and_attempts_end_with_the_conflict(room: Metadata) -> None:
    ours = await changed_file(room)
    room.store.observe(ours, None)
    conflicts(room).keep_both(room.node(ours), (ROOT, "a"), file("/a", "theirs"))
    assert not room.store.is_observed(ours)
    assert room.store.attempts(ours) == []


async def test_stepping_aside_changes_a_name_and_nothing_else(room: Metadata) -> None:
    mine = room.create("a")
    before = room.node(mine)
    conflicts(room).step_aside(before)
    after = room.node(mine)
    assert copies(room) == [after.name]
    assert (after.version, after.parent) == (before.version, before.parent)
    assert set(room.sink.take()) == {("removed", ROOT, "a"), ("changed", ROOT, after.name)}


async def test_a_file_that_went_on_to_another_name_does_not_step_aside(room: Metadata) -> None:
    mine = room.create("a")
    planned = room.node(mine)
    room.nodes.update(mine, name="b")
    conflicts(room).step_aside(planned)
    assert set(room.shown()) == {"b"}


async def test_a_copys_name_is_free_here_and_there(room: Metadata) -> None:
    taken: set[str] = set()
    for number in range(4):
        name = free_copy_name(room.nodes, ROOT, "a.txt")
        assert name not in taken
        assert name.endswith(".txt")
        taken.add(name)
        made = room.create(name)
        if number % 2:
            # Only the server has it still.
            room.nodes.update(made, s_parent=ROOT, s_name=name, parent=None)

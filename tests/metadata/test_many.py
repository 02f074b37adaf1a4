"""Folders of thousands: whatever is done about one is done in slices, between which others have their turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cloudfs.metadata import comparison, vanished
from cloudfs.metadata.comparison import compare
from cloudfs.metadata.following import movable
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.merge import Change, Drop, merge_folder
from cloudfs.metadata.spreading import Spreading
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino, RemoteEntry
from tests.metadata.world import Metadata, file, folder, open_metadata
from tests.store.work import counting

MANY = 8000
STATEMENTS, INSTRUCTIONS = 1500, 100
"""No step may do more, however many files there are: neither a statement for each, nor a look at each row in one."""


def members(count: int = MANY, above: str = "/big") -> list[RemoteEntry]:
    return [file(f"{above}/{number:05}", file_id=f"{number}") for number in range(count)]


async def filled(room: Metadata) -> Ino:
    """Have a large folder that is known."""
    room.remote.set("/", folder("/big", file_id="big"))
    room.remote.set("/big", *members(), file_id="big")
    await room.lister.refresh(ROOT)
    big = room.shown()["big"].ino
    await room.lister.refresh(big)
    return big


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


@pytest.mark.usefixtures("clock")
async def test_a_listing_that_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        with counting(room.store, monkeypatch) as work:
            await room.lister.refresh(big)
        assert work.statements < STATEMENTS
        assert work.instructions < INSTRUCTIONS
        assert room.node(big).listed_etag == "f"


@pytest.mark.usefixtures("clock")
async def test_a_first_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[int] = []

    def merge(entries: Iterable[RemoteEntry], nodes: Sequence[Node], *more: Any) -> list[Change]:
        entries = list(entries)
        merged.append(len(entries) + len(nodes))
        return merge_folder(entries, nodes, *more)

    monkeypatch.setattr(comparison, "merge_folder", merge)
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", *members(above=""))
        with counting(room.store, monkeypatch) as work:
            await room.lister.refresh(ROOT)
        assert len(room.shown()) == MANY
        assert room.node(ROOT).listed_etag == "f"
        assert work.statements < STATEMENTS
        assert work.instructions < INSTRUCTIONS
        assert max(merged) <= 1000
        # Of each: whether its name is taken, its row.
        assert work.all_statements < 2.5 * MANY


@pytest.mark.usefixtures("clock")
async def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_metadata(tmp_path) as room:
        await filled(room)
        room.remote.set("/")
        with counting(room.store, monkeypatch) as work:
            await room.lister.refresh(ROOT)
        assert room.shown() == {}
        assert work.statements < STATEMENTS
        assert work.instructions < INSTRUCTIONS


@pytest.mark.usefixtures("clock")
async def test_a_folder_of_folders_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All goes, from within, but for what holds something that was made here."""
    async with open_metadata(tmp_path) as room:
        await room.merge(folder("/top", file_id="top"))
        top = room.shown()["top"].ino
        await room.merge(*(folder(f"/top/{n}", file_id=f"{n}") for n in range(2000)), parent=top)
        for node in list(room.shown(top).values())[:3]:
            await room.merge(folder("/top/n/in", file_id=f"in {node.name}"), parent=node.ino)
        kept = room.create("made here", parent=room.shown(top)["1500"].ino)
        with counting(room.store, monkeypatch) as work:
            await room.merge()
        assert room.store.nodes.local_path(kept) == "/top/1500/made here"
        assert set(room.shown(top)) == {"1500"}
        assert not room.node(top).synced
        assert work.statements < STATEMENTS


@pytest.mark.usefixtures("clock")
async def test_what_is_gone_is_counted_for_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        guard = VanishGuard(room.store, limit=100)
        with counting(room.store, monkeypatch) as work:
            assert await guard.sift(ROOT, [Drop(room.node(big))]) == []
        assert [holding.count for holding in guard.held()] == [MANY + 1]
        assert work.instructions < INSTRUCTIONS


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("columns", "held"), [({"s_name": "elsewhere", "name": "elsewhere"}, 0), ({"listed_etag": None}, 1)]
)
async def test_what_is_no_longer_there_to_be_dropped_is_not_held(
    tmp_path: Path, columns: dict[str, Any], held: int
) -> None:
    """While it is counted the server may show it elsewhere; but not where it is dropped all the same."""
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        guard = VanishGuard(room.store, limit=100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard.sift, ROOT, [Drop(room.node(big))])
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            assert guard.held() == [], "it is being counted"
            room.nodes.update(big, **columns)
        assert len(guard.held()) == held


@pytest.mark.usefixtures("clock")
async def test_each_of_many_files_that_are_gone_is_looked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        guard = VanishGuard(room.store, limit=100)
        drops = [Drop(node) for node in room.shown(big).values()]
        with counting(room.store, monkeypatch) as work:
            assert await guard.sift(big, drops) == []
        assert work.statements < STATEMENTS
        assert len(guard.held()) == MANY


@pytest.mark.usefixtures("clock")
async def test_work_is_looked_for_in_a_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        with counting(room.store, monkeypatch) as work:
            assert await movable([Drop(room.node(big))], room.store) == [room.node(big)], (
                "a known one follows"
            )
        assert work.instructions < INSTRUCTIONS
        room.write(room.shown(big)["07999"].ino)
        assert await movable([Drop(room.node(big))], room.store) == [room.node(big)]


@pytest.mark.usefixtures("clock")
async def test_what_vanished_is_let_go_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        await room.merge(*members()[950:], parent=big)
        kept = room.takeover.vanished
        assert kept
        monkeypatch.setattr(vanished, "KEEP_S", -1.0)
        with counting(room.store, monkeypatch) as work:
            while kept.expire():
                await trio.lowlevel.checkpoint()
        assert not kept
        assert work.statements < 500
        assert room.nodes.orphans() == []


# Compared in slices it is the same as at once


def test_what_is_new_stays_what_it_is_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed, swapped in kind, gone, new, here already: as if the merge saw all of it together."""
    monkeypatch.setattr(comparison, "_AT_ONCE", 1)

    async def story() -> None:
        store = Store(tmp_path / "state.sqlite")
        room = Metadata(store, None)
        known = [file(f"/{name}", file_id=name) for name in "abcdefg"]
        folders = ("k", "left", "replaced", "same", "removed", "again", "taken", "without")
        await room.merge(*known, *(folder(f"/{name}", file_id=name) for name in folders))
        for name in ("removed", "again"):
            room.unlink(room.shown()[name].ino)
        for name in ("left", "replaced", "same", "taken", "without"):
            room.nodes.update(room.shown()[name].ino, name=f"{name} elsewhere")
        room.create("taken", is_folder=True)
        room.create("mine")
        room.create("met", is_folder=True)
        room.nodes.update(room.shown()["e"].ino, name="moved here")
        room.unlink(room.shown()["f"].ino)
        listed = [
            file("/a", file_id="a"),
            file("/b2", file_id="b"),
            file("/b3", file_id="b"),
            file("/c", "other", file_id="c", size=11),
            folder("/d", file_id="d2"),
            file("/e", "other", file_id="e", size=11),
            file("/f", file_id="f"),
            file("/k", file_id="k2"),
            folder("/replaced", file_id="another"),
            folder("/same", file_id="same"),
            folder("/removed", file_id="one more"),
            folder("/again", file_id="again"),
            folder("/taken", file_id="and one"),
            folder("/without"),
            file("/mine", file_id="theirs"),
            folder("/met", file_id="met"),
            file("/new", file_id="new"),
        ]
        for left_out in (set[str](), {"b2"}, {"b"}, {"new", "g", "d"}):
            expected = merge_folder(
                listed,
                room.nodes.synced_children(ROOT),
                {it.name: it for it in room.nodes.children(ROOT) if not it.placed},
                left_out,
            )
            found = await (await compare(store, ROOT, listed)).changes(lambda: left_out)  # noqa: B023  # now
            assert sorted(map(repr, found)) == sorted(map(repr, expected))
            assert len(found) == len(expected)
        store.close()

    trio.run(story)


@pytest.mark.usefixtures("clock")
async def test_what_changes_while_it_is_compared_is_left_to_the_next_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that goes to another name and back is met under neither by whoever looks from name to name."""
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        room.remote.set("/big", *members()[1:], etag="later", file_id="big")
        ino, turn = room.shown(big)["00000"].ino, 0

        async def rename() -> None:
            nonlocal turn
            turn += 1
            room.nodes.update(ino, name="zzz" if turn % 2 else "00000")

        checkpoint = trio.lowlevel.checkpoint
        with monkeypatch.context() as patch:

            async def renaming() -> None:
                await rename()
                await checkpoint()

            patch.setattr(trio.lowlevel, "checkpoint", renaming)
            await room.lister.refresh(big)
        assert turn > 2
        room.nodes.update(ino, name="00000")
        gone = room.nodes.get(ino) is None or not room.node(ino).linked
        assert gone or room.node(big).listed_etag is None, "seen as the server has it, and it has it no more"
        await room.lister.refresh(big)
        assert "00000" not in room.shown(big)


# What stays on this machine


async def see_through(spreading: Spreading) -> None:
    """Have everything marked."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spreading.run)
        while spreading.pending:
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("clock")
async def test_a_large_folder_takes_a_name_of_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        spreading = room.tree.spreading
        with counting(room.store, monkeypatch) as work:
            await room.tree.rename(ROOT, b"big", ROOT, b"big~", replace=True, exchange=False)
            assert spreading.pending
            assert room.node(big).local_only
            await see_through(spreading)
        assert work.statements < STATEMENTS
        assert work.instructions < INSTRUCTIONS
        assert all(node.local_only for node in room.shown(big).values())
        assert set(room.changed) >= {node.ino for node in room.shown(big).values()}


@pytest.mark.usefixtures("clock")
async def test_what_was_not_marked_before_the_end_is_marked_at_the_next_start(tmp_path: Path) -> None:
    """And what was renamed back meanwhile has the mark that it has to have."""
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        inner = room.create("inner", parent=big, is_folder=True)
        room.create("deep", parent=inner)
        await room.tree.rename(ROOT, b"big", ROOT, b"big~", replace=True, exchange=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.tree.spreading.run)
            while not room.shown(big)["00100"].local_only:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        marked = sum(node.local_only for node in room.nodes.descendants(big))
        assert 0 < marked < MANY, "it was cut off in the middle"
        made = room.tree.create(room.tree.folder(inner), "00", room.node(made_ino(room, inner)).kind, None)
        again = Spreading(room.store, room.changed.append)
        assert again.pending
        await see_through(again)
        assert all(node.local_only for node in room.nodes.descendants(big))
        assert room.node(made.ino).local_only
        assert not Spreading(room.store, room.changed.append).pending


@pytest.mark.usefixtures("clock")
async def test_what_leaves_a_folder_that_is_being_marked_is_marked_after_the_next_start(
    tmp_path: Path,
) -> None:
    """Moved from `big~` to `other~` its own mark is right all the time, and that of what is in it is not."""
    async with open_metadata(tmp_path) as room:
        big = await filled(room)
        inner = room.create("0", parent=big, is_folder=True)
        for number in range(600):
            room.create(f"{number}", parent=inner)
        await room.tree.rename(ROOT, b"big", ROOT, b"big~", replace=True, exchange=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.tree.spreading.run)
            while not room.node(inner).local_only:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert not any(node.local_only for node in room.shown(inner).values())
        await room.tree.rename(big, b"0", ROOT, b"other~", replace=True, exchange=False)
        await see_through(Spreading(room.store, room.changed.append))
        assert all(node.local_only for node in room.shown(inner).values())


def made_ino(room: Metadata, above: Ino) -> Ino:
    """Return the one file in a folder."""
    (node,) = room.shown(above).values()
    return node.ino

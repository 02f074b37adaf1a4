"""Taking a listing over: the mount ends up with what the server has, and with everything that was changed here."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from hypothesis import given, note
from hypothesis import strategies as st

from cloudfs.metadata import dropping, takeover
from cloudfs.metadata.merge import Drop
from cloudfs.metadata.setback import Setback
from cloudfs.store.records import Node, StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Kind, RemoteEntry
from tests.metadata.world import Metadata, file, folder, open_metadata
from tests.sync.profiles import thorough


async def test_a_new_name_appears_and_is_announced(room: Metadata) -> None:
    await room.merge(file("/a", size=3), folder("/b"))
    shown = room.shown()
    assert (shown["a"].size, shown["a"].kind, shown["b"].kind) == (3, Kind.FILE, Kind.FOLDER)
    assert room.nodes.dirty() == []
    assert room.sink.take() == [("changed", ROOT, "a"), ("changed", ROOT, "b")]


async def test_an_empty_file_needs_no_content_version(room: Metadata) -> None:
    await room.merge(file("/a", size=0), file("/b", size=1))
    assert room.shown()["a"].version == 0
    assert room.shown()["b"].version > 0


async def test_new_content_is_a_new_content_version_of_the_same_inode(room: Metadata) -> None:
    await room.merge(file("/a", "1", size=3))
    before = room.shown()["a"]
    room.sink.take()
    await room.merge(file("/a", "2", size=4))
    after = room.shown()["a"]
    assert after.ino == before.ino
    assert after.version > before.version
    assert after.size == 4
    assert room.sink.take() == [("node", before.ino, True)]


async def test_new_content_of_an_open_file_is_a_new_inode(room: Metadata) -> None:
    """The kernel's pages belong to the inode: no reader may meet pages of both versions."""
    await room.merge(file("/a", "1", size=3))
    before = room.shown()["a"]
    room.nodes.update(before.ino, mode=0o600)
    room.residents.opened(before.ino)
    room.sink.take()
    await room.merge(file("/a", "2", size=4))
    after = room.shown()["a"]
    assert after.ino != before.ino
    assert (after.size, after.mode, after.dirty) == (4, 0o600, 0)
    old = room.node(before.ino)
    assert (old.version, old.size, old.linked, old.synced) == (before.version, 3, False, False)
    assert room.sink.take() == [("changed", ROOT, "a")]


async def test_new_content_of_an_open_file_in_a_local_only_place_does_not_go_up(room: Metadata) -> None:
    await room.merge(file("/a", "1", size=3))
    ino = room.shown()["a"].ino
    room.nodes.update(ino, name="a~", local_only=1)
    room.residents.opened(ino)
    await room.merge(file("/a", "2", size=4))
    assert room.shown()["a~"].local_only == 1


async def test_a_rename_keeps_inode_and_content(room: Metadata) -> None:
    await room.merge(file("/a", "1", file_id="7"))
    before = room.shown()["a"]
    room.sink.take()
    await room.merge(file("/b", "1", file_id="7"))
    after = room.shown()["b"]
    assert (after.ino, after.version, after.dirty) == (before.ino, before.version, 0)
    assert room.sink.take() == [("removed", ROOT, "a"), ("changed", ROOT, "b")]


async def test_a_rename_with_new_content_is_new_content(room: Metadata) -> None:
    """Renamed and edited there between two listings: the old bytes must not be taken for the new version's."""
    await room.merge(file("/a", "1", size=3, file_id="7"))
    before = room.shown()["a"]
    room.sink.take()
    await room.merge(file("/b", "2", size=4, file_id="7"))
    after = room.shown()["b"]
    assert after.ino == before.ino
    assert after.version > before.version
    assert (after.size, after.dirty, after.s_etag) == (4, 0, "2")
    assert ("node", after.ino, True) in room.sink.take()


async def test_a_rename_with_new_content_of_an_open_file_is_a_new_inode(room: Metadata) -> None:
    await room.merge(file("/a", "1", size=3, file_id="7"))
    before = room.shown()["a"]
    room.residents.opened(before.ino)
    await room.merge(file("/b", "2", size=4, file_id="7"))
    assert set(room.shown()) == {"b"}
    assert room.shown()["b"].ino != before.ino


async def test_a_rename_with_new_content_of_a_changed_file_is_no_permission_to_overwrite_it(
    room: Metadata,
) -> None:
    await room.merge(file("/a", "1", file_id="7"))
    ino = room.shown()["a"].ino
    room.write(ino)
    await room.merge(file("/b", "2", file_id="7"))
    node = room.shown()["b"]
    assert node.ino == ino
    assert node.content_dirty
    assert node.s_etag == "1", "the upload must be made conditional on the version that the edit was based on"
    assert room.store.is_observed(ino)


async def test_a_rename_onto_a_name_used_here_gets_it(room: Metadata) -> None:
    await room.merge(file("/a", "1", file_id="7"))
    theirs = room.shown()["a"].ino
    mine = room.create("b")
    room.sink.take()
    await room.merge(file("/b", "1", file_id="7"))
    assert room.shown()["b"].ino == theirs
    (copy,) = set(room.shown()) - {"b"}
    assert copy.startswith("b (conflicted copy ")
    assert room.shown()[copy].ino == mine
    assert room.node(mine).dirty
    told = room.sink.take()
    assert {
        ("removed", ROOT, "b"),
        ("removed", ROOT, "a"),
        ("changed", ROOT, copy),
        ("changed", ROOT, "b"),
    } <= set(told)


async def test_what_the_server_has_no_more_disappears(room: Metadata) -> None:
    await room.merge(file("/a"))
    ino = room.shown()["a"].ino
    room.sink.take()
    await room.merge()
    assert room.shown() == {}
    assert room.nodes.get(ino) is None
    assert room.discarded == [ino]
    assert room.sink.take() == [("removed", ROOT, "a")]


async def test_a_dropped_file_that_somebody_holds_lives_unlinked(room: Metadata) -> None:
    await room.merge(file("/a"))
    ino = room.shown()["a"].ino
    room.residents.remember(ino)
    await room.merge()
    assert room.shown() == {}
    assert not room.node(ino).linked
    assert not room.node(ino).dirty
    assert room.discarded == []


async def test_a_changed_file_that_the_server_dropped_becomes_a_new_one(room: Metadata) -> None:
    await room.merge(file("/a"))
    ino = room.shown()["a"].ino
    room.write(ino)
    room.sink.take()
    await room.merge()
    node = room.shown()["a"]
    assert (node.ino, node.synced, node.dirty) == (ino, False, 1)
    assert room.sink.take() == []


async def test_a_dropped_folder_lives_for_the_changed_file_deep_inside(room: Metadata) -> None:
    await room.merge(folder("/a"))
    a = room.shown()["a"].ino
    await room.merge(folder("/a/b"), file("/a/clean"), parent=a)
    b = room.shown(a)["b"].ino
    await room.merge(file("/a/b/x"), file("/a/b/y"), parent=b)
    room.write(room.shown(b)["x"].ino)
    await room.merge()
    assert set(room.shown(a)) == {"b"}
    assert set(room.shown(b)) == {"x"}
    assert all(room.node(ino).dirty and not room.node(ino).synced for ino in (a, b, room.shown(b)["x"].ino))


async def test_a_file_in_the_place_of_a_folder_is_another_node(room: Metadata) -> None:
    await room.merge(folder("/a"))
    a = room.shown()["a"].ino
    await room.merge(file("/a/x"), parent=a)
    room.sink.take()
    await room.merge(file("/a", size=2))
    assert room.shown()["a"].ino != a
    assert room.shown()["a"].kind is Kind.FILE
    assert room.nodes.get(a) is None
    assert ("changed", ROOT, "a") in room.sink.take()


async def test_an_adopted_folder_is_asked_for_its_members(room: Metadata) -> None:
    ino = room.create("a", is_folder=True)
    room.nodes.update(ino, listed_at=1.0)
    await room.merge(folder("/a", file_id="7"))
    node = room.shown()["a"]
    assert (node.ino, node.s_file_id, node.listed_at, node.dirty) == (ino, "7", 0.0, 0)


async def test_a_change_that_no_longer_fits_is_left_to_the_next_listing(room: Metadata) -> None:
    """Between decision and transaction a program wrote."""
    await room.merge(file("/a", "1"))
    ino = room.shown()["a"].ino
    entry = file("/a", "2")
    stale = room.node(ino)
    room.write(ino)
    from cloudfs.metadata.merge import Refresh  # noqa: PLC0415  # only here is a change made by hand

    await room.takeover.apply(ROOT, [Refresh(stale, entry, content=True)])
    assert room.node(ino).content_dirty
    assert room.node(ino).s_etag == "1"


async def test_a_large_listing_is_taken_over_with_pauses(room: Metadata) -> None:
    """Other tasks run in between: the loop is never held for a whole folder of thousands."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await room.merge(*(file(f"/{number:05}") for number in range(1000)))
        nursery.cancel_scope.cancel()
    assert len(room.shown()) == 1000
    assert turns >= 2


# Any listing over any local state


NAMES = "abcd"


@pytest.fixture
def one_store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.sqlite")
    yield store
    store.close()


class RollBack(Exception):
    """Ends an example."""


def random_listing(chance: random.Random, above: str = "") -> list[RemoteEntry]:
    """Return any members of a folder; ids are few, so that they meet again under other names."""
    ids = [str(number) for number in range(6)]
    chance.shuffle(ids)
    entries = []
    for name in chance.sample(NAMES, chance.randint(0, len(NAMES))):
        file_id = ids.pop() if chance.random() < 0.8 else None
        path = f"{above}/{name}"
        # The kind goes with the id, as on a server.
        is_folder = int(file_id) % 3 == 0 if file_id is not None else chance.random() < 0.3
        etag = chance.choice("xyz")
        size = chance.choice([0, 5, 6])
        entries.append(
            folder(path, etag, file_id=file_id) if is_folder else file(path, etag, size=size, file_id=file_id)
        )
    return entries


def disturb(room: Metadata, chance: random.Random) -> None:
    """Change anything here."""
    shown = list(room.shown().values())
    for node in shown:
        what = chance.random()
        free = [name for name in NAMES if name not in room.shown()]
        if what < 0.2 and not node.folder:
            room.write(node.ino)
        elif what < 0.3 and not room.nodes.has_children(node.ino):
            room.unlink(node.ino)
        elif what < 0.4 and free:
            room.nodes.update(node.ino, name=chance.choice(free))
        elif what < 0.5:
            chance.choice([room.residents.opened, room.residents.remember])(node.ino)
    for name in NAMES:
        if name not in room.shown() and chance.random() < 0.2:
            room.create(name, is_folder=chance.random() < 0.4)


def on_server(room: Metadata) -> dict[str, tuple[Kind, str]]:
    """Return what we believe that the server has in the root."""
    return {node.s_name or "": (node.kind, node.s_etag or "") for node in room.nodes.synced_children(ROOT)}


def listed(entries: list[RemoteEntry]) -> dict[str, tuple[Kind, str]]:
    return {entry.name: (entry.kind, entry.version.etag) for entry in entries}


def run_merge(room: Metadata, entries: list[RemoteEntry]) -> None:
    """Merge outside of trio's clockwork: `apply` only pauses, it waits for nothing."""
    work = room.merge(*entries)
    try:
        while True:
            work.send(None)
    except StopIteration:
        pass


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go_on() -> None:
        pass

    monkeypatch.setattr(trio.lowlevel, "checkpoint", go_on)


@pytest.mark.usefixtures("no_pauses")
@thorough(500)
@given(st.integers(0, 2**32))
def test_a_clean_mount_converges_to_any_listing_and_a_second_time_changes_nothing(
    one_store: Store, seed: int
) -> None:
    chance = random.Random(seed)
    try:
        with one_store.transaction():
            room = Metadata(one_store, None)
            for _ in range(3):
                entries = random_listing(chance)
                note(str(listed(entries)))
                for node in room.shown().values():
                    if chance.random() < 0.3:
                        room.residents.opened(node.ino)
                run_merge(room, entries)
                # A swap of names through ids may need a second look, as the first only frees a name.
                assert on_server(room) == listed(entries)
                assert {name: (it.kind, it.s_etag) for name, it in room.shown().items()} == listed(entries)
                assert {it.name: it.version.size for it in entries if it.kind is Kind.FILE} == {
                    name: it.size for name, it in room.shown().items() if not it.folder
                }
                assert room.nodes.dirty() == []
                before, drawn = rows(room), room.nodes.next_version()
                room.sink.take()
                run_merge(room, entries)
                assert rows(room) == before
                assert room.sink.take() == []
                assert room.nodes.next_version() == drawn + 1, "a content version was drawn for nothing"
            raise RollBack
    except RollBack:
        pass


def rows(room: Metadata) -> list[Node]:
    return room.nodes.descendants(ROOT)


@pytest.mark.usefixtures("no_pauses")
@thorough(700)
@given(st.integers(0, 2**32))
def test_nothing_that_was_changed_here_is_lost_whatever_a_listing_says(one_store: Store, seed: int) -> None:
    """LocalDamage (a broken unique index) would fail this too."""
    chance = random.Random(seed)
    try:
        with one_store.transaction():
            room = Metadata(one_store, None)
            run_merge(room, random_listing(chance))
            for _ in range(3):
                disturb(room, chance)
                entries = random_listing(chance)
                changed = {node.ino: node for node in rows(room) if node.content_dirty or not node.synced}
                run_merge(room, entries)
                for ino, node in changed.items():
                    now = room.node(ino)
                    assert now.linked, f"{node.name} is gone"
                    assert (now.version, now.size) == (node.version, node.size), (
                        f"{node.name} lost its content"
                    )
                    assert now.dirty or (now.folder and now.s_name == now.name), f"{node.name} is forgotten"
                before = rows(room)
                room.sink.take()
                run_merge(room, entries)
                run_merge(room, entries)
                told = room.sink.take()
                assert not told or rows(room) != before, "announced again"
                assert_fresh(room, entries)
            raise RollBack
    except RollBack:
        pass


def assert_fresh(room: Metadata, entries: list[RemoteEntry]) -> None:
    """INVARIANT: a clean content is shown with the size of the version that its row names."""
    for node in rows(room):
        if not node.folder and node.synced and not node.content_dirty:
            assert node.size == node.s_size, f"{node.name} shows another version than its row names"
    sizes = {entry.name: entry.version.size for entry in entries if entry.kind is Kind.FILE}
    for name, node in room.shown().items():
        if name in sizes and node.placed and not node.folder and not node.content_dirty:
            assert node.size == sizes[name]


@pytest.mark.parametrize("limit", [0, 4])
async def test_a_file_cut_and_extended_to_its_old_size_has_bytes_of_its_own(
    room: Metadata, limit: int
) -> None:
    """Nothing was written into it, and still its zeros are nobody else's."""
    await room.merge(file("/a", size=10))
    ino = room.shown()["a"].ino
    base = room.node(ino)
    room.write(ino)
    room.store.put_staged(
        StagedRow(ino, room.node(ino).version, 10, b"", base.version, limit, base.remote_version)
    )
    await room.merge()
    assert room.node(ino).linked


# A large folder that is gone


async def large_folder(room: Metadata) -> Node:
    """Have a folder with 500 files and a folder of 300 in it, all of them known."""
    room.remote.latency_s = 0
    room.remote.set("/", folder("/d", file_id="d"), etag="1")
    inner = [file(f"/d/e/{number}") for number in range(300)]
    room.remote.set(
        "/d", folder("/d/e", file_id="e"), *[file(f"/d/{number}") for number in range(500)], file_id="d"
    )
    room.remote.set("/d/e", *inner, file_id="e")
    for path in ("", "d", "d/e"):
        found = room.tree.resolve(path)
        assert found is not None
        await room.lister.refresh(found.ino)
    return room.shown()["d"]


def count_below(room: Metadata, node: Node) -> int:
    return len(room.nodes.descendants(node.ino))


async def test_a_large_folder_that_is_gone_goes_in_parts(tmp_path: Path) -> None:
    async with open_metadata(tmp_path, ttl_s=10**9) as room:
        gone = await large_folder(room)
        room.remote.set("/", etag="2")
        left = [count_below(room, gone)]
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while True:
                    left.append(count_below(room, gone))
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(watch)
            await room.lister.refresh(ROOT)
            nursery.cancel_scope.cancel()
        left.append(count_below(room, gone))
        assert left[0] == 801
        assert left[-1] == 0
        # Two parts of 200 may lie between two looks: of the tasks that can run trio takes any first.
        assert max(before - after for before, after in pairwise(left)) <= 400
        assert room.shown() == {}
        assert room.nodes.dirty() == []


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("restored", [False, True])
async def test_a_large_folder_that_went_in_part_only_is_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restored: bool
) -> None:
    """The process ended in the middle; or another client put the folder back, ETags and all."""
    async with open_metadata(tmp_path, ttl_s=10**9) as room:
        gone = await large_folder(room)
        assert room.nodes.stale_folders() == []

        def killed(_point: str) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(dropping, "reached", killed)
            with pytest.raises(Killed):
                await room.takeover.apply(ROOT, [Drop(gone)])
        assert 0 < count_below(room, gone) < 801
        assert gone.ino in room.nodes.stale_folders()
        if restored:
            await room.lister.refresh(gone.ino)
            assert count_below(room, gone) == 801
        else:
            room.remote.set("/", etag="2")
            await room.lister.refresh(ROOT)
            assert room.nodes.descendants(ROOT) == []


async def test_what_is_made_in_a_large_folder_while_it_goes_stays(tmp_path: Path) -> None:
    async with open_metadata(tmp_path, ttl_s=10**9) as room:
        gone = await large_folder(room)
        room.remote.set("/", etag="2")
        async with trio.open_nursery() as nursery:

            async def make() -> None:
                while count_below(room, gone) == 801:
                    await trio.lowlevel.checkpoint()
                folder_now, name = await room.tree.free_name(gone.ino, b"new", Kind.FILE)
                room.tree.create(folder_now, name, Kind.FILE, 0o600)

            nursery.start_soon(make)
            await room.merge()
        await room.merge()
        shown = room.shown(gone.ino)
        assert set(shown) == {"new"}
        assert not room.node(gone.ino).synced
        assert {node.name for node in room.nodes.dirty()} == {"d", "new"}


@pytest.mark.expect_log("was set back to a backup")
async def test_what_is_kept_from_a_backup_is_known_while_it_is_listed_again(
    room: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches others go on, and must not take it for the server's version."""
    names = [f"/{number:04}" for number in range(takeover._BATCH + 1)]
    await room.merge(*(file(name, "new", size=3, modified_s=200) for name in names))
    setback = Setback(room.store)
    for fingerprint in ("before", "after"):
        setback.seen(fingerprint)
    monkeypatch.setattr(room.takeover, "_setback", setback)
    older = [file(name, "old", size=3, modified_s=100) for name in names]
    await room.merge(*older)
    kept: list[int] = []
    monkeypatch.setattr(takeover, "reached", lambda _: kept.append(len(setback.kept())))
    await room.merge(*older)
    assert kept == [len(names)] * 2
    await room.merge(*(file(name, "new", size=3, modified_s=200) for name in names))
    assert setback.kept() == []

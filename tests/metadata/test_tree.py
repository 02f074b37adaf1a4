"""The tree: errors as POSIX has them, and local changes that touch local views only."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloudfs.errors import PosixError
from cloudfs.metadata.residents import Residents
from cloudfs.store.records import Node
from cloudfs.types import ROOT, Ino, Kind, RemoteEntry, RemotePath, RemoteVersion
from tests.metadata.world import Metadata, file, folder, open_metadata


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Metadata]:
    """A root with the folder d (x, e), the empty folder n and the files a and b, all known."""
    async with open_metadata(tmp_path, ttl_s=10**9) as room:
        room.remote.latency_s = 0
        room.remote.set("/", folder("/d"), folder("/n"), file("/a"), file("/b"))
        room.remote.set("/d", file("/d/x"), folder("/d/e"))
        room.remote.set("/d/e")
        room.remote.set("/n")
        await room.lister.refresh(ROOT)
        for name in ("d", "n"):
            await room.lister.refresh(room.shown()[name].ino)
        await room.lister.refresh(room.shown(room.shown()["d"].ino)["e"].ino)
        yield room


async def code_of(room: Metadata, *renaming: object, replace: bool = True, exchange: bool = False) -> int:
    """Return the errno of a rename that must fail."""
    before = list(room.nodes.descendants(ROOT))
    with pytest.raises(PosixError) as caught:
        await room.tree.rename(*renaming, replace=replace, exchange=exchange)  # type: ignore[arg-type]  # as given
    assert room.nodes.descendants(ROOT) == before
    return caught.value.errno


def ino(room: Metadata, path: str) -> Ino:
    node = room.tree.resolve(path)
    assert node is not None, path
    return node.ino


async def test_a_rename_fails_as_rename_2_does(room: Metadata) -> None:
    d, e = ino(room, "d"), ino(room, "d/e")
    assert await code_of(room, ROOT, b"nothing", ROOT, b"x") == errno.ENOENT
    assert await code_of(room, ROOT, b"a", ROOT, b"d") == errno.EISDIR
    assert await code_of(room, ROOT, b"d", ROOT, b"a") == errno.ENOTDIR
    assert await code_of(room, ROOT, b"n", ROOT, b"d") == errno.ENOTEMPTY
    assert await code_of(room, ROOT, b"d", d, b"inside") == errno.EINVAL
    assert await code_of(room, ROOT, b"d", e, b"deep") == errno.EINVAL
    assert await code_of(room, ROOT, b"a", ROOT, b"b", replace=False) == errno.EEXIST
    assert await code_of(room, ROOT, b"a", ROOT, b"none", exchange=True) == errno.ENOENT
    assert await code_of(room, ROOT, b"d", d, b"e", exchange=True) == errno.EINVAL
    assert await code_of(room, ROOT, b"a", ino(room, "b"), b"x") == errno.ENOTDIR
    assert await code_of(room, ROOT, b"a", ROOT, b"x" * 256) == errno.ENAMETOOLONG


async def test_a_rename_onto_itself_is_nothing(room: Metadata) -> None:
    await room.tree.rename(ROOT, b"a", ROOT, b"a", replace=True, exchange=False)
    assert room.nodes.dirty() == []


async def test_a_rename_over_a_file_leaves_a_tombstone_with_its_identity(room: Metadata) -> None:
    a, b = ino(room, "a"), ino(room, "b")
    await room.tree.rename(ROOT, b"a", ROOT, b"b", replace=True, exchange=False)
    assert ino(room, "b") == a
    assert room.node(b).tombstone
    assert {node.ino for node in room.nodes.dirty()} == {a, b}
    assert {a, b} <= set(room.changed)


async def test_an_exchange_swaps_places_and_nothing_else(room: Metadata) -> None:
    a, x, d = ino(room, "a"), ino(room, "d/x"), ino(room, "d")
    await room.tree.rename(ROOT, b"a", d, b"x", replace=True, exchange=True)
    assert (ino(room, "a"), ino(room, "d/x")) == (x, a)


async def test_what_is_removed_waits_as_a_tombstone_and_what_is_new_goes_at_once(room: Metadata) -> None:
    a = ino(room, "a")
    await room.tree.unlink(ROOT, b"a")
    assert room.node(a).tombstone
    made = room.tree.create(room.tree.folder(ROOT), "new", Kind.FILE, None)
    await room.tree.unlink(ROOT, b"new")
    assert room.nodes.get(made.ino) is None
    assert made.ino in room.discarded


async def test_a_new_file_that_is_open_lives_on_unlinked(room: Metadata) -> None:
    made = room.tree.create(room.tree.folder(ROOT), "new", Kind.FILE, None)
    room.residents.opened(made.ino)
    await room.tree.unlink(ROOT, b"new")
    assert not room.node(made.ino).linked
    assert not room.node(made.ino).dirty
    room.residents.closed(made.ino)
    room.tree.collect(made.ino)
    assert room.nodes.get(made.ino) is None


async def test_what_a_crash_left_unlinked_is_collected_at_the_start(room: Metadata) -> None:
    made = room.tree.create(room.tree.folder(ROOT), "new", Kind.FILE, None)
    room.nodes.update(made.ino, parent=None)
    room.tree.collect_orphans()
    assert room.nodes.get(made.ino) is None


async def test_removing_fails_as_posix_has_it(room: Metadata) -> None:
    for call, name, code in [
        (room.tree.unlink, b"d", errno.EISDIR),
        (room.tree.rmdir, b"a", errno.ENOTDIR),
        (room.tree.rmdir, b"d", errno.ENOTEMPTY),
        (room.tree.unlink, b"none", errno.ENOENT),
    ]:
        with pytest.raises(PosixError) as caught:
            await call(ROOT, name)
        assert caught.value.errno == code
    await room.tree.rmdir(ROOT, b"n")
    assert room.tree.resolve("n") is None


async def test_a_folder_never_listed_is_not_taken_for_empty(room: Metadata) -> None:
    n = ino(room, "n")
    room.nodes.update(n, listed_at=None)
    room.remote.set("/n", file("/n/theirs"))
    with pytest.raises(PosixError) as caught:
        await room.tree.rmdir(ROOT, b"n")
    assert caught.value.errno == errno.ENOTEMPTY


async def test_a_removed_folder_takes_nothing_new(room: Metadata) -> None:
    n = ino(room, "n")
    await room.tree.rmdir(ROOT, b"n")
    with pytest.raises(PosixError) as caught:
        await room.tree.free_name(n, b"x", Kind.FILE)
    assert caught.value.errno == errno.ENOENT


async def test_a_name_in_use_is_not_free(room: Metadata) -> None:
    with pytest.raises(PosixError) as caught:
        await room.tree.free_name(ROOT, b"a", Kind.FILE)
    assert caught.value.errno == errno.EEXIST


async def test_local_only_follows_the_name_and_the_folder(room: Metadata) -> None:
    async def rename(old: str, new: str) -> None:
        await room.tree.rename(ROOT, old.encode(), ROOT, new.encode(), replace=True, exchange=False)

    def flags() -> list[int]:
        return [node.local_only for node in room.nodes.descendants(ROOT) if node.name in {"e", "x", "deep"}]

    room.tree.create(room.tree.folder(ino(room, "d/e")), "deep", Kind.FILE, None)
    assert flags() == [0, 0, 0]
    await rename("d", ".Trash-0")
    assert flags() == [1, 1, 1]
    await rename(".Trash-0", "d")
    assert flags() == [0, 0, 0]
    assert {node.name for node in room.nodes.dirty()} == {"deep"}


async def test_a_folders_own_time_is_no_work_for_the_server(room: Metadata) -> None:
    before = room.node(ROOT)
    room.tree.create(room.tree.folder(ROOT), "new", Kind.FILE, None)
    after = room.node(ROOT)
    assert after.mtime_ns > before.mtime_ns
    assert not after.dirty


async def test_chmod_stays_here_and_a_time_goes_up(room: Metadata) -> None:
    a = ino(room, "a")
    room.tree.set_attributes(a, mode=0o100640)
    assert room.node(a).mode == 0o640
    assert not room.node(a).dirty
    room.tree.set_attributes(a, mtime_ns=5)
    assert room.node(a).dirty


LETTERS = [
    ("SGDNVW", {"unlink", "rename"}),
    ("SG", set()),
    ("SGD", {"unlink"}),
    ("SGNV", {"rename"}),
    (None, {"unlink", "rename"}),
]


@pytest.mark.parametrize(("letters", "allowed"), LETTERS)
async def test_what_the_server_would_refuse_is_eacces_at_once(
    room: Metadata, letters: str | None, allowed: set[str]
) -> None:
    version = RemoteVersion("e", 10, 100)
    room.remote.set(
        "/",
        folder("/d"),
        folder("/n"),
        file("/b"),
        RemoteEntry(RemotePath("/a"), Kind.FILE, version, None, letters),
    )
    await room.lister.refresh(ROOT)

    async def allows(what: str) -> bool:
        try:
            if what == "rename":
                await room.tree.rename(ROOT, b"a", ROOT, b"z", replace=True, exchange=False)
                await room.tree.rename(ROOT, b"z", ROOT, b"a", replace=True, exchange=False)
            else:
                await room.tree.unlink(ROOT, b"a")
        except PosixError as error:
            assert error.errno == errno.EACCES  # noqa: PT017  # either answer is a result here
            return False
        return True

    assert {what for what in ("rename", "unlink") if await allows(what)} == allowed


async def test_a_folder_without_create_permission_takes_nothing(room: Metadata) -> None:
    room.nodes.update(ino(room, "n"), permissions="SGDNV")
    with pytest.raises(PosixError) as caught:
        await room.tree.free_name(ino(room, "n"), b"x", Kind.FILE)
    assert caught.value.errno == errno.EACCES
    assert await code_of(room, ROOT, b"a", ino(room, "n"), b"a") == errno.EACCES


async def test_what_is_left_on_the_server_still_lies_where_it_was(room: Metadata) -> None:
    x, d = ino(room, "d/x"), ino(room, "d")
    await room.tree.unlink(d, b"x")
    assert room.tree.path(x) is None
    assert room.tree.is_inside(x, "/d")
    assert not room.tree.is_inside(x, "/n")
    assert room.tree.is_inside(ROOT, "/")


def test_a_node_is_held_until_the_last_reference_is_gone() -> None:
    residents = Residents()
    node = Ino(7)
    residents.remember(node)
    residents.remember(node)
    residents.opened(node)
    assert not residents.forget(node, 2)
    assert residents.is_open(node)
    assert residents.closed(node)
    assert not residents.is_held(node)
    assert residents.forget(node, 5), "a count that is too large is not kept below zero"
    residents.remember(node)
    assert residents.is_held(node)


def test_records_are_snapshots() -> None:
    assert Node.__struct_config__.frozen


async def test_a_folder_of_many_goes_to_the_trash_and_back_with_few_writes_for_its_members(
    room: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else goes on meanwhile: it must not take a statement, and a row read whole, for each of them."""
    d = ino(room, "d")
    for number in range(300):
        room.tree.create(room.node(d), f"new {number}", Kind.FILE, 0o600)
    room.tree.create(room.node(d), "here~", Kind.FILE, 0o600)
    writes: list[int] = []
    write = room.store.db.executemany

    def counted(sql: str, rows: list[tuple[int, ...]]) -> None:
        writes.append(len(rows))
        write(sql, rows)

    monkeypatch.setattr(room.store.db, "executemany", counted)
    await room.tree.rename(ROOT, b"d", ROOT, b".Trash-1000", replace=True, exchange=False)
    assert sum(writes) == 302  # with x and e; the name of here~ keeps it here anyway
    assert len(writes) < 10
    assert all(node.local_only for node in room.nodes.descendants(d))
    writes.clear()
    await room.tree.rename(ROOT, b".Trash-1000", ROOT, b"d", replace=True, exchange=False)
    assert sum(writes) == 302
    assert len(writes) < 10
    assert [node.name for node in room.nodes.descendants(d) if node.local_only] == ["here~"]

"""Rows of one moment, read in pages while others go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from cloudfs.errors import LocalDamage
from cloudfs.store import snapshot
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino
from tests.store.test_store import local, synced

T = TypeVar("T")


def flat(pages: Iterator[list[T]]) -> list[T]:
    return [item for page in pages for item in page]


@pytest.fixture(autouse=True)
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_NODES", 2)
    monkeypatch.setattr(snapshot, "_SHORT", 2)


def test_it_shows_one_moment_whatever_changes_meanwhile(store: Store) -> None:
    """A node that goes from one name to another is met once, and so is one that goes from shown to moved."""
    made = [synced(store, ROOT, name) for name in "abcdef"]
    with store.db.snapshot() as rows:
        pages = rows.members(ROOT)
        first = next(pages)
        store.nodes.update(made[0], name="zzz")
        store.nodes.update(made[5], parent=None)
        store.nodes.delete(made[4])
        synced(store, ROOT, "new")
        rest = [node for page in pages for node in page]
        assert [node.name for node in [*first, *rest]] == list("abcdef")
        assert flat(rows.moved_members(ROOT)) == []
        assert flat(rows.child_inos(ROOT)) == made
    with store.db.snapshot() as rows:
        assert sorted(node.name for node in flat(rows.members(ROOT))) == ["b", "c", "d", "new", "zzz"]
        assert [node.ino for node in flat(rows.moved_members(ROOT))] == [made[0], made[5]]
        assert set(flat(rows.synced_names(ROOT))) == {"a", "b", "c", "d", "f", "new"}


def test_what_is_below_a_folder_here_and_there(store: Store) -> None:
    a = synced(store, ROOT, "a", folder=True)
    b = synced(store, a, "b", folder=True)
    deep = synced(store, b, "deep", size=3)
    left = synced(store, b, "left", size=3)
    store.nodes.update(left, parent=ROOT)  # moved out here
    came = synced(store, ROOT, "came", size=3)
    store.nodes.update(came, parent=b)  # moved in here
    new = local(store, b, "new")
    with store.db.snapshot() as rows:
        there = flat(rows.synced_below(a))
        assert there == [(b, 1), (deep, 0), (left, 0)]
        assert dict(flat(rows.work_below(a))) == {b: 0, deep: 0, came: 1, new: 1, left: 1}
        assert flat(rows.clean_files_below(a, shown=False)) == [deep, left]
        assert set(flat(rows.clean_files_below(a, shown=True))) == {deep, came}


def test_it_ends_with_its_block_and_cannot_write(store: Store) -> None:
    with store.db.snapshot() as rows:
        with pytest.raises(sqlite3.OperationalError):
            rows._db.execute("DELETE FROM nodes")
        assert flat(rows.synced()) == [1]
    with pytest.raises(RuntimeError):
        next(rows.members(ROOT))


def test_the_next_one_sees_what_came_meanwhile_also_where_the_last_was_not_read_to_its_end(
    store: Store,
) -> None:
    for number in range(5):
        local(store, ROOT, f"{number}")
    with store.db.snapshot() as rows:
        pages = rows.child_inos(ROOT)
        assert len(next(pages)) == 2
    came = local(store, ROOT, "came")
    with store.db.snapshot() as rows:
        assert came in flat(rows.child_inos(ROOT))
    with pytest.raises(LocalDamage):
        next(pages)
    assert store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "nobody holds the log"


def test_two_at_a_time_each_see_their_own_moment(store: Store) -> None:
    with store.db.snapshot() as before:
        came = local(store, ROOT, "came")
        with store.db.snapshot() as after:
            assert came in flat(after.child_inos(ROOT))
        assert came not in flat(before.child_inos(ROOT))


def test_damage_that_it_meets_is_noted(store: Store, path: Path) -> None:
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(2000):
        local(store, ROOT, f"{number}")
    store.close()
    data = bytearray(path.read_bytes())
    data[8192:] = b"x" * (len(data) - 8192)
    path.write_bytes(bytes(data))
    with sqlite3.connect(path) as db, pytest.raises(LocalDamage), store.db._reporting():
        db.execute("SELECT sum(size) FROM nodes WHERE parent = 1").fetchone()
    db.close()
    with pytest.raises(LocalDamage, match="found to be damaged"):
        Store(path)


# What changes meanwhile


def test_what_is_added_or_changed_within_the_block_is_collected(store: Store) -> None:
    a = local(store, ROOT, "a")
    with store.nodes.watched() as outer:
        b = local(store, ROOT, "b")
        with store.nodes.watched() as inner:
            store.nodes.update(a, name="c")
            store.nodes.begin_try(b, (ROOT, "b"))
        store.nodes.update(Ino(ROOT), mtime_ns=5)
    store.nodes.update(a, name="d")
    assert (outer, inner) == ({a, b, ROOT}, {a, b})

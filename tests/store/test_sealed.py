"""A database that is sealed with a key: the same in every use, unreadable without it, and damage is still noticed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.errors import CloudfsError, PosixError
from cloudfs.store.db import DatabaseDamaged
from cloudfs.store.health import check_database
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino

KEY = bytes(range(32))
NAME = "a name that nobody is to read"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path, key=KEY)
    yield store
    store.close()


def add(store: Store, name: str) -> Ino:
    return store.nodes.insert(parent=ROOT, name=name, folder=0, size=1, mtime_ns=1, ctime_ns=1)


async def test_names_are_nowhere_on_the_disk(store: Store, path: Path) -> None:
    with store.transaction():
        inos = [add(store, f"{NAME} {number}") for number in range(300)]
    for ino in inos[:50]:
        store.nodes.update(ino, size=2)
    files = list(path.parent.iterdir())
    assert {file.name for file in files} == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert not any(NAME.encode() in file.read_bytes() or b"CREATE" in file.read_bytes() for file in files)
    await store.make_durable()
    store.close()
    assert NAME.encode() not in path.read_bytes()
    again = Store(path, key=KEY)
    assert again.nodes.child(ROOT, f"{NAME} 7") is not None
    again.close()
    store.db = again.db


async def test_a_snapshot_stays_as_it_was(store: Store) -> None:
    add(store, "before")
    with store.db.snapshot() as rows:
        add(store, "after")
        assert [node.name for page in rows.members(ROOT) for node in page] == ["before"]
    assert store.nodes.child(ROOT, "after") is not None


async def test_a_grown_log_is_folded_in(path: Path) -> None:
    store = Store(path, key=KEY, room_bytes=64 * 1024)
    size = path.stat().st_size
    with store.transaction():
        for number in range(2000):
            add(store, f"{NAME} {number}")
    await store.db.checkpoint_if_large()
    assert path.stat().st_size > size
    store.close()


def test_an_error_in_a_statement_is_what_it_is_in_a_plain_one(store: Store) -> None:
    add(store, "once")
    with pytest.raises(CloudfsError, match="UNIQUE"), store.transaction():
        add(store, "twice")
        add(store, "once")
    assert store.nodes.child(ROOT, "twice") is None
    with pytest.raises(CloudfsError, match="no such table"):
        store.db.execute("SELECT * FROM absent")


def test_another_key_opens_nothing_and_changes_nothing(path: Path) -> None:
    Store(path, key=KEY).close()
    before = path.read_bytes()
    for key in (None, bytes(32)):
        with pytest.raises(DatabaseDamaged):
            Store(path, key=key)
        assert path.read_bytes() == before
        assert check_database(path, key)
    assert check_database(path, KEY) == ""


@pytest.mark.parametrize("page", range(1, 12, 3))
def test_a_damaged_page_is_damage_at_the_start(path: Path, page: int) -> None:
    store = Store(path, key=KEY)
    with store.transaction():
        for number in range(3000):
            add(store, f"{NAME} {number}")
    store.close()
    raw = bytearray(path.read_bytes())
    raw[page * 4096 + 2000] ^= 1
    path.write_bytes(raw)
    assert check_database(path, KEY)
    with pytest.raises(DatabaseDamaged):
        Store(path, key=KEY)


def test_a_page_that_is_damaged_while_it_is_used_is_noted(path: Path) -> None:
    store = Store(path, key=KEY)
    with store.transaction():
        for number in range(5000):
            add(store, f"{NAME} {number}")
    store.close()
    store = Store(path, key=KEY)
    store.db.execute("PRAGMA shrink_memory")
    with open(path, "r+b") as file:
        for page in range(20, path.stat().st_size // 4096):
            file.seek(page * 4096 + 2000)
            file.write(b"damage")
    with pytest.raises(CloudfsError):
        store.db.execute("SELECT sum(length(name)), sum(size) FROM nodes NOT INDEXED").fetchall()
    store.close()
    with pytest.raises(DatabaseDamaged):
        Store(path, key=KEY)


def test_a_full_disk_is_told_as_such(path: Path) -> None:
    store = Store(path, key=KEY)
    store.db.execute("PRAGMA max_page_count = 100")
    with pytest.raises(PosixError), store.transaction():
        for number in range(10_000):
            add(store, f"{NAME} {number}")
    assert store.nodes.child(ROOT, f"{NAME} 0") is None
    store.close()


def test_what_the_store_needs_of_sqlite_is_there(store: Store) -> None:
    version = store.db.execute("SELECT sqlite_version()").fetchone()[0]
    assert tuple(map(int, version.split("."))) >= (3, 38)
    assert sqlite3.sqlite_version_info >= (3, 38)

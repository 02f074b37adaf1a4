"""A log that was damaged after a kill: SQLite reads it up to there, and says nothing of what it leaves out."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloudfs.errors import PosixError
from cloudfs.store import db
from cloudfs.store.connections import connect
from cloudfs.store.db import DatabaseDamaged
from cloudfs.store.logtail import boot_id
from cloudfs.store.store import Store
from cloudfs.types import ROOT

HEAD, FRAME = 32, 24 + 4096


@pytest.fixture(params=[None, bytes(range(32))], ids=["plain", "sealed"])
def key(request: pytest.FixtureRequest) -> bytes | None:
    key: bytes | None = request.param
    return key


@pytest.fixture
def killed(tmp_path: Path, key: bytes | None) -> Path:
    """A database as a kill leaves it, with ten commits in its log and room for more behind them."""
    folder = tmp_path / "killed"
    folder.mkdir()
    with closing(Store(tmp_path / "state.sqlite", key=key)) as store:
        store.set_boot_id(boot_id())
    with closing(Store(tmp_path / "state.sqlite", key=key, room_bytes=1 << 20)) as store:
        for number in range(10):
            store.nodes.insert(parent=ROOT, name=f"{number}", folder=0, mtime_ns=0, ctime_ns=0)
        for path in tmp_path.glob("state.sqlite*"):
            shutil.copy(path, folder)
    return folder / "state.sqlite"


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def spoil(path: Path, at: int) -> None:
    raw = bytearray(log_of(path).read_bytes())
    raw[at] ^= 1
    log_of(path).write_bytes(raw)


def names(path: Path, key: bytes | None) -> set[str]:
    with closing(Store(path, key=key)) as store:
        return {node.name for node in store.nodes.children(ROOT)}


ALL = {f"{number}" for number in range(10)}


def test_what_a_kill_leaves_is_whole(killed: Path, key: bytes | None) -> None:
    assert names(killed, key) == ALL


@pytest.mark.parametrize(
    "at",
    [
        HEAD - 1,
        HEAD - 12,
        HEAD + 7 * FRAME + 3,
        HEAD + 7 * FRAME + 10,
        HEAD + 7 * FRAME + 20,
        HEAD + 7 * FRAME + 999,
    ],
    ids=["sums of all", "salts of all", "page", "salts", "sums", "content"],
)
def test_what_is_damaged_is_no_end(killed: Path, key: bytes | None, at: int) -> None:
    spoil(killed, at)
    with pytest.raises(DatabaseDamaged, match="changes that cannot be read"):
        Store(killed, key=key)


def test_a_write_that_was_cut_off_is_the_end(killed: Path, key: bytes | None) -> None:
    """At any of its bytes: nothing follows it, so that nobody was told that it is safe."""
    frames = (log_of(killed).stat().st_size - HEAD) // FRAME
    spoil(killed, HEAD + (frames - 1) * FRAME + 2000)
    assert names(killed, key) < ALL


def test_a_log_begun_anew_is_not_compared_with_what_it_is_written_over(
    killed: Path, key: bytes | None
) -> None:
    with closing(Store(killed, key=key)) as store:
        store.db._begin_wal_anew()
        store.nodes.insert(parent=ROOT, name="after", folder=0, mtime_ns=0, ctime_ns=0)
        folder = killed.parent / "again"
        folder.mkdir()
        for path in killed.parent.glob("state.sqlite*"):
            shutil.copy(path, folder)
    assert log_of(folder / killed.name).stat().st_size > HEAD + 10 * FRAME, (
        "the old frames are behind the new ones"
    )
    assert names(folder / killed.name, key) == ALL | {"after"}


def test_after_a_power_cut_nothing_follows_from_it(
    killed: Path, key: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames reach the disk in any order then: what is missing was never synced."""
    spoil(killed, HEAD + 7 * FRAME + 999)
    monkeypatch.setattr(db, "boot_id", lambda: "the next life of the machine")
    assert names(killed, key) < ALL


def kill(path: Path, number: int) -> Path:
    """Return the database as it would be if whoever has it open was killed now; its log's index may be gone then."""
    folder = path.parent / f"killed {number}"
    folder.mkdir()
    for part in ("", "-wal"):
        shutil.copy(path.with_name(path.name + part), folder)
    return folder / path.name


def add(store: Store, name: str) -> None:
    store.nodes.insert(parent=ROOT, name=name, folder=0, mtime_ns=0, ctime_ns=0)


@pytest.mark.parametrize("at", [1, 7], ids=lambda frame: f"frame {frame}")
def test_killed_after_a_power_cut_what_is_left_from_before_it_is_not_taken_for_lost(
    killed: Path, key: bytes | None, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """What the cut left behind the gap is older, and stays where new changes end."""
    spoil(killed, HEAD + at * FRAME + 999)
    monkeypatch.setattr(db, "boot_id", lambda: "the next life of the machine")
    with closing(Store(killed, key=key)) as store:
        store.set_boot_id("the next life of the machine")
        left = {node.name for node in store.nodes.children(ROOT)}
        add(store, "after")
        again = kill(killed, 1)
    assert left < ALL
    assert names(again, key) == left | {"after"}


def test_what_a_full_disk_keeps_from_beginning_the_log_anew_is_not_taken_for_lost_either(
    killed: Path, key: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who reads it has the same effect. The next start tries again, and from then on all is told apart."""
    spoil(killed, HEAD + 7 * FRAME + 999)
    monkeypatch.setattr(db, "boot_id", lambda: "the next life of the machine")
    with monkeypatch.context() as patch:
        patch.setattr(db.Database, "_emptied_log", lambda _: False)
        with closing(Store(killed, key=key)) as store:
            left = {node.name for node in store.nodes.children(ROOT)}
            add(store, "after")
            again = kill(killed, 1)
    with closing(Store(again, key=key)) as store:
        assert {node.name for node in store.nodes.children(ROOT)} == left | {"after"}
        for number in range(10):
            add(store, f"more {number}")
        third = kill(again, 2)
    spoil(third, HEAD + 7 * FRAME + 999)
    with pytest.raises(DatabaseDamaged, match="changes that cannot be read"):
        Store(third, key=key)


def index_of(path: Path) -> Path:
    return path.with_name(path.name + "-shm")


HEADS = 96
"""The two copies of what the log's index says of the log."""


@pytest.fixture
def lagging(killed: Path, key: bytes | None) -> Iterator[Path]:
    """Killed between a commit's last frame and the note of it in the log's index, which another process has open.

    So that SQLite does not make the index anew.
    """
    with closing(connect(killed, key)) as other:
        other.execute("SELECT count(*) FROM nodes").fetchone()
        with closing(Store(killed, key=key)) as store, index_of(killed).open("r+b", buffering=0) as index:
            before = index.read(HEADS)
            add(store, "nobody was told of it")
            store.db._db.close()
            assert index.seek(0) == 0
            assert index.read(HEADS) != before
            index.seek(0)
            index.write(before)
        yield killed


def test_a_commit_that_the_index_does_not_know_yet_is_not_taken_for_lost(
    lagging: Path, key: bytes | None
) -> None:
    with closing(Store(lagging, key=key)) as store:
        assert {node.name for node in store.nodes.children(ROOT)} == ALL
        add(store, "after")
        again = kill(lagging, 1)
    with closing(Store(again, key=key)) as store:
        assert {node.name for node in store.nodes.children(ROOT)} == ALL | {"after"}
        assert (boot_id(),) == store.db.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()


def test_of_a_commit_whose_checksums_were_being_taken_anew_nobody_was_told(
    killed: Path, key: bytes | None
) -> None:
    """What does not fit into SQLite's memory is written before its end is, and summed up when the end is there."""
    frames = (log_of(killed).stat().st_size - HEAD) // FRAME
    ends = [
        number
        for number in range(frames)
        if log_of(killed).read_bytes()[HEAD + number * FRAME + 4 :][:4] != bytes(4)
    ]
    assert ends[-1] == frames - 1
    assert ends[-2] < frames - 2
    spoil(killed, HEAD + (ends[-2] + 1) * FRAME + 999)
    assert names(killed, key) < ALL


class _NoRoomForIndex:
    """A connection on which a commit is answered as where the disk has no room for more of the log's index.

    By then the log has it, to its end.
    """

    def __init__(self, connection: sqlite3.Connection, index: Path) -> None:
        self._connection = connection
        self._index = index

    def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:  # as a connection
        if sql != "COMMIT":
            return self._connection.execute(sql, *more)
        with self._index.open("r+b", buffering=0) as index:
            before = index.read(HEADS)
            self._connection.execute(sql)
            index.seek(0)
            index.write(before)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
        raise error

    def __getattr__(self, name: str) -> Any:  # whatever a connection has
        return getattr(self._connection, name)


def test_what_a_full_disk_left_of_commits_that_were_taken_back_is_not_taken_for_lost(
    killed: Path, key: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller ones are written over their beginnings, while somebody who reads keeps the log from beginning anew."""
    with closing(Store(killed, key=key)) as store, store.db.snapshot():
        for size in (200, 100):
            with monkeypatch.context() as patch:
                patch.setattr(store.db, "_db", _NoRoomForIndex(store.db._db, index_of(killed)))
                with pytest.raises(PosixError), store.transaction():
                    for number in range(size):
                        add(store, f"taken back {size} {number} {'x' * 200}")
        add(store, "after")
        again = kill(killed, 1)
    assert names(again, key) == ALL | {"after"}

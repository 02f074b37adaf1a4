"""A damaged database is set aside, and what was closed is found again beside it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.blocks.staging import LABEL, Staging
from cloudfs.content.adoption import Adoption
from cloudfs.content.disposal import Disposal
from cloudfs.content.labels import Label, label
from cloudfs.content.powercut import after_power_cut
from cloudfs.errors import LocalDamage, PosixError
from cloudfs.ranges import RangeSet
from cloudfs.store.db import DatabaseDamaged
from cloudfs.store.records import StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion, Ino
from tests.crash.rescued import rescued
from tests.functional.drivers import Driver, read, tree, write
from tests.functional.stages import USER, VfsStage
from tests.servers import StandIn

pytestmark = [
    pytest.mark.shared_engine,
    pytest.mark.expect_log("state database|lost database|it is kept as", optional=True),
]


def random_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    start, stop = len(data) // 4, 3 * len(data) // 4
    data[start:stop] = random.Random(1).randbytes(stop - start)
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def text(path: Path) -> None:
    path.write_text("this is no database " * 1000)


def delete(path: Path) -> None:
    path.unlink()


DAMAGE = [random_bytes, cut, empty, text, delete]

KEYS = Keys(bytes(range(32)), Cipher.AES)

SERVER: dict[str, bytes | None] = {
    "folder": None,
    "folder/in": b"inside",
    "old": b"old " * 100_000,
    "kept": b"kept",
}


def change(driver: Driver) -> dict[str, bytes | None]:
    """Change all kinds of things; return what has to be found again."""
    for number in range(50):  # a database that is larger than a few pages
        driver.mkdir(f"folder/{number} {'x' * 100}")
        driver.rmdir(f"folder/{number} {'x' * 100}")
    write(driver, "folder/new", b"new " * 1000)
    driver.mkdir("made")
    write(driver, "made/in it", b"in it")
    write(driver, "kept", b"written over")
    write(driver, "before", b"moved " * 1000)
    driver.rename("before", "after")
    file = driver.open("folder/holes", os.O_RDWR | os.O_CREAT)
    file.write(1_000_000, b"end")
    file.close()
    return {
        "folder/new": b"new " * 1000,
        "made": None,
        "made/in it": b"in it",
        "after": b"moved " * 1000,
        "folder/holes": bytes(1_000_000) + b"end",
    }


@pytest.mark.parametrize(
    ("damage", "keys"),
    [*((damage, None) for damage in DAMAGE), (random_bytes, KEYS), (delete, KEYS)],
    ids=lambda it: getattr(it, "__name__", "sealed" if it else "plain"),
)
def test_what_was_closed_is_in_the_mount_and_goes_up(
    tmp_path: Path, server: StandIn, damage: Callable[[Path], None], keys: Keys | None
) -> None:
    account, home = server.account(USER), tmp_path / "engine"
    account.populate(SERVER)
    stage = VfsStage(home, server, quiet_s=3600.0, keys=keys)
    tree(stage.root())
    found = change(stage.root())
    part = stage.root().open("old", os.O_RDWR)
    part.write(100_000, b"a part of it")
    part.close()
    stage.close()
    damage(home / "state/state.sqlite")

    stage = VfsStage(home, server, listing_ttl_s=0.0, keys=keys)
    try:
        for path, content in found.items():
            if content is not None:
                assert read(stage.root(), path) == content, path
        stage.sync()
        stage.look()
        stage.sync()
        shown = tree(stage.root())
        assert account.tree() == shown
        # Another content on the server: both are there.
        assert shown.pop("kept") == b"kept"
        (copy,) = [path for path in shown if path.startswith("kept (conflicted copy")]
        assert shown.pop(copy) == b"written over"
        expected = {**SERVER, **found}
        del expected["kept"]
        assert shown == expected
        # Only a part of a file, of which nobody knows any more what it was a part of: kept, never sent.
        (left,) = (home / "state/recovered").iterdir()
        assert left.name.endswith(" old") is (keys is None)  # sealed, its name tells nothing
        assert rescued(left, keys)[100_000:] == b"a part of it"
        assert len(list((home / "state").glob("staging-*"))) == 1
    finally:
        stage.close()


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])
def test_what_a_damaged_log_leaves_out_is_found_again(
    tmp_path: Path, server: StandIn, keys: Keys | None
) -> None:
    """One bit, after a kill: SQLite opens what is before it, and the files of what is behind it would be nobody's."""
    home, killed = tmp_path / "engine", tmp_path / "killed"
    stage = VfsStage(home, server, quiet_s=3600.0, keys=keys)
    stage.restart()  # its tables are not in the log any more
    for number in range(20):
        write(stage.root(), f"{number}", b"closed " * 1000)
    shutil.copytree(home, killed)
    stage.close()
    log = killed / "state/state.sqlite-wal"
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)
    stage = VfsStage(killed, server, quiet_s=3600.0, keys=keys)
    try:
        assert tree(stage.root()) == {f"{number}": b"closed " * 1000 for number in range(20)}
        assert list((killed / "state").glob("state.sqlite-damaged-*"))
    finally:
        stage.close()


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])
@pytest.mark.expect_log("the database knows nothing of")
def test_what_a_database_without_its_log_knows_nothing_of_is_kept(
    tmp_path: Path, server: StandIn, keys: Keys | None
) -> None:
    """As a backup of one file brings it back. What is given up meanwhile is not kept for that."""
    home, killed = tmp_path / "engine", tmp_path / "killed"
    stage = VfsStage(home, server, quiet_s=3600.0, keys=keys)
    write(stage.root(), "before", b"before")
    stage.restart()
    write(stage.root(), "before", b"later " * 1000)
    write(stage.root(), "new", b"new " * 1000)
    write(stage.root(), "removed", b"removed")
    stage.root().unlink("removed")
    shutil.copytree(home, killed)
    stage.close()
    (killed / "state/state.sqlite-wal").unlink()
    stage = VfsStage(killed, server, quiet_s=3600.0, keys=keys)
    stage.close()
    kept = [rescued(path, keys) for path in (killed / "state/recovered").iterdir()]
    assert sorted(kept) == [b"later " * 1000, b"new " * 1000]


async def nothing_else() -> None:
    """Nothing else has to be on the disk."""


@contextmanager
def at_start(home: Path, keys: Keys | None = None) -> Iterator[tuple[Store, Staging, Disposal]]:
    """Give the changed files of an account, before anybody uses them."""
    store = Store(home / "state.sqlite")
    sealed = None if keys is None else (keys, store.store_id)
    staging = Staging(home / f"staging-{store.store_id}", sealed=sealed)
    try:
        yield store, staging, Disposal(store, staging, lambda _: None, nothing_else)
    finally:
        staging.close()
        store.close()


async def stage_file(store: Store, staging: Staging, name: str, ranges: RangeSet) -> StagedRow:
    """Write parts of a file, as it is when it was closed."""
    version, size = store.nodes.next_version(), max((stop for _, stop in ranges), default=0)
    ino = store.nodes.insert(
        parent=ROOT, name=name, folder=0, mtime_ns=0, ctime_ns=0, version=version, size=size
    )
    file = await staging.create(ino, version)
    for start, stop in ranges:
        await file.pwrite(start, bytes([1]) * (stop - start))
    row = StagedRow(ino, version, size, ranges.pack(), ContentVersion(0), size, None)
    store.put_staged(row)
    label(store, staging, row)
    return row


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "sealed"])
def test_a_file_of_more_pieces_than_its_label_has_room_for_is_kept_too(
    tmp_path: Path, keys: Keys | None
) -> None:
    """Its label says nothing of them. Of what holds nothing there is nothing to be kept."""

    async def story() -> None:
        pieces = RangeSet((start, start + 10) for start in range(10_000, 3_000_000, 10_000))
        with at_start(tmp_path, keys) as (store, staging, disposal):
            for name, ranges in (("in pieces", pieces), ("empty", RangeSet())):
                row = await stage_file(store, staging, name, ranges)
                assert b'"/' in staging.label_of(row.ino, row.version)
                store.delete_staged(row.ino, row.version)
            (told,) = await disposal.repair(tmp_path / "recovered")
            assert "the database knows nothing of" in told
            assert not staging.scan()
        (kept,) = (tmp_path / "recovered").iterdir()
        assert rescued(kept, keys)[10_000:10_010] == bytes([1]) * 10

    trio.run(story)


def test_a_file_that_a_failed_transaction_did_not_give_up_goes_on_saying_what_it_is(tmp_path: Path) -> None:
    async def story() -> None:
        with at_start(tmp_path) as (store, staging, disposal):
            row = await stage_file(store, staging, "a", RangeSet([(0, 10)]))
            said = staging.label_of(row.ino, row.version)
            with pytest.raises(PosixError), store.transaction():
                disposal.discard(row.ino)
                raise PosixError(errno.ENOSPC)
            assert store.staged(row.ino, row.version) == row
            assert staging.label_of(row.ino, row.version) == said != b""
            with store.transaction():
                disposal.discard(row.ino)
            assert not staging.label_of(row.ino, row.version)

    trio.run(story)


def test_a_start_finishes_where_what_should_be_kept_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk it stays where it is, and what nobody needs gives its room back."""

    async def story() -> None:
        with at_start(tmp_path) as (store, staging, disposal):
            kept = await stage_file(store, staging, "kept", RangeSet([(0, 10)]))
            given_up = await stage_file(store, staging, "given up", RangeSet([(0, 10)]))
            staging.unlabel(given_up.ino, given_up.version)
            for row in (kept, given_up):
                store.delete_staged(row.ino, row.version)
            with monkeypatch.context() as patch:
                patch.setattr(os, "link", full)
                (told,) = await disposal.repair(tmp_path / "recovered")
            assert "No space left" in told
            assert staging.scan() == [(kept.ino, kept.version)]
            await disposal.repair(tmp_path / "recovered")
            assert not staging.scan()
        assert recovered(tmp_path) == {bytes([1]) * 10}

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    trio.run(story)


def test_a_start_ends_where_a_row_stands_on_itself(tmp_path: Path) -> None:
    """As no row does that was not damaged: what it stands on is older."""

    async def story() -> None:
        with at_start(tmp_path) as (store, staging, disposal):
            row = await stage_file(store, staging, "a", RangeSet([(0, 10)]))
            row = msgspec.structs.replace(row, size=20, base_limit=20, base=row.version)
            store.put_staged(row.made_safe(row.state))
            store.put_staged(msgspec.structs.replace(row, version=ContentVersion(row.version + 1)))
            store.nodes.update(row.ino, s_version=0)
            store.set_boot_id("before the cut")
            with limited():
                after_power_cut(store, staging, tmp_path / "recovered", "after it")
            store.put_staged(row)
            with limited():
                await disposal.prune_all()

    trio.run(story)


@contextmanager
def limited() -> Iterator[None]:
    """Fail what never ends: it does not come back to be cancelled. Counts CPU seconds."""

    def ended(*_: object) -> None:
        raise AssertionError("it has no end")

    before = signal.signal(signal.SIGVTALRM, ended)
    signal.setitimer(signal.ITIMER_VIRTUAL, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_damage_that_is_met_in_use_is_mended_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.sqlite"
    with closing(Store(path)) as store:
        for number in range(2000):
            store.nodes.insert(parent=ROOT, name=f"{number} {'x' * 100}", folder=0, mtime_ns=0, ctime_ns=0)
    random_bytes(path)
    monkeypatch.setattr("cloudfs.store.db.Database._check", lambda _: None)  # as if its time was over
    with closing(Store(path)) as store, pytest.raises(LocalDamage):
        store.nodes.children(ROOT)
    with pytest.raises(DatabaseDamaged, match="while it was used"):
        Store(path)


def test_damage_that_a_commit_or_a_change_of_many_rows_meets_is_mended_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(store: Store) -> None:
        monkeypatch.setattr(store.db, "_db", _MeetsDamage(store.db._db, "COMMIT"))
        with store.transaction():
            store.put_note("a", "b")

    def change_many(store: Store) -> None:
        store.nodes.set_local_only([Ino(number) for number in range(2, 2000)], True)

    for change, damage in ((commit, lambda _: None), (change_many, random_bytes)):
        path = tmp_path / f"{change.__name__}.sqlite"
        with closing(Store(path)) as store, store.transaction():
            for number in range(2000):
                store.nodes.insert(
                    parent=ROOT, name=f"{number} {'x' * 100}", folder=0, mtime_ns=0, ctime_ns=0
                )
        damage(path)
        monkeypatch.setattr("cloudfs.store.db.Database._check", lambda _: None)  # as if its time was over
        with closing(Store(path)) as store, pytest.raises(DatabaseDamaged):
            change(store)
        with pytest.raises(DatabaseDamaged, match="while it was used"):
            Store(path)


class _MeetsDamage:
    """A connection on which one statement is answered as on a damaged file, which SQLite does not do on demand."""

    def __init__(self, connection: sqlite3.Connection, statement: str) -> None:
        self._connection = connection
        self._statement = statement

    def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:  # as a connection
        if sql == self._statement:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
        return self._connection.execute(sql, *more)

    def __getattr__(self, name: str) -> Any:  # whatever a connection has
        return getattr(self._connection, name)


def test_damage_behind_the_first_row_of_an_answer_is_met_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite reads rows when they are asked for."""
    path = tmp_path / "state.sqlite"
    with closing(Store(path)) as store:
        for number in range(2000):
            store.nodes.insert(parent=ROOT, name=f"{number} {'x' * 100}", folder=0, mtime_ns=0, ctime_ns=0)
    data = bytearray(path.read_bytes())
    half = len(data) // 8192 * 4096
    data[half:] = random.Random(1).randbytes(len(data) - half)
    path.write_bytes(data)
    monkeypatch.setattr("cloudfs.store.db.Database._check", lambda _: None)  # as if its time was over
    with closing(Store(path)) as store:
        assert store.nodes.dirty_after(Ino(0), 1)
        with pytest.raises(DatabaseDamaged):
            store.nodes.dirty_after(Ino(0), 2000)
    with pytest.raises(DatabaseDamaged, match="while it was used"):
        Store(path)


def test_a_foreign_database_is_set_aside_like_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE nodes (x)")
    with pytest.raises(DatabaseDamaged):
        Store(path)


def lose(home: Path, number: int, content: bytes, said: Label | None) -> None:
    """Have a database lost with one staging file in its folder, and what is left adopted by a new one."""
    lost = home / f"staging-{number}"
    lost.mkdir()
    staged = lost / "5.4294967300"
    staged.write_bytes(content)
    if said is not None:
        os.setxattr(staged, LABEL, msgspec.json.encode(said))
    store = Store(home / f"{number}.sqlite")
    try:
        staging = Staging(home / f"staging-of-{number}")
        Adoption(store, staging, home / "recovered", lambda *_: False).adopt(lost)
        trio.run(staging.aclose)
    finally:
        store.close()


def recovered(home: Path) -> set[bytes]:
    return {path.read_bytes() for path in (home / "recovered").iterdir()}


def test_what_an_earlier_loss_left_is_not_in_the_way_of_the_next(tmp_path: Path) -> None:
    """A new database gives the same files the same inodes, and the same versions to the first edits."""
    for number, content in enumerate((b"first", b"second", b"third")):
        lose(tmp_path, number, content, None)
    assert recovered(tmp_path) == {b"first", b"second", b"third"}


def test_parts_of_a_file_with_the_longest_name_are_kept(tmp_path: Path) -> None:
    """The mount could not be started again, ever."""
    lose(tmp_path, 1, b"part", Label(f"/{'ä' * 125}", 10, 10, [(0, 4)]))
    assert recovered(tmp_path) == {b"part"}

"""The connection: all or nothing, errors translated, and a file that only its owner reads."""

from __future__ import annotations

import errno
import functools
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.errors import LocalDamage, PosixError, errno_of
from cloudfs.store import db as database
from cloudfs.store.store import Store
from cloudfs.types import ROOT


def names(store: Store) -> list[str]:
    return [node.name for node in store.nodes.children(ROOT)]


def add(store: Store, name: str) -> None:
    store.nodes.insert(parent=ROOT, name=name, folder=0, mtime_ns=0, ctime_ns=0)


class Broken(Exception):
    """Something fails in the middle."""


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    with pytest.raises(Broken), store.transaction():
        add(store, "a")
        raise Broken
    assert names(store) == []
    with store.transaction():
        add(store, "a")
        add(store, "b")
    assert names(store) == ["a", "b"]


def test_an_inner_transaction_belongs_to_the_outer_one(store: Store) -> None:
    with pytest.raises(Broken), store.transaction():
        with store.transaction():
            add(store, "a")
        raise Broken
    assert names(store) == []


def test_a_failed_statement_ends_the_whole_transaction(store: Store) -> None:
    with pytest.raises(LocalDamage), store.transaction():
        add(store, "a")
        add(store, "a")
    assert names(store) == []
    add(store, "b")
    assert names(store) == ["b"]


def test_content_versions_are_never_drawn_twice_even_after_a_rollback_and_a_restart(path: Path) -> None:
    with closing(Store(path)) as store:
        drawn = [store.nodes.next_version() for _ in range(3)]
    with closing(Store(path)) as store:
        drawn.append(store.nodes.next_version())
    assert drawn == sorted(set(drawn))
    assert 0 not in drawn


def test_what_was_committed_survives_a_killed_process(path: Path) -> None:
    program = (
        "import os, sys, pathlib\n"
        "from cloudfs.store.store import Store\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "with store.transaction():\n"
        "    store.nodes.insert(parent=1, name='a', folder=0, mtime_ns=0, ctime_ns=0)\n"
        "store.db.execute('BEGIN')\n"
        "store.nodes.insert(parent=1, name='b', folder=0, mtime_ns=0, ctime_ns=0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)
    assert result.returncode == -9
    with closing(Store(path)) as store:
        assert names(store) == ["a"]


async def test_make_durable_syncs_the_write_ahead_log(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    add(store, "a")
    await store.make_durable()
    assert synced == [f"{path}-wal"]


async def test_an_fsync_that_fails_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        await store.make_durable()


async def test_a_grown_log_is_folded_in_and_nothing_is_lost(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_CHECKPOINT_BYTES", 0)
    add(store, "a")
    await store.db.checkpoint_if_large()
    add(store, "b")
    # The log went into the file: a copy of that alone has what was committed before.
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as alone:
        found = [name for (name,) in alone.execute("SELECT name FROM nodes WHERE parent = 1")]
    assert found == ["a"]
    assert names(store) == ["a", "b"]


async def test_a_short_log_is_left_alone(store: Store, path: Path) -> None:
    add(store, "a")
    await store.db.checkpoint_if_large()
    with (
        closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as alone,
        pytest.raises(sqlite3.OperationalError),
    ):
        alone.execute("SELECT name FROM nodes")


async def test_a_log_that_nothing_was_added_to_is_folded_in_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_CHECKPOINT_BYTES", 0)
    folded: list[Path] = []
    monkeypatch.setattr(database, "_checkpoint", folded.append)
    for name in ("a", "b"):
        add(store, name)
        for _ in range(3):
            await store.db.checkpoint_if_large()
    assert len(folded) == 2


async def test_the_log_of_a_burst_is_given_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del path
    """Step by step: cutting off much of a file takes long, and SQLite does it on the loop."""
    monkeypatch.setattr(database, "_CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr(database, "_GIVEN_BACK_BYTES", 1024 * 1024)
    bursting = Store(tmp_path / "bursting.sqlite")
    log = tmp_path / "bursting.sqlite-wal"
    for number in range(300):
        add(bursting, f"n{number}")
    sizes = [log.stat().st_size]
    while len(sizes) < 20:
        await bursting.db.checkpoint_if_large()
        add(bursting, f"more {len(sizes)}")  # begins the log anew
        sizes.append(log.stat().st_size)
    assert sizes[0] > 1024 * 1024
    assert sizes[-1] <= 128 * 1024
    assert max(before - after for before, after in pairwise(sizes)) <= 1024 * 1024
    bursting.close()


async def test_the_log_begins_anew_also_where_nobody_stops_writing(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal of 40,000 files made one of 1.5 GB."""
    monkeypatch.setattr(database, "_CHECKPOINT_BYTES", 0)
    monkeypatch.setattr(database, "_MOST_BYTES", 64 * 1024)
    run_sync, log, written = trio.to_thread.run_sync, path.with_name(path.name + "-wal"), list[str]()

    def write() -> None:
        written.append(f"{len(written):04}")
        add(store, written[-1])

    async def beside(*args: Any, **more: Any) -> Any:
        # What is written from here on is not folded in: as what is written after the thread has looked what there is.
        with store.db.snapshot():
            write()
            return await run_sync(*args, **more)

    monkeypatch.setattr(trio.to_thread, "run_sync", beside)
    sizes: list[int] = []
    for _ in range(40):
        for _ in range(10):
            write()
        await store.db.checkpoint_if_large()
        sizes.append(log.stat().st_size)
    assert max(sizes[20:]) <= max(sizes[:20])
    assert names(store) == written


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_only_the_owner_reads_the_database(store: Store, path: Path, suffix: str) -> None:
    add(store, "a")
    mode = stat.S_IMODE(path.with_name(path.name + suffix).stat().st_mode)
    assert mode == 0o600


def test_a_database_is_private_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        Store(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_its_locks_are_held_as_long_as_it_is_open(path: Path) -> None:
    """Closing a descriptor of a file of its own would drop them: the next program to open it would begin it anew."""
    Store(path).close()
    program = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'r+b') as index:\n"
        "    fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)\n"
    )
    index = path.with_name(f"{path.name}-shm")
    with closing(Store(path)) as store:
        add(store, "a")
        done = subprocess.run(
            [sys.executable, "-c", program, index], check=False, capture_output=True, text=True
        )
    assert "BlockingIOError" in done.stderr, "byte 128 tells that the index is in use (walIndex, os_unix.c)"


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    link = tmp_path / "state.sqlite"
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        Store(link)
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [b"this is a text, and no database " * 40, b"SQLite format 3\0" + b"\xff" * 4096],
    ids=["text", "garbage"],
)
def test_a_file_that_is_no_database_is_damage_and_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LocalDamage):
        Store(path)
    assert path.read_bytes() == content


def test_a_foreign_database_is_damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE nodes (x)")
    with pytest.raises(LocalDamage):
        Store(path)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=576k", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        timeout=60,
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


def fill(store: Store, letter: str) -> None:
    """Add nodes, fifty at a time, until something is raised."""
    done = 0
    while True:
        with store.transaction():
            for number in range(50):
                add(store, f"{done + number:06} {letter * 200}")
        done += 50


def test_a_full_disk_is_enospc_and_keeps_what_was_committed(tiny_disk: Path) -> None:
    path, ballast = tiny_disk / "state.sqlite", tiny_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    with closing(Store(path)) as store:
        with pytest.raises(PosixError) as caught:
            fill(store, "a")
        assert caught.value.errno == errno.ENOSPC
        kept = len(names(store))
        assert kept > 0
        assert kept % 50 == 0
        with pytest.raises(PosixError):
            fill(store, "b")
    ballast.unlink()  # a start writes, too
    with closing(Store(path)) as store:
        assert len(names(store)) >= kept
        assert len(names(store)) % 50 == 0


def test_a_transaction_too_large_for_the_disk_is_enospc_and_leaves_nothing(tiny_disk: Path) -> None:
    """SQLite gives up such a transaction by itself, before anybody asks to roll it back."""
    with closing(Store(tiny_disk / "state.sqlite")) as store:
        store.db.execute("PRAGMA cache_size = 10")
        with pytest.raises(PosixError) as caught, store.transaction():
            for number in range(20_000):
                add(store, f"{number:06} {'x' * 200}")
        assert caught.value.errno == errno.ENOSPC
        assert names(store) == []


def test_a_database_on_a_full_disk_is_enospc(tiny_disk: Path) -> None:
    with (tiny_disk / "ballast").open("wb") as ballast, pytest.raises(OSError, match="No space"):
        ballast.write(b"x" * 1024 * 1024)
    with pytest.raises((PosixError, OSError)) as caught:
        Store(tiny_disk / "state.sqlite")
    assert errno_of(caught.value) == errno.ENOSPC


def test_a_disk_that_somebody_filled_does_not_stop_the_database(tiny_disk: Path) -> None:
    """The more so as rows are written and written again: the log begins anew in the space that it has."""
    with closing(Store(tiny_disk / "state.sqlite", room_bytes=192 * 1024)) as store:
        add(store, "a")
        with (
            (tiny_disk / "ballast").open("wb", buffering=0) as file,
            pytest.raises(OSError, match="No space"),
        ):
            while True:
                file.write(bytes(4096))
        failed = [number for number in range(400) if not replaced(store, f"{number}")]
        # One that the log has no room for is undone, and the next one finds that it has begun anew.
        assert not any(number + 1 in failed for number in failed)
        assert len(names(store)) == 1


def replaced(store: Store, name: str) -> bool:
    """Replace the only node, in one transaction; False where the disk was full."""
    try:
        with store.transaction():
            store.nodes.delete(store.nodes.children(ROOT)[0].ino)
            add(store, name)
    except PosixError:
        return False
    add(store, "more")  # alone it is tried again by itself
    store.db.execute("DELETE FROM nodes WHERE name = 'more'")
    return True


@pytest.mark.expect_log("no disk space can be put by")
def test_a_disk_that_is_full_at_the_start_gives_its_room_later(tiny_disk: Path) -> None:
    Store(tiny_disk / "state.sqlite").close()
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(300 * 1024))
    with closing(Store(tiny_disk / "state.sqlite", room_bytes=192 * 1024)) as store:
        assert not store.db.room.take()
        ballast.unlink()
        assert store.db.room.take()
        assert (tiny_disk / "state.sqlite-wal").stat().st_blocks * 512 >= 192 * 1024


def test_a_roomy_log_on_a_full_disk_never_runs_out(tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=8m", str(tiny_disk)], check=True, timeout=60)
    with closing(Store(tiny_disk / "state.sqlite", room_bytes=3 * 1024 * 1024)) as store:
        add(store, "a")
        with (
            (tiny_disk / "ballast").open("wb", buffering=0) as file,
            pytest.raises(OSError, match="No space"),
        ):
            while True:
                file.write(bytes(4096))
        assert all(replaced(store, f"{number}") for number in range(2000))


# Power cuts


def copy_of(path: Path, folder: Path) -> Path:
    """Return a copy of what a power cut would leave if nothing after this moment reached the disk."""
    folder.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        (folder / name).write_bytes(path.with_name(name).read_bytes())
    return folder / path.name


def test_a_power_cut_never_brings_a_content_version_back(path: Path, tmp_path: Path) -> None:
    """Blocks stay cached under their version, though the commit that drew it may be gone."""
    drawn: list[int] = []
    for life in range(3):
        with closing(Store(path)) as store:
            durable = copy_of(path, tmp_path / str(life))
            drawn += [store.nodes.next_version() for _ in range(5)]
        path = durable
    assert len(set(drawn)) == len(drawn)
    assert drawn == sorted(drawn)


def test_the_range_of_versions_is_on_the_disk_before_the_first_draw(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            seen.append(sql)
            return super().execute(sql, *parameters)

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Watched))
    with closing(Store(path)) as store:
        seen = seen[: next(i for i, sql in enumerate(seen) if sql.startswith("UPDATE meta")) + 2]
        assert seen[-3::2] == ["PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"]
        assert store.db.execute("PRAGMA synchronous").fetchone() == (1,)


def test_a_disk_error_is_never_a_signal(store: Store) -> None:
    """What is mapped cannot fail in any other way."""
    assert store.db.execute("PRAGMA mmap_size").fetchone() == (0,)


def test_killed_while_a_damaged_one_is_set_aside_it_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log had another name by then: without it it was an old state, to which newer staging files are nobody's."""
    path = tmp_path / "db"
    database.Database(path).close()
    rename, renamed = Path.rename, list[Path]()

    def dies(self: Path, target: Path) -> Path:
        renamed.append(self)
        rename(self, target)
        raise KeyboardInterrupt

    path.with_name("db-wal").touch()
    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        database.set_aside(path)
    monkeypatch.setattr(Path, "rename", rename)
    assert [it.name for it in renamed] == ["db-wal"]
    with pytest.raises(database.DatabaseDamaged):
        database.Database(path)
    database.set_aside(path)
    database.Database(path).close()

"""The connection: pragmas, transactions, durability.

Short indexed statements run on the trio loop (17 µs for a lookup among a million rows), where the lack of a
checkpoint makes every function a critical section. Only what waits for the disk goes to a thread: fsync and
WAL checkpoints.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import trio

from cloudfs.errors import CloudfsError, LocalDamage, PosixError
from cloudfs.store.connections import connect, cursors
from cloudfs.store.logtail import boot_id, commits_behind
from cloudfs.store.room import Room
from cloudfs.store.schema import SCHEMA_VERSION, begin_versions, create_or_migrate
from cloudfs.store.snapshot import Snapshot

__all__ = ["Database", "DatabaseDamaged", "set_aside"]

_CHECKPOINT_BYTES = 16 * 1024 * 1024
"""The WAL is folded into the database beyond this size; about 4,000 small transactions."""
_MOST_BYTES = 8 * _CHECKPOINT_BYTES
"""A WAL of this size has to begin anew. Giving 1.5 GB back held the loop for two seconds, 0.3 of them CPU."""

_GIVEN_BACK_BYTES = 16 * 1024 * 1024
"""So much shorter at most a WAL becomes each time it begins anew: SQLite cuts it on the loop, in 3 ms of CPU; 240 MB
took 46."""

_ROWS_PER_LOOK = 64
"""Rows changed, of up to eight pages each, between two looks at how full the disk is."""

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


_CHECK_S = 0.3
"""The check at the start has so long: enough for about 300,000 nodes. What it does not reach is found in use."""

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DatabaseDamaged(LocalDamage):
    """The file is no database, or not a whole one: the next start begins with a new one (`set_aside`)."""


def set_aside(path: Path) -> Path:
    """Give a damaged database another name, with its log, and return that."""
    # Killed before the end, the next start must not take what is left for a whole one: without its log it is an old
    # state, that knows nothing of the staging files since.
    _mark_of(path).touch()
    stamp = dt.datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    target = path.with_name(f"{path.name}-damaged-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    _mark_of(path).unlink(missing_ok=True)
    return target


def _mark_of(path: Path) -> Path:
    return path.with_name(path.name + "-is-damaged")


class Database:
    """One SQLite file in WAL mode, used from the trio thread only."""

    def __init__(self, path: Path, room_bytes: int = 0, key: bytes | None = None) -> None:
        """Open or create `path` (0600), migrating an older format; `room_bytes` are allocated for its WAL at once.

        With a `key` its pages are sealed. INVARIANT: whoever gives one knows that it is this file's, since what another
        key opens looks like damage.

        Raises LocalDamage when the file is no usable database, PosixError(ENOSPC) when the disk is full.
        """
        self._path = path
        self._connect = partial(connect, path, key, isolation_level=None)
        self._cursor = cursors(key, self._plain_cursor, self._told)
        self._room_bytes = room_bytes
        self._looked_at = 0
        self._folded_at = 0
        """Changes, as the connection counts them, when the WAL was last folded in."""
        self._wal = path.with_name(path.name + "-wal")
        self._index = -1
        """Of the WAL's index, which is not closed before the connection is (`logtail`)."""
        if _mark_of(path).exists():
            raise DatabaseDamaged("the state database was found to be damaged while it was used")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.close(descriptor)
        with translated():
            self._db = self._connect(check_same_thread=False, cached_statements=256)
            try:
                self._prepare()
                self._check()
            except BaseException as error:
                # Left to the garbage collector it would hold the file, and maybe its write lock.
                self._db.close()
                self._close_index()
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
                    msg = f"the state database is not one of ours: {error}"
                    raise DatabaseDamaged(msg) from error
                raise
        self._inside = False
        self._due: list[Callable[[], None]] = []
        """What is to be called once the transaction is committed."""
        self._mistrusted = False
        """The log may hold commits that were taken back, and the database does not say so yet."""
        self._spare: list[sqlite3.Connection] = []
        """What the last snapshot read with, or nothing."""
        self.room = Room(path, room_bytes)
        self.room.take()

    def _prepare(self) -> None:
        # NORMAL: a commit survives a killed process; `make_durable` makes it survive a power cut.
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "wal_autocheckpoint = 0",  # would fsync on the loop; see `checkpoint`
            "temp_store = MEMORY",
            "cache_size = -8192",
            "mmap_size = 0",  # a disk error below a mapping is a SIGBUS: the end of the mount
        ):
            self._db.execute(f"PRAGMA {pragma}")
        self._give_back(0)
        boot = boot_id()
        # Before the first write: it would go where the log ends, and what lies behind that would seem to follow.
        noted = self._log_is_whole(boot) or self._emptied_log()
        create_or_migrate(self._db)
        begin_versions(self._db)
        self._note_log(boot if noted else "")

    def _log_is_whole(self, boot: str) -> bool:
        """Tell whether all of the log was written in this life of the machine, and can be read; False: nobody knows.

        Raises DatabaseDamaged where it cannot: what is written next would take the place of commits, and files that
        belong to them would be nobody's.
        """
        (format_number,) = self._db.execute("PRAGMA user_version").fetchone()
        if format_number != SCHEMA_VERSION or not boot:
            return False
        row = self._db.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
        if row is None or row[0] != boot:
            return False
        with contextlib.suppress(FileNotFoundError):
            self._index = os.open(self._path.with_name(self._path.name + "-shm"), os.O_RDONLY | os.O_CLOEXEC)
        behind = commits_behind(self._path, self._index) if self._index >= 0 else 0
        if behind > 1:
            msg = "the state database is damaged: its log has changes that cannot be read"
            raise DatabaseDamaged(msg)
        return not behind

    def _emptied_log(self) -> bool:
        """Fold all of the log in, and begin it anew; False where a full disk or a reader is in the way."""
        with contextlib.suppress(sqlite3.OperationalError):
            busy, *_ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        return False

    def _note_log(self, boot: str) -> None:
        """Note in which life of the machine the log was begun; "": it may hold what is no part of it."""
        if boot:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('log', ?)", (boot,))
        else:
            self._db.execute("DELETE FROM meta WHERE key = 'log'")

    def _check(self) -> None:
        """Look whether the file is whole, as far as the time for it reaches."""
        until = time.monotonic() + _CHECK_S
        self._db.set_progress_handler(lambda: time.monotonic() > until, 10_000)
        try:
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return
        finally:
            self._db.set_progress_handler(None, 0)
        if found != "ok":
            msg = f"the state database is damaged: {found}"
            raise DatabaseDamaged(msg)

    def execute(self, sql: str, parameters: tuple[Any, ...] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Run one statement; outside `transaction` it commits by itself."""
        if self._mistrusted and not self._inside:
            self._mistrust_log()
        # Without a context manager, which would take as long as the row itself.
        try:
            return self._db.cursor(self._cursor).execute(sql, parameters)
        except sqlite3.OperationalError as error:
            # Inside a transaction SQLite may have undone what came before: that is for the caller to repeat.
            if self._inside or not self._made_room(error):
                raise _meaning(error) from error
        except sqlite3.DatabaseError as error:
            raise self._told(error) from error
        with translated():
            return self._db.cursor(self._cursor).execute(sql, parameters)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give the nodes as they are now, and stay so within the block, whatever is committed meanwhile; 20 µs.

        Not inside `transaction`, whose changes it would not show. The block may await; as long as it lasts the WAL
        only grows.
        """
        with self._reporting(), self._reader() as db:
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM meta").fetchone()  # the first look is what it goes on seeing
            snapshot = Snapshot(db, self._reporting)
            yield snapshot
            snapshot.end()
            db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Give a connection of one's own: opening one costs more than most snapshots, so one is kept for the next."""
        db = self._spare.pop() if self._spare else self._open_reader()
        try:
            yield db
        except BaseException:
            db.close()
            raise
        if self._spare:
            db.close()
        else:
            self._spare.append(db)

    def _open_reader(self) -> sqlite3.Connection:
        db = self._connect()
        for pragma in ("query_only = ON", "cache_size = -1024"):
            db.execute(f"PRAGMA {pragma}")
        return db

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Translate SQLite's errors, and note damage."""
        with translated():
            try:
                yield
            except sqlite3.DatabaseError as error:
                self._note_damage(error)
                raise

    def _plain_cursor(self, connection: sqlite3.Connection) -> _Cursor:
        return _Cursor(connection, self._told)

    def _told(self, error: sqlite3.DatabaseError) -> CloudfsError:
        self._note_damage(error)
        return _meaning(error)

    def _note_damage(self, error: sqlite3.Error) -> None:
        """Have the next start begin with a new database, where that is what the error says."""
        if _primary(error) in _DAMAGE:
            with contextlib.suppress(OSError):
                _mark_of(self._path).touch()

    def _look_at_disk(self) -> None:
        """On a nearly full disk begin the WAL anew before it has used up what it has: later a commit would fail."""
        self._looked_at = self._db.total_changes
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < self._room_bytes:
            self._give_back(0)
            self._begin_wal_anew()

    def _give_back(self, size: int) -> None:
        """Have the WAL cut when it begins anew: one of so many bytes in steps, and never the room taken beforehand."""
        limit = max(size - _GIVEN_BACK_BYTES, self._room_bytes, _CHECKPOINT_BYTES)
        self._db.execute(f"PRAGMA journal_size_limit = {limit}")

    def _begin_wal_anew(self) -> None:
        """On the loop, where no reader is in its way; waits for the disk twice."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _made_room(self, error: sqlite3.OperationalError) -> bool:
        if self._db.in_transaction:
            return False
        if error.sqlite_errorcode in _FULL:
            self._give_back(0)
            self._begin_wal_anew()
        if _primary(error) == sqlite3.SQLITE_IOERR:
            self._mistrust_log()
        return error.sqlite_errorcode in _FULL

    def _mistrust_log(self) -> None:
        """Have the next start see no damage in what the log holds of a commit that was taken back.

        It was in the log when the log's index could not grow. What is written next takes the place of its beginning, or
        of all of it: this is to be the first, and is as small as a commit can be. Where that fails, it is tried again.
        """
        self._mistrusted = True
        with contextlib.suppress(sqlite3.Error):
            self._note_log("")
            self._mistrusted = False

    def executemany(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        """Run one statement for many rows, all or nothing."""
        with self.transaction(), self._reporting():
            self._db.executemany(sql, rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. NO CHECKPOINT: the body must not await. Inside another transaction it joins that one."""
        if self._inside:
            yield
            return
        if self._mistrusted:
            self._mistrust_log()
        if self._room_bytes and self._db.total_changes - self._looked_at > _ROWS_PER_LOOK:
            self._look_at_disk()
        self.execute("BEGIN IMMEDIATE")
        self._inside = True
        try:
            yield
        except BaseException:
            # On a full disk SQLite has rolled back by itself, and says so with an error.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
        else:
            self._commit()
        finally:
            self._inside = False
            due, self._due = self._due, []
        for call in due:
            call()

    def when_committed(self, call: Callable[[], None]) -> None:
        """Call once the present transaction is committed, and not where it fails; at once outside of one.

        What is called must not fail.
        """
        if self._inside:
            self._due.append(call)
        else:
            call()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                self._made_room(error)  # for the next one: this one is undone
            with self._reporting():
                raise

    async def make_durable(self) -> None:
        """Return when every commit so far is on the disk (fsync of the WAL, in a thread)."""
        await trio.to_thread.run_sync(_fsync, self._wal)

    async def checkpoint_if_large(self) -> None:
        """Fold a grown WAL into the database, in a thread; readers and writers go on meanwhile.

        It begins anew once all of it is folded in, for which somebody has to stop writing. Where nobody does, the last
        part is folded in on the loop: that waits for the disk twice. Raises PosixError(ENOSPC).
        """
        with contextlib.suppress(FileNotFoundError):
            limit = min(_CHECKPOINT_BYTES, self._room_bytes // 2 or _CHECKPOINT_BYTES)
            changes = self._db.total_changes
            # The file keeps its size: where nothing was written since, there is nothing in it to fold in.
            if changes == self._folded_at or (size := self._wal.stat().st_size) <= limit:
                return
            self._give_back(size)
            await trio.to_thread.run_sync(_checkpoint, self._connect)
            self._folded_at = changes
            if size > _MOST_BYTES and self._db.total_changes != changes:
                await trio.to_thread.run_sync(_checkpoint, self._connect)  # so that little is left
                self._give_back(self._wal.stat().st_size)
                self._begin_wal_anew()

    def close(self) -> None:
        """Close the connection; SQLite folds the WAL in when it is the last one."""
        for spare in self._spare:
            spare.close()
        self._db.close()
        self._close_index()
        self.room.close()

    def _close_index(self) -> None:
        if self._index >= 0:
            os.close(self._index)
            self._index = -1


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checkpoint(connect: Callable[[], sqlite3.Connection]) -> None:
    with translated(), contextlib.closing(connect()) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors into ours: a full disk is an answer, anything else is damage."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _meaning(error) from error


def _meaning(error: sqlite3.DatabaseError) -> CloudfsError:
    if not isinstance(error, sqlite3.OperationalError):
        msg = f"the state database is damaged: {error}"
        return (DatabaseDamaged if _primary(error) in _DAMAGE else LocalDamage)(msg)
    if error.sqlite_errorcode in _FULL:
        return PosixError(errno.ENOSPC, "the state database")
    return LocalDamage(f"the state database failed: {error}")


class _Cursor(sqlite3.Cursor):
    """All rows but the first are read when they are asked for: what is found to be damaged by then is met here.

    `told` is told of it. Without a context manager, which would take as long as the row itself.
    """

    def __init__(
        self, connection: sqlite3.Connection, told: Callable[[sqlite3.DatabaseError], CloudfsError]
    ) -> None:
        super().__init__(connection)
        self._told = told

    def __next__(self) -> Any:  # noqa: ANN401  # a row
        try:
            return super().__next__()
        except sqlite3.DatabaseError as error:
            raise self._told(error) from error

    def fetchone(self) -> Any:  # noqa: ANN401  # a row
        """Return the next row, None behind the last one."""
        try:
            return super().fetchone()
        except sqlite3.DatabaseError as error:
            raise self._told(error) from error

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        try:
            return super().fetchall()
        except sqlite3.DatabaseError as error:
            raise self._told(error) from error


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF

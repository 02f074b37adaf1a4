"""A whole database copied into a new file, under another key or none: its rows, by our own schema."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cloudfs.store.connections import connect
from cloudfs.store.db import translated
from cloudfs.store.schema import create_or_migrate
from cloudfs.store.store import Store

__all__ = ["copy_store"]

_AT_ONCE = 5000


def copy_store(source: Store, target: Path, key: bytes | None) -> str:
    """Write all that a store knows into a new database; returns the id of that one. Blocking; durable at its end.

    It is a database of its own: what blocks and staging files are bound to is bound to the old one. Raises LocalDamage,
    PosixError, FileExistsError.
    """
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    store_id = secrets.token_hex(8)
    with translated(), contextlib.closing(connect(target, key, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        create_or_migrate(db)
        db.execute("BEGIN IMMEDIATE")
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(tables):
            columns = [
                name for _, name, *_, hidden in db.execute(f"PRAGMA table_xinfo({table})") if not hidden
            ]
            names, marks = ", ".join(columns), ", ".join("?" * len(columns))
            db.execute(f"DELETE FROM {table}")
            rows = source.db.execute(f"SELECT {names} FROM {table}")
            while page := rows.fetchmany(_AT_ONCE):
                db.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", page)
        db.execute("UPDATE meta SET value = ? WHERE key = 'store_id'", (store_id,))
        db.execute("COMMIT")
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        assert found == "ok"  # noqa: S101  # it was just written
    return store_id

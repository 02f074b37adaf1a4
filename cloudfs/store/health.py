"""Whether a database can be read, looked at from outside: also while a daemon has it open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from cloudfs.store.connections import connect

__all__ = ["check_database"]


def check_database(path: Path, key: bytes | None = None) -> str:
    """Return what is wrong with it, "" for nothing. Reads all of it, changes nothing; blocks for as long as that."""
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        with closing(connect(address, key, uri=True, timeout=5.0)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            database.execute("SELECT count(*) FROM nodes WHERE dirty").fetchone()
    except sqlite3.Error as error:
        return f"{error}"
    return "" if answer == "ok" else str(answer)

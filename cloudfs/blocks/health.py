"""Whether a block cache can be read, looked at from outside: also while a daemon has it open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

__all__ = ["check_cache"]


def check_cache(folder: Path) -> str:
    """Return what is wrong with the indexes in a cache's folder, "" for nothing. Changes nothing."""
    for path in sorted(folder.glob("**/*.db")):
        try:
            address = f"file:{quote(str(path))}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=5.0)) as database:
                (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            return f"{path}: {error}"
        if answer != "ok":
            return f"{path}: {answer}"
    return ""

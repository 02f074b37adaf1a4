"""How a database file is opened: as it is, or sealed with a key. The one place that knows the difference."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["connect", "cursors"]


def connect(path: Path | str, key: bytes | None, **options: Any) -> sqlite3.Connection:  # noqa: ANN401  # sqlite3's
    """Open a database; `options` as `sqlite3.connect` has them. Raises sqlite3.Error."""
    if key is None:
        plain: sqlite3.Connection = sqlite3.connect(path, **options)
        return plain
    from cloudfs.store import cipher  # noqa: PLC0415  # 5 MB that only who has a key needs

    return cipher.connect(str(path), key, **options)


def cursors(
    key: bytes | None,
    plain: Callable[[sqlite3.Connection], sqlite3.Cursor],
    told: Callable[[sqlite3.DatabaseError], Exception],
) -> Callable[[sqlite3.Connection], sqlite3.Cursor]:
    """Return what makes the cursors of such a connection; where rows cannot be read they raise what `told` returns."""
    if key is None:
        return plain
    from cloudfs.store import cipher  # noqa: PLC0415  # as above

    return cipher.told_cursor(told)

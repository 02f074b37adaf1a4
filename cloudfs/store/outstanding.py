"""What of the tree has still to reach the server: how many changes, how many bytes, and what is being removed there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from cloudfs.store.db import Database
from cloudfs.store.records import Node
from cloudfs.types import Ino

__all__ = ["LEAVING", "Outstanding"]

_COLUMNS = ", ".join(Node.__struct_fields__)
_REMOVED = "nodes INDEXED BY nodes_removed WHERE parent IS NULL AND s_parent IS NOT NULL AND NOT meant"
_TAKEN_OFF = "nodes INDEXED BY nodes_leaving WHERE moved AND parent IS NOT NULL AND local_only AND NOT meant"
LEAVING = f"SELECT ino FROM {_REMOVED} UNION ALL SELECT ino FROM {_TAKEN_OFF}"
"""Finds the nodes whose deletion here was not answered for."""


class Outstanding:
    """The rows of `nodes` seen so; a part of `Nodes`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def count_dirty(self) -> int:
        """Count the nodes with work for the server."""
        (count,) = self._db.execute("SELECT count(*) FROM nodes WHERE dirty").fetchone()
        return int(count)

    def bytes_to_send(self) -> int:
        """Add up the sizes of the files whose content has to go to the server."""
        (total,) = self._db.execute(
            "SELECT total(size) FROM nodes INDEXED BY nodes_to_send"
            " WHERE dirty AND NOT folder AND NOT local_only AND parent IS NOT NULL AND version IS NOT s_version"
        ).fetchone()
        return int(total)

    def count_local_files(self) -> int:
        """Count the files with content that the mount shows and that never go up."""
        sql = "SELECT count(*) FROM nodes WHERE local_only AND NOT folder AND parent IS NOT NULL AND size > 0"
        (count,) = self._db.execute(sql).fetchone()
        return int(count)

    def bytes_to_leave(self) -> int:
        """Return how many bytes at most the server will have less of what was removed, taken off it or cut here."""
        (total,) = self._db.execute(
            "SELECT total(s_size - iif(parent IS NULL OR local_only, 0, size))"
            " FROM nodes INDEXED BY nodes_dirty WHERE dirty AND NOT folder AND s_parent IS NOT NULL"
            " AND (parent IS NULL OR local_only OR size < s_size)"
        ).fetchone()
        return int(total)

    def count_removed(self, most: int = -1) -> int:
        """Count what was removed, was not answered for, and the server still has, up to so many nodes (-1: all)."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {_REMOVED} LIMIT ?)"
        (count,) = self._db.execute(sql, (most,)).fetchone()
        return int(count)

    def taken_off(self) -> list[Node]:
        """Return the nodes that were moved to a local-only place, not answered for, and that the server still has.

        Only the topmost: those below stand where they stood.
        """
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM {_TAKEN_OFF}")
        return [Node(*row) for row in rows]

    def leaving(self, most: int) -> list[Node]:
        """Return up to so many of both, in the order of their inodes."""
        return self._many(f"ino IN ({LEAVING}) ORDER BY ino LIMIT ?", (most,))

    def is_leaving(self) -> bool:
        """Tell whether there are any."""
        sql = f"SELECT 1 FROM {_REMOVED} UNION ALL SELECT 1 FROM {_TAKEN_OFF} LIMIT 1"
        return self._db.execute(sql).fetchone() is not None

    def are_leaving(self, inos: Iterable[Ino]) -> set[Ino]:
        """Return those of some nodes that are among them; 2 µs each."""
        text = msgspec.json.encode(list(inos)).decode()
        gone = "(parent IS NULL OR (local_only AND moved))"
        rows = self._db.execute(
            "SELECT ino FROM nodes WHERE ino IN (SELECT value FROM json_each(?))"
            f" AND dirty AND s_parent IS NOT NULL AND NOT meant AND {gone}",
            (text,),
        )
        return {Ino(ino) for (ino,) in rows}

    def _one(self, where: str, parameters: tuple[Any, ...]) -> Node | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM nodes WHERE {where}", parameters).fetchone()
        return None if row is None else Node(*row)

    def _many(self, where: str, parameters: tuple[Any, ...]) -> list[Node]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM nodes WHERE {where}", parameters)
        return [Node(*row) for row in rows]

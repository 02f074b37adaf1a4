"""What of the tree has still to reach the server: which changes, how many bytes, and what is removed there."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cloudfs.store.records import Node
from cloudfs.store.rows import COLUMNS, Rows
from cloudfs.types import Ino

__all__ = ["LEAVING", "Outstanding"]

_REMOVED = "nodes INDEXED BY nodes_removed WHERE parent IS NULL AND s_parent IS NOT NULL AND NOT meant"
_TAKEN_OFF = "nodes INDEXED BY nodes_leaving WHERE moved AND parent IS NOT NULL AND local_only AND NOT meant"
LEAVING = f"SELECT ino FROM {_REMOVED} UNION ALL SELECT ino FROM {_TAKEN_OFF}"
"""Finds the nodes whose deletion here was not answered for."""


class Outstanding(Rows):
    """The rows of `nodes` seen so; a part of `Nodes`."""

    def dirty(self) -> list[Node]:
        """Return every node with work for the server, oldest change first."""
        return self._many("dirty ORDER BY ctime_ns", ())

    def dirty_after(self, ino: Ino, count: int) -> list[Node]:
        """Return up to so many nodes with work for the server, in the order of their inodes, from beyond `ino` on."""
        return self._many("dirty AND ino > ? ORDER BY ino LIMIT ?", (ino, count))

    def busy_folders(self) -> set[Ino]:
        """Return the folders with work for the server below them, here or there; 0.1 µs per dirty node."""
        shown = "SELECT DISTINCT parent FROM nodes INDEXED BY nodes_busy WHERE dirty AND parent IS NOT NULL"
        there = "SELECT DISTINCT s_parent FROM nodes INDEXED BY nodes_busy_there WHERE dirty AND s_parent IS NOT NULL"
        return self._folders_above(shown, "parent") | self._folders_above(there, "s_parent")

    def has_work_in(self, folder: Ino) -> bool:
        """Tell whether anything that the mount shows in a folder has work for the server."""
        sql = "SELECT 1 FROM nodes INDEXED BY nodes_busy WHERE dirty AND parent = ? LIMIT 1"
        return self._db.execute(sql, (folder,)).fetchone() is not None

    def left_folders(self) -> set[Ino]:
        """Return the folders that something shown elsewhere has yet to leave on the server; 0.1 µs for each such."""
        elsewhere = (
            "SELECT DISTINCT s_parent FROM nodes INDEXED BY nodes_leaving WHERE moved AND parent IS NOT NULL"
            " AND NOT (local_only AND parent = s_parent)"
        )
        return self._folders_above(elsewhere, "s_parent")

    def is_shown_in_part(self, folder: Ino) -> bool:
        """Tell whether the mount shows anything elsewhere that the server has in a folder which was removed here.

        0.2 µs for each node in it, where anything at all has yet to leave its place on the server.
        """
        elsewhere = "nodes INDEXED BY nodes_leaving WHERE moved AND parent IS NOT NULL"
        if self._db.execute(f"SELECT 1 FROM {elsewhere} LIMIT 1").fetchone() is None:
            return False
        sql = (
            "WITH RECURSIVE there(ino) AS (VALUES (?) UNION SELECT nodes.ino FROM there"
            " CROSS JOIN nodes INDEXED BY nodes_moved ON s_parent = there.ino WHERE moved AND folder)"
            f" SELECT 1 FROM there WHERE EXISTS (SELECT 1 FROM {elsewhere} AND s_parent = there.ino) LIMIT 1"
        )
        return self._db.execute(sql, (folder,)).fetchone() is not None

    def _folders_above(self, nearest: str, parent: str) -> set[Ino]:
        rows = self._db.execute(
            f"WITH RECURSIVE up(ino) AS (SELECT * FROM ({nearest}) WHERE {parent} UNION"
            f" SELECT {parent} FROM nodes JOIN up USING (ino) WHERE {parent}) SELECT ino FROM up"
        )
        return {ino for (ino,) in rows}

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
        rows = self._db.execute(f"SELECT {COLUMNS} FROM {_TAKEN_OFF}")
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

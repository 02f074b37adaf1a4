"""What people said about keeping contents here: a few rows, each about a node and all below it."""

from __future__ import annotations

from collections.abc import Iterator

from cloudfs.store.db import Database
from cloudfs.store.records import Link
from cloudfs.types import Ino, Pin

__all__ = ["Pins"]


class Pins:
    """The table `pins`. Rows belong to inodes, so they follow every rename; decisions are made elsewhere."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def any(self) -> bool:
        """Tell whether anything was said at all; 3 µs."""
        return self._db.execute("SELECT 1 FROM pins LIMIT 1").fetchone() is not None

    def get(self, ino: Ino) -> Pin | None:
        """Return what was said about this very node."""
        row = self._db.execute("SELECT keep FROM pins WHERE ino = ?", (ino,)).fetchone()
        return None if row is None else _pin(row[0])

    def all(self) -> dict[Ino, Pin]:
        """Return all that was said, by inode."""
        rows = self._db.execute("SELECT ino, keep FROM pins ORDER BY ino")
        return {Ino(ino): _pin(keep) for ino, keep in rows}

    def put(self, ino: Ino, pin: Pin | None) -> None:
        """Say something about a node; None: nothing any more."""
        if pin is None:
            self._db.execute("DELETE FROM pins WHERE ino = ?", (ino,))
        else:
            self._db.execute("INSERT OR REPLACE INTO pins VALUES (?, ?)", (ino, int(pin is Pin.ALWAYS_LOCAL)))

    def hand_on(self, ino: Ino, successor: Ino) -> None:
        """Another node stands for what was meant, unless something was said about that one itself."""
        self._db.execute("UPDATE OR IGNORE pins SET ino = ? WHERE ino = ?", (successor, ino))

    def share(self, ino: Ino, other: Ino) -> None:
        """What was said about a node holds for another one, too."""
        self._db.execute("INSERT OR IGNORE INTO pins SELECT ?, keep FROM pins WHERE ino = ?", (other, ino))

    def forget_gone(self) -> None:
        """Forget what was said about nodes that are gone. At start only: a node may vanish and be found again."""
        self._db.execute("DELETE FROM pins WHERE ino NOT IN (SELECT ino FROM nodes)")

    def links(self, ino: Ino) -> Iterator[Link]:
        """Give a node and the folders above it in the mount, nearest first; 25 µs at depth 5."""
        rows = self._db.execute(
            "WITH RECURSIVE up(ino, parent, name, height) AS ("
            " SELECT ino, parent, name, 0 FROM nodes WHERE ino = ?"
            " UNION ALL SELECT nodes.ino, nodes.parent, nodes.name, height + 1"
            "  FROM up JOIN nodes ON nodes.ino = up.parent)"
            " SELECT up.ino, name, keep FROM up LEFT JOIN pins USING (ino) ORDER BY height",
            (ino,),
        )
        return (Link(Ino(at), name, None if keep is None else _pin(keep)) for at, name, keep in rows)


def _pin(keep: int) -> Pin:
    return Pin.ALWAYS_LOCAL if keep else Pin.ONLINE_ONLY

"""How much of the server's tree is known: which folders were listed, and how many nodes there are in them."""

from __future__ import annotations

from collections.abc import Sequence

from cloudfs.store.rows import Rows
from cloudfs.types import Ino

__all__ = ["Listed"]


class Listed(Rows):
    """The rows of `nodes` seen so; a part of `Nodes`."""

    def listed_folders(self) -> list[Ino]:
        """Return the folders of the server whose members are known, in the order of their inodes."""
        sql = "SELECT ino FROM nodes WHERE folder AND s_parent IS NOT NULL AND listed_at IS NOT NULL ORDER BY ino"
        return [Ino(ino) for (ino,) in self._db.execute(sql)]

    def stale_folders(self) -> list[Ino]:
        """Return the known folders that hold something on the server that was not seen, by inode."""
        rows = self._db.execute(
            "SELECT ino FROM nodes INDEXED BY nodes_stale"
            " WHERE folder AND parent IS NOT NULL AND s_parent IS NOT NULL"
            " AND listed_at IS NOT NULL AND s_etag IS NOT listed_etag"
        )
        return [Ino(ino) for (ino,) in rows]

    def is_seen_whole(self, ino: Ino) -> bool:
        """Tell whether a folder and all above it were listed as they last were heard to be; 22 µs at depth 5."""
        (gaps,) = self._db.execute(
            "WITH RECURSIVE up(ino) AS (VALUES (?)"
            " UNION ALL SELECT s_parent FROM nodes JOIN up USING (ino) WHERE s_parent)"
            " SELECT count(*) FROM up LEFT JOIN nodes USING (ino)"
            " WHERE listed_at IS NULL OR listed_etag IS NULL OR s_etag IS NOT listed_etag",
            (ino,),
        ).fetchone()
        return not gaps

    def is_all_listed(self) -> bool:
        """Tell whether the members of all folders that the mount shows and the server has are known."""
        sql = "SELECT 1 FROM nodes INDEXED BY nodes_unlisted WHERE folder AND s_parent IS NOT NULL"
        sql += " AND parent IS NOT NULL AND NOT ifnull(listed_at, 0) LIMIT 1"
        return self._db.execute(sql).fetchone() is None

    def count_synced(self, most: int) -> int:
        """Count what the server is known to have, the root left out, up to so many; 50 ms for a million."""
        (count,) = self._db.execute(
            "SELECT count(*) - 1 FROM (SELECT 1 FROM nodes WHERE s_parent IS NOT NULL LIMIT ?)", (most + 1,)
        ).fetchone()
        return int(count)

    def count_synced_from(self, ino: Ino, most: int) -> int:
        """Count a node and everything that the server is known to have below it, up to so many; 1 µs each."""
        placed = "parent = ? AND s_parent = parent AND s_name = name"
        return 1 + self._count_below([ino], most - 1, [placed, "moved AND s_parent = ?"])

    def knows_below(self, ino: Ino, *, more_than: int) -> bool:
        """Tell whether the mount shows more nodes than so many in a folder; 1 µs for each of these."""
        return self._count_below([ino], more_than + 1, ["parent = ?"]) > more_than

    def knows_in_folders(self, ino: Ino, *, more_than: int) -> bool:
        """Tell whether more nodes than so many are known in the folders of a folder; 1 µs for each of these."""
        sql = "SELECT ino FROM nodes WHERE parent = ? AND folder AND listed_at IS NOT NULL LIMIT ?"
        listed = [Ino(it) for (it,) in self._db.execute(sql, (ino, more_than + 1))]
        count = len(listed)
        return count + self._count_below(listed, more_than + 1 - count, ["parent = ?"]) > more_than

    def _count_below(self, tops: list[Ino], most: int, members: Sequence[str]) -> int:
        """Count what is in folders, up to so many, where `members` find what is in one.

        Folder by folder: a recursive statement queues all members of a folder before it counts the second of them.
        """
        count, folders = 0, list(tops)
        for folder in folders:
            for where in members:
                sql = f"SELECT ino, folder FROM nodes WHERE {where} LIMIT ?"
                rows = self._db.execute(sql, (folder, most - count)).fetchall()
                count += len(rows)
                folders += [ino for ino, is_folder in rows if is_folder]
            if count >= most:
                break
        return count

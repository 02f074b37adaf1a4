"""The whole store: one database, its tables as small objects that share its transactions."""

from __future__ import annotations

import contextlib
import logging
import time
from array import array
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec
import trio

from cloudfs.errors import PosixError
from cloudfs.store.db import Database
from cloudfs.store.nodes import Nodes
from cloudfs.store.pins import Pins
from cloudfs.store.records import Attempt, Conflict, Node, StagedRow
from cloudfs.types import ContentVersion, Ino, RemoteEntry, RemoteVersion

__all__ = ["Store"]

_log = logging.getLogger(__name__)

_UPKEEP_S = 5.0
_ORIGINS = "origins"
_MOST_ORIGINS = 100
"""The latest are known; each needs its staging file looked at when another one comes."""
_AT_ONCE = 2000
"""So many members of a folder are found without a checkpoint: 1 ms."""


class Store:
    """One account's persistent state. Used from the trio thread only. What is not async has no checkpoint."""

    def __init__(self, path: Path, *, room_bytes: int = 0, key: bytes | None = None) -> None:
        """Open or create the database; arguments and errors as `Database`."""
        self.db = Database(path, room_bytes, key)
        self.nodes = Nodes(self.db)
        self.pins = Pins(self.db)
        self.root_seen_there_s: float | None = None
        """When the root's ETag was last heard to be that of its last whole listing, in Unix s by the server's clock."""
        (self.store_id,) = self.db.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All or nothing; the body must not await."""
        return self.db.transaction()

    def when_committed(self, call: Callable[[], None]) -> None:
        """Call once the present transaction is committed, and not where it fails; at once outside of one."""
        self.db.when_committed(call)

    def seen_there_s(self, folder: Ino) -> float | None:
        """Return when the server was last seen to have in a folder what is known of it, by its own clock (Unix s).

        It was listed then, or the root's ETag was, which tells of everything below it; not of a mounted storage, which
        others may write to behind the server's back. None: nobody knows.
        """
        node = self.nodes.get(folder)
        if node is None:
            return None
        of_all = self.root_seen_there_s
        if of_all is None or "M" in (node.permissions or "") or not self.nodes.is_seen_whole(folder):
            return node.listed_there
        return max(of_all, node.listed_there or 0.0)

    async def make_durable(self) -> None:
        """Return when everything committed so far survives a power cut."""
        await self.db.make_durable()

    async def run(self) -> None:
        """Keep the WAL short; for ever, in the owner's nursery."""
        while True:
            await trio.sleep(_UPKEEP_S)
            self.db.room.take()
            try:
                await self.db.checkpoint_if_large()
            except PosixError as error:  # a full disk: it grows a little further, and the next try may do it
                _log.warning("%s", error)

    def close(self) -> None:
        """Close the database."""
        self.db.close()

    # The machine's life

    def boot_id(self) -> str | None:
        """Return the kernel's boot id under which the database was last opened; None: not known."""
        row = self.db.execute("SELECT value FROM meta WHERE key = 'boot'").fetchone()
        return None if row is None else str(row[0])

    def set_boot_id(self, boot_id: str) -> None:
        """From now on what is not on the disk yet belongs to this life of the machine."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (boot_id,))

    # Very many rows

    async def child_inos(self, folder: Ino) -> array[int]:
        """Return the inodes that the mount shows in a folder, by name, as they are at one moment; 8 bytes each."""
        members = self.nodes.child_inos(folder, _AT_ONCE)
        if len(members) < _AT_ONCE:
            return members
        members = array("q")
        with self.db.snapshot() as rows:
            for page in rows.child_inos(folder):
                members.extend(page)
                await trio.lowlevel.checkpoint()
        return members

    # Notes

    def note(self, key: str) -> str | None:
        """Return what was noted under a key."""
        row = self.db.execute("SELECT value FROM meta WHERE key = 'note_' || ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put_note(self, key: str, text: str | None) -> None:
        """Note something small that has to survive a restart; None forgets it."""
        if text is None:
            self.db.execute("DELETE FROM meta WHERE key = 'note_' || ?", (key,))
        else:
            self.db.execute("INSERT OR REPLACE INTO meta VALUES ('note_' || ?, ?)", (key, text))

    def note_origin(self, node: Node) -> None:
        """An edited file is about to become new for the server: note the file id of what it was edited from.

        What of that is not here may still be found there. Forgotten with the staging files.
        """
        if node.folder or node.s_file_id is None or not self.staged_of(node.ino):
            return
        known = {ino: it for ino, it in self._origins().items() if self.staged_of(ino)}
        origins = {**dict(list(known.items())[1 - _MOST_ORIGINS :]), node.ino: node.s_file_id}
        self.put_note(_ORIGINS, msgspec.json.encode(origins).decode())

    def origin(self, ino: Ino) -> str | None:
        """Return the file id of what a file was edited from that is new for the server now."""
        return self._origins().get(ino)

    def _origins(self) -> dict[Ino, str]:
        text = self.note(_ORIGINS)
        return {} if text is None else msgspec.json.decode(text, type=dict[Ino, str])

    # Staging files

    def staged(self, ino: Ino, version: ContentVersion) -> StagedRow | None:
        """Return what a staging file holds, None when there is none."""
        row = self.db.execute("SELECT * FROM staged WHERE ino = ? AND version = ?", (ino, version)).fetchone()
        return None if row is None else _staged(row)

    def all_staged(self) -> list[StagedRow]:
        """Return every staging file."""
        return [_staged(row) for row in self.db.execute("SELECT * FROM staged")]

    def staged_after(self, ino: Ino, version: int, count: int) -> list[StagedRow]:
        """Return up to so many staging files, in the order of inodes and versions, from beyond one on; 5 µs each."""
        rows = self.db.execute(
            "SELECT * FROM staged WHERE (ino, version) > (?, ?) ORDER BY ino, version LIMIT ?",
            (ino, version, count),
        )
        return [_staged(row) for row in rows]

    def staged_of(self, ino: Ino) -> list[StagedRow]:
        """Return the staging files of one node, newest first."""
        rows = self.db.execute("SELECT * FROM staged WHERE ino = ? ORDER BY version DESC", (ino,))
        return [_staged(row) for row in rows]

    def sent_since(self, node: Node, mark: ContentVersion) -> bool:
        """Tell whether the server has all that a file held here when `mark` was the last version.

        Its bytes there were begun later, and no staging file from before is left.
        """
        return node.sent_since(mark) and all(row.version > mark for row in self.staged_of(node.ino))

    def based_on_server_here(self) -> list[Ino]:
        """Return the files that never go up and are made from a version that the server had; 1 µs per staging file."""
        rows = self.db.execute(
            "SELECT DISTINCT ino FROM staged JOIN nodes USING (ino) WHERE base_remote IS NOT NULL AND base_limit > 0"
            " AND local_only AND parent IS NOT NULL AND s_parent IS NULL"
        )
        return [Ino(ino) for (ino,) in rows]

    def put_staged(self, file: StagedRow) -> None:
        """Insert or replace what is known of a staging file."""
        base_remote = None if file.base_remote is None else msgspec.json.encode(file.base_remote)
        self.db.execute(
            "INSERT OR REPLACE INTO staged VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                file.ino,
                file.version,
                file.size,
                file.present,
                file.base,
                file.base_limit,
                base_remote,
                file.checksum,
                file.safe_size,
                file.safe_present,
                file.safe_limit,
                file.base_seen,
            ),
        )

    def delete_staged(self, ino: Ino, version: ContentVersion) -> None:
        """Forget a staging file whose bytes nobody needs any more."""
        self.db.execute("DELETE FROM staged WHERE ino = ? AND version = ?", (ino, version))

    # Remote observations

    def observe(self, ino: Ino, entry: RemoteEntry | None) -> None:
        """Keep what the server was seen to have (None: nothing) until it can be taken over."""
        blob = None if entry is None else msgspec.json.encode(entry)
        self.db.execute("INSERT OR REPLACE INTO observed VALUES (?, ?)", (ino, blob))

    def is_observed(self, ino: Ino) -> bool:
        """Tell whether the server is known to have something else than the synced view says."""
        return self.db.execute("SELECT 1 FROM observed WHERE ino = ?", (ino,)).fetchone() is not None

    def observed_of_clean(self) -> list[tuple[Ino, RemoteEntry]]:
        """Return the files with no content for the server that it was seen to have another content of, and that.

        Also such that were renamed here, or got another time.
        """
        rows = self.db.execute(
            "SELECT ino, entry FROM observed JOIN nodes USING (ino)"
            " WHERE version IS s_version AND NOT folder AND NOT local_only AND parent IS NOT NULL"
            " AND entry IS NOT NULL ORDER BY ino"
        )
        return [(Ino(ino), msgspec.json.decode(entry, type=RemoteEntry)) for ino, entry in rows]

    def clear_observed_of_clean(self, folder: Ino, *, but: Collection[Ino]) -> None:
        """Forget the same of the files in one folder of the server, all `but` some."""
        self.db.execute(
            "DELETE FROM observed WHERE ino IN (SELECT ino FROM nodes WHERE s_parent = ? AND version IS s_version)"
            " AND ino NOT IN (SELECT value FROM json_each(?))",
            (folder, msgspec.json.encode(list(but)).decode()),
        )

    def clear_observed(self, ino: Ino) -> None:
        """The observation was dealt with."""
        self.db.execute("DELETE FROM observed WHERE ino = ?", (ino,))

    def hand_on_observed(self, ino: Ino, successor: Ino) -> None:
        """Another node stands for the place that it is about."""
        self.db.execute("UPDATE OR REPLACE observed SET ino = ? WHERE ino = ?", (successor, ino))

    def look_again(self, ino: Ino) -> None:
        """A node is clean again without having been sent: have its folder listed, if that told of it meanwhile."""
        node = self.nodes.get(ino)
        if node is not None and node.s_parent is not None and self.is_observed(ino):
            self.nodes.update(node.s_parent, listed_etag=None)

    # Attempted uploads

    def begin_attempt(self, attempt: Attempt) -> None:
        """Remember an upload before its first byte is sent; of one that is tried again, when it was tried first."""
        self.db.execute(
            "INSERT INTO attempts (ino, version, size, checksum, began_s, ended_s) VALUES (?, ?, ?, ?, ?, ?)"
            # What went in bulk, or before an update, has no time: nothing it left could be a part, from now on it can.
            " ON CONFLICT DO UPDATE SET ended_s = 0, began_s = iif(began_s = 0, excluded.began_s, began_s)",
            msgspec.structs.astuple(attempt),
        )

    def end_try(self, attempt: Attempt, ended_s: float | None) -> None:
        """Remember when the last try ended that may have left a part; None: none has."""
        self.db.execute(
            "UPDATE attempts SET ended_s = coalesce(?, began_s) WHERE (ino, version, checksum) = (?, ?, ?)",
            (ended_s, attempt.ino, attempt.version, attempt.checksum),
        )

    def attempts(self, ino: Ino) -> list[Attempt]:
        """Return the uploads of a node whose outcome is unknown."""
        sql = "SELECT ino, version, size, checksum, began_s, ended_s FROM attempts WHERE ino = ?"
        rows = self.db.execute(sql, (ino,))
        return [Attempt(*row) for row in rows]

    def has_tail_attempt(self, ino: Ino) -> bool:
        """Tell whether one of them was of a tail alone, whose base is on the server (`content.tails`)."""
        row = self.db.execute(
            "SELECT 1 FROM attempts WHERE ino = ? AND checksum GLOB 'TAIL-*' LIMIT 1", (ino,)
        ).fetchone()
        return row is not None

    def end_attempts(self, ino: Ino) -> None:
        """The outcome is known."""
        self.db.execute("DELETE FROM attempts WHERE ino = ?", (ino,))

    def end_retimings(self, ino: Ino) -> None:
        """The outcome of those that were to set the time alone is known."""
        self.db.execute("DELETE FROM attempts WHERE ino = ? AND checksum GLOB 'TIME-*'", (ino,))

    def hand_on_attempts(self, ino: Ino, successor: Ino) -> None:
        """Another node stands for the place that they were sent to."""
        self.db.execute("UPDATE OR REPLACE attempts SET ino = ? WHERE ino = ?", (successor, ino))

    # Conflicts

    def add_conflict(self, ours: Ino, theirs: Ino) -> None:
        """Record that two versions of one file now stand beside each other."""
        self.db.execute("INSERT OR REPLACE INTO conflicts VALUES (?, ?, ?)", (ours, theirs, time.time()))

    def conflicts(self) -> list[Conflict]:
        """Return the conflicts whose copy still exists, dropping the others."""
        self.db.execute(
            "DELETE FROM conflicts WHERE NOT EXISTS"
            " (SELECT 1 FROM nodes WHERE nodes.ino = conflicts.ours AND parent IS NOT NULL)"
        )
        return [Conflict(*row) for row in self.db.execute("SELECT ours, theirs, found_at FROM conflicts")]

    def end_conflict(self, ours: Ino) -> None:
        """Somebody has decided: the two are ordinary files from now on."""
        self.db.execute("DELETE FROM conflicts WHERE ours = ?", (ours,))

    def hand_on_conflict(self, replaced: Ino, successor: Ino) -> None:
        """A conflicted copy was saved by renaming over it: what took its place is the copy now."""
        self.db.execute("UPDATE OR REPLACE conflicts SET ours = ? WHERE ours = ?", (successor, replaced))


def _staged(row: tuple[Any, ...]) -> StagedRow:
    ino, version, size, present, base, limit, remote, *rest = row
    base_remote = None if remote is None else msgspec.json.decode(remote, type=RemoteVersion)
    return StagedRow(ino, version, size, present, base, limit, base_remote, *rest)

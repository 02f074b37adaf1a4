"""The database's tables, every column explained, and how an older file becomes a current one.

What is *not* here matters as much: there is no queue of operations. Pending work is derived from the
nodes whose local and synced views differ (`dirty`), so a crash leaves nothing to repair in a queue.
"""

from __future__ import annotations

import secrets
import sqlite3
import time

from cloudfs.errors import ExitCode, UserError

__all__ = ["SCHEMA_VERSION", "VERSIONS_PER_START", "begin_versions", "create_or_migrate"]

_STEPS: list[str] = [
    # 2: what is in doubt (t_parent, t_name).
    """
    DROP INDEX nodes_dirty;
    ALTER TABLE nodes DROP COLUMN dirty;
    ALTER TABLE nodes ADD COLUMN t_parent INTEGER;
    ALTER TABLE nodes ADD COLUMN t_name TEXT;
    ALTER TABLE nodes ADD COLUMN dirty INTEGER GENERATED ALWAYS AS (
        CASE WHEN t_parent IS NOT NULL THEN 1
             WHEN local_only OR parent IS NULL THEN s_parent IS NOT NULL
             ELSE s_parent IS NULL OR parent <> s_parent OR name <> s_name
                  OR version <> s_version OR mtime_ns <> s_mtime_ns END) VIRTUAL;
    CREATE INDEX nodes_dirty ON nodes(ino) WHERE dirty;
    CREATE INDEX nodes_tried ON nodes(t_parent, t_name) WHERE t_parent IS NOT NULL;
    """,
    # 3: what of a staging file is on the disk (safe_size, safe_present, safe_limit).
    """
    ALTER TABLE staged ADD COLUMN safe_size INTEGER;
    ALTER TABLE staged ADD COLUMN safe_present BLOB;
    ALTER TABLE staged ADD COLUMN safe_limit INTEGER;
    """,
    # 4: one version may have been sent with several contents, one after the other (attempts' key); t_looked.
    """
    ALTER TABLE nodes ADD COLUMN t_looked INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE attempts_4 (
        ino         INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        checksum    TEXT NOT NULL,
        size        INTEGER NOT NULL,
        PRIMARY KEY (ino, version, checksum)
    ) WITHOUT ROWID;
    INSERT INTO attempts_4 SELECT ino, version, checksum, size FROM attempts;
    DROP TABLE attempts;
    ALTER TABLE attempts_4 RENAME TO attempts;
    """,
    # 5: which state of a folder was seen whole (listed_etag).
    """
    ALTER TABLE nodes ADD COLUMN listed_etag TEXT;
    CREATE INDEX nodes_stale ON nodes(ino) WHERE folder AND parent IS NOT NULL AND s_parent IS NOT NULL
        AND listed_at IS NOT NULL AND s_etag IS NOT listed_etag;
    """,
    # 6: how the server spells a name (s_spelling).
    """
    ALTER TABLE nodes ADD COLUMN s_spelling TEXT;
    CREATE INDEX nodes_spelled ON nodes(ino) WHERE s_spelling IS NOT NULL;
    """,
    # 7: what is always kept here (pins).
    """
    CREATE TABLE pins (
        ino         INTEGER PRIMARY KEY,
        keep        INTEGER NOT NULL
    );
    """,
    # 8: what is added up and looked for among very many nodes has indexes of its own.
    """
    CREATE INDEX nodes_to_send ON nodes(size)
        WHERE dirty AND NOT folder AND NOT local_only AND parent IS NOT NULL AND version IS NOT s_version;
    CREATE INDEX nodes_busy ON nodes(parent) WHERE dirty AND parent IS NOT NULL;
    CREATE INDEX nodes_busy_there ON nodes(s_parent) WHERE dirty AND s_parent IS NOT NULL;
    CREATE INDEX nodes_leaving ON nodes(s_parent, local_only, parent) WHERE moved AND parent IS NOT NULL;
    CREATE INDEX nodes_removed ON nodes(ctime_ns) WHERE parent IS NULL AND s_parent IS NOT NULL;
    CREATE INDEX nodes_unlisted ON nodes(ino)
        WHERE folder AND s_parent IS NOT NULL AND parent IS NOT NULL AND NOT ifnull(listed_at, 0);
    """,
    # 9: when, by the server's clock, a version was last seen there (listed_there, base_seen).
    """
    ALTER TABLE nodes ADD COLUMN listed_there REAL;
    ALTER TABLE staged ADD COLUMN base_seen REAL;
    """,
    # 10: which deletions were answered for (meant), by no clock.
    """
    ALTER TABLE nodes ADD COLUMN meant INTEGER NOT NULL DEFAULT 0;
    DROP INDEX nodes_removed;
    CREATE INDEX nodes_removed ON nodes(ino) WHERE parent IS NULL AND s_parent IS NOT NULL AND NOT meant;
    """,
    # 11: since when an upload may have been under way (began_s).
    """
    ALTER TABLE attempts ADD COLUMN began_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN ended_s REAL NOT NULL DEFAULT 0;
    """,
]
"""SQL that leads from format n to n + 1, the first from 1 to 2. INVARIANT: only ever appended to, and after its step
an older database has the very columns that `_TABLES` gives a new one (a column goes last in its table)."""

SCHEMA_VERSION = 1 + len(_STEPS)

VERSIONS_PER_START = 1 << 32
"""Cannot be used up: at 10,000 draws a second it lasts five days, and the WAL is checkpointed every few thousand."""

_TABLES = """
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    -- 'store_id': random, made with the file; part of every block's key, so that blocks of a lost database
    --             can never be taken for blocks of its successor.
    -- 'sequence': last number drawn for a content version. A power cut may take back the last commits, draws among
    --             them, while cached blocks that carry the drawn numbers stay. So each start begins a range of
    --             2^32 numbers of its own, durably, before its first draw (`begin_versions`): what is drawn again
    --             after a cut is never a number that was drawn before it. 2^31 starts fit into SQLite's integers.
    -- 'boot':     the kernel's boot id when the database was last opened: another one means that a power cut may lie
    --             between. Missing after a migration.
    -- 'log':      the boot id under which the WAL was begun anew: all that is in it was written in that life of the
    --             machine, and no power cut has left anything in it (`logtail`). Missing: not known.
    -- 'note_NAME': something small that a part of the program keeps across restarts (`Store.note`).
    value NOT NULL
) WITHOUT ROWID;

CREATE TABLE nodes (
    -- Identity for ever, also the kernel's inode number; AUTOINCREMENT because it is never reused. 1 is the root.
    ino         INTEGER PRIMARY KEY AUTOINCREMENT,

    -- LOCAL VIEW: what the mount shows.
    -- Folder that holds the node; 0 for the root; NULL once it is unlinked (a tombstone if it was synced).
    parent      INTEGER,
    -- NFC text, unique in its folder; the last name where parent is NULL.
    name        TEXT NOT NULL,
    -- 1 folder, 0 file; a node never changes its kind.
    folder      INTEGER NOT NULL,
    -- Bytes; 0 for folders.
    size        INTEGER NOT NULL DEFAULT 0,
    -- Unix nanoseconds.
    mtime_ns    INTEGER NOT NULL,
    ctime_ns    INTEGER NOT NULL,
    -- Twelve low mode bits of a chmod, kept here only; NULL = by the server's permissions.
    mode        INTEGER,
    -- Content version of the bytes the mount shows (files); a row in `staged` holds it where it differs from s_version.
    version     INTEGER NOT NULL DEFAULT 0,
    -- 1 when its name, or a folder above it, says that it never goes up.
    local_only  INTEGER NOT NULL DEFAULT 0,

    -- SYNCED VIEW: where server and mount last agreed; all NULL for a node the server never had.
    s_parent    INTEGER,
    s_name      TEXT,
    -- Content version of the server's bytes.
    s_version   INTEGER,
    -- The local mtime that the server was told, or that was taken over from it.
    s_mtime_ns  INTEGER,
    -- The server's version: ETag (normalised, '' = none), size, Last-Modified (Unix s), checksum (NULL = none).
    s_etag      TEXT,
    s_size      INTEGER,
    s_modified_s INTEGER,
    s_checksum  TEXT,
    -- Nextcloud's oc:fileid; NULL on plain servers.
    s_file_id   TEXT,
    -- Nextcloud's oc:permissions; NULL = everything is allowed.
    permissions TEXT,
    -- 1 for the root of a received share or external storage: deleting it there means leaving it.
    mount_root  INTEGER NOT NULL DEFAULT 0,
    -- Folders: wall clock (Unix s) of the last whole listing; NULL = members unknown. A folder made here is listed.
    listed_at   REAL,

    -- DERIVED, so that it cannot contradict the views.
    -- The server has it in another place than the mount.
    moved INTEGER GENERATED ALWAYS AS (
        s_parent IS NOT NULL AND (parent IS NOT s_parent OR name <> s_name)) VIRTUAL,

    -- TRIED: where a request of ours creates the node on the server or moves it to, from before it is sent until its
    -- outcome is known; NULL = nothing is in doubt. A node in doubt is kept, whatever becomes of its names. The place
    -- that it has on the server: it is being removed there, while the mount goes on showing it.
    t_parent    INTEGER,
    t_name      TEXT,

    -- DERIVED: work for the server. Something differs and the node is not merely local, or something is in doubt.
    dirty INTEGER GENERATED ALWAYS AS (
        CASE WHEN t_parent IS NOT NULL THEN 1
             WHEN local_only OR parent IS NULL THEN s_parent IS NOT NULL
             ELSE s_parent IS NULL OR parent <> s_parent OR name <> s_name
                  OR version <> s_version OR mtime_ns <> s_mtime_ns END) VIRTUAL,

    -- 1 when nothing was found where it was tried, and so the same may be tried again. The doubt goes on: what has gone
    -- on to another place before that has to be looked for once more.
    t_looked    INTEGER NOT NULL DEFAULT 0,
    -- Folders: the ETag that the server named with the last whole listing, as it was before the members were read;
    -- NULL = not everything in that listing could be taken over. Where s_etag, the last that was heard, is another
    -- one, there is something in the folder, or below it, that was not seen.
    listed_etag TEXT,
    -- How the server spells s_name, where that is another form than NFC; NULL = as s_name. A server that compares bytes
    -- knows the name by that spelling alone.
    s_spelling  TEXT,
    -- Folders: what the server's clock said (Unix s) when the last whole listing was asked for; NULL = not known. To be
    -- compared with the server's own times, whatever becomes of our clock.
    listed_there REAL,
    -- 1 once somebody has said that its deletion here is meant for the server, too; 0 again with the next place that
    -- the mount gives it: that is deleted anew.
    meant       INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX nodes_by_name ON nodes(parent, name) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX nodes_moved ON nodes(s_parent, s_name) WHERE moved;
-- Tombstones, and unlinked nodes that somebody still has open.
CREATE INDEX nodes_unlinked ON nodes(ino) WHERE parent IS NULL;
CREATE INDEX nodes_dirty ON nodes(ino) WHERE dirty;
CREATE INDEX nodes_by_file_id ON nodes(s_file_id) WHERE s_file_id IS NOT NULL;
CREATE INDEX nodes_tried ON nodes(t_parent, t_name) WHERE t_parent IS NOT NULL;
-- Known folders in which the server has something that was not seen.
CREATE INDEX nodes_stale ON nodes(ino) WHERE folder AND parent IS NOT NULL AND s_parent IS NOT NULL
        AND listed_at IS NOT NULL AND s_etag IS NOT listed_etag;
CREATE INDEX nodes_spelled ON nodes(ino) WHERE s_spelling IS NOT NULL;
-- Of a hundred thousand dirty nodes: how many bytes are to be sent, which folders they lie in, here and on the server,
-- what is shown elsewhere than the server has it, what was removed and not answered for.
CREATE INDEX nodes_to_send ON nodes(size)
        WHERE dirty AND NOT folder AND NOT local_only AND parent IS NOT NULL AND version IS NOT s_version;
CREATE INDEX nodes_busy ON nodes(parent) WHERE dirty AND parent IS NOT NULL;
CREATE INDEX nodes_busy_there ON nodes(s_parent) WHERE dirty AND s_parent IS NOT NULL;
CREATE INDEX nodes_leaving ON nodes(s_parent, local_only, parent) WHERE moved AND parent IS NOT NULL;
CREATE INDEX nodes_removed ON nodes(ino) WHERE parent IS NULL AND s_parent IS NOT NULL AND NOT meant;
-- Folders of the server that were never seen into, or not since they were made here.
CREATE INDEX nodes_unlisted ON nodes(ino)
        WHERE folder AND s_parent IS NOT NULL AND parent IS NOT NULL AND NOT ifnull(listed_at, 0);

CREATE TABLE staged (
    -- One staging file: content version `version` of node `ino`.
    ino         INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    -- Bytes of the file at this version.
    size        INTEGER NOT NULL,
    -- Packed RangeSet (ranges.py) of the bytes that the staging file holds.
    present     BLOB NOT NULL,
    -- Bytes below base_limit that are not present are those of content version `base`; above it they are zero.
    base        INTEGER NOT NULL,
    base_limit  INTEGER NOT NULL,
    -- The server's name of `base` (msgspec JSON of RemoteVersion); NULL where `base` is another staged version or 0.
    base_remote BLOB,
    -- SHA1:hex of the whole content, once it is complete and no longer written; proof that an upload was ours.
    checksum    TEXT,
    -- size, present and base_limit as they were when the staging file was last known to be on the disk; NULL = never.
    -- After a power cut only these are believed: a row may have reached the disk while its bytes did not.
    safe_size    INTEGER,
    safe_present BLOB,
    safe_limit   INTEGER,
    -- Where `base` is the server's: `listed_there` of the folder that it was in when this was begun; NULL =
    -- nobody knows that it was listed.
    base_seen    REAL,
    PRIMARY KEY (ino, version)
) WITHOUT ROWID;

CREATE TABLE observed (
    -- REMOTE OBSERVATION: what a listing said of a node whose local changes did not allow to take it over.
    ino         INTEGER PRIMARY KEY,
    -- msgspec JSON of RemoteEntry; NULL = the server has it no longer.
    entry       BLOB
);

CREATE TABLE attempts (
    -- An upload whose outcome is not known yet, written before it is sent. If the server is then found to have
    -- exactly this, it was ours and no conflict, even if the file was written again since. A version that was sent in
    -- vain is written further, and sent again with another content: all of them are kept until the outcome is known.
    -- `checksum` is SHA1:hex of the whole content, or the proof of a tail (content/tails.py), as in `staged`; or that
    -- of a time that was set alone (sync/evidence.py).
    ino         INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    checksum    TEXT NOT NULL,
    -- After the key's columns: SQLite (3.40.1) calls a table without rowids damaged that has one in between.
    size        INTEGER NOT NULL,
    -- When the first try began: Unix s by our clock; 0 = not known, or nothing of which a part may arrive. What a cut
    -- try left is no older.
    began_s     REAL NOT NULL DEFAULT 0,
    -- When the last try ended that may have left a part; 0 = not known, as where the process died in one.
    ended_s     REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (ino, version, checksum)
) WITHOUT ROWID;

CREATE TABLE conflicts (
    -- Our version, under its new name.
    ours        INTEGER PRIMARY KEY,
    -- The server's version, which kept the name.
    theirs      INTEGER NOT NULL,
    -- Unix s.
    found_at    REAL NOT NULL
);

CREATE TABLE pins (
    -- What a person said about a node, and about all below it that nothing nearer was said about. Kept while the node
    -- is: also while it is unlinked, as another one may take its place.
    ino         INTEGER PRIMARY KEY,
    -- 1: the bytes are always here; 0: they stay on the server until they are read.
    keep        INTEGER NOT NULL
);
"""


def create_or_migrate(db: sqlite3.Connection) -> None:
    """Bring a connected database to SCHEMA_VERSION in one transaction; an older one keeps all that it holds.

    Raises sqlite3.DatabaseError for a file that is no database, and UserError for one of a newer cloudfs: that
    one is not damaged, and this cloudfs must not touch it.
    """
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found == SCHEMA_VERSION:
        return
    if not 0 <= found < SCHEMA_VERSION:
        raise UserError(
            f"The database of this account has format {found}, and this cloudfs knows up to {SCHEMA_VERSION}.",
            hint="Use the newer cloudfs that it was used with before.",
            code=ExitCode.BAD_CONFIG,
        )
    # executescript would commit first, so statements go one by one inside one transaction.
    db.execute("BEGIN IMMEDIATE")
    if found == 0:
        _create(db)
    for step in _STEPS[found - 1 :] if found else []:
        _run(db, step)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def _create(db: sqlite3.Connection) -> None:
    _run(db, _TABLES)
    db.execute("INSERT INTO meta VALUES ('store_id', ?), ('sequence', 0)", (secrets.token_hex(8),))
    db.execute(
        "INSERT INTO nodes (ino, parent, name, folder, mtime_ns, ctime_ns, s_parent, s_name, s_version, s_mtime_ns)"
        " VALUES (1, 0, '', 1, :now, :now, 0, '', 0, :now)",
        {"now": time.time_ns()},
    )


def _run(db: sqlite3.Connection, script: str) -> None:
    for statement in filter(str.strip, _statements(script)):
        db.execute(statement)


def begin_versions(db: sqlite3.Connection) -> None:
    """Begin a range of content versions that no earlier start can have drawn from; durable when this returns.

    Inode numbers may come again after a power cut. That harms nothing: all that is kept of a content is kept under
    inode and version.
    """
    # FULL: the commit waits for the WAL, and its name in the folder, to be on the disk.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("UPDATE meta SET value = (value / ?1 + 1) * ?1 WHERE key = 'sequence'", (VERSIONS_PER_START,))
    db.execute("PRAGMA synchronous = NORMAL")


def _statements(script: str) -> list[str]:
    lines = [line.partition("--")[0] for line in script.splitlines()]
    return "\n".join(lines).split(";")

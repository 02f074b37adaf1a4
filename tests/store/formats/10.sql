BEGIN TRANSACTION;
CREATE TABLE "attempts" (
        ino         INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        checksum    TEXT NOT NULL,
        size        INTEGER NOT NULL,
        PRIMARY KEY (ino, version, checksum)
    ) WITHOUT ROWID;
INSERT INTO "attempts" VALUES(4,4294967297,'SHA1:00',7);
CREATE TABLE conflicts (
    ours        INTEGER PRIMARY KEY,
    theirs      INTEGER NOT NULL,
    found_at    REAL NOT NULL
);
INSERT INTO "conflicts" VALUES(4,3,1.79553380329998397827e+09);
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('sequence',12884901888);
INSERT INTO "meta" VALUES('store_id','0123456789abcdef');
CREATE TABLE nodes (
    ino         INTEGER PRIMARY KEY AUTOINCREMENT,
    parent      INTEGER,
    name        TEXT NOT NULL,
    folder      INTEGER NOT NULL,
    size        INTEGER NOT NULL DEFAULT 0,
    mtime_ns    INTEGER NOT NULL,
    ctime_ns    INTEGER NOT NULL,
    mode        INTEGER,
    version     INTEGER NOT NULL DEFAULT 0,
    local_only  INTEGER NOT NULL DEFAULT 0,
    s_parent    INTEGER,
    s_name      TEXT,
    s_version   INTEGER,
    s_mtime_ns  INTEGER,
    s_etag      TEXT,
    s_size      INTEGER,
    s_modified_s INTEGER,
    s_checksum  TEXT,
    s_file_id   TEXT,
    permissions TEXT,
    mount_root  INTEGER NOT NULL DEFAULT 0,
    listed_at   REAL,
    moved INTEGER GENERATED ALWAYS AS (
        s_parent IS NOT NULL AND (parent IS NOT s_parent OR name <> s_name)) VIRTUAL
, t_parent INTEGER, t_name TEXT, dirty INTEGER GENERATED ALWAYS AS (
        CASE WHEN t_parent IS NOT NULL THEN 1
             WHEN local_only OR parent IS NULL THEN s_parent IS NOT NULL
             ELSE s_parent IS NULL OR parent <> s_parent OR name <> s_name
                  OR version <> s_version OR mtime_ns <> s_mtime_ns END) VIRTUAL, t_looked INTEGER NOT NULL DEFAULT 0, listed_etag TEXT, s_spelling TEXT, listed_there REAL, meant INTEGER NOT NULL DEFAULT 0);
INSERT INTO "nodes" VALUES(1,0,'',1,0,0,0,NULL,0,0,0,'',0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,0);
INSERT INTO "nodes" VALUES(2,1,'folder',1,0,1,1,NULL,0,0,1,'folder',0,1,'f1',NULL,NULL,NULL,'7','RGDNVCK',0,1.5,NULL,NULL,0,'f1',NULL,NULL,0);
INSERT INTO "nodes" VALUES(3,1,'old',0,3,5,5,NULL,1,0,1,'old',1,5,'e1',3,0,NULL,'8',NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,0);
INSERT INTO "nodes" VALUES(4,1,'new',0,7,6,6,NULL,4294967297,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,0,NULL,NULL,NULL,0);
CREATE TABLE observed (
    ino         INTEGER PRIMARY KEY,
    entry       BLOB
);
INSERT INTO "observed" VALUES(3,X'7B2270617468223A222F6F6C64222C226B696E64223A2266696C65222C2276657273696F6E223A7B2265746167223A226532222C2273697A65223A342C226D6F6469666965645F73223A312C22636865636B73756D223A6E756C6C7D2C2266696C655F6964223A2238222C227065726D697373696F6E73223A6E756C6C2C226D6F756E745F726F6F74223A66616C73652C2271756F74615F66726565223A6E756C6C2C2271756F74615F75736564223A6E756C6C2C2268696464656E5F6D656D62657273223A307D');
CREATE TABLE pins (
        ino         INTEGER PRIMARY KEY,
        keep        INTEGER NOT NULL
    );
INSERT INTO "pins" VALUES(2,1);
CREATE TABLE staged (
    ino         INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    present     BLOB NOT NULL,
    base        INTEGER NOT NULL,
    base_limit  INTEGER NOT NULL,
    base_remote BLOB,
    checksum    TEXT, safe_size INTEGER, safe_present BLOB, safe_limit INTEGER, base_seen REAL,
    PRIMARY KEY (ino, version)
) WITHOUT ROWID;
INSERT INTO "staged" VALUES(4,4294967297,7,X'00000000000000000700000000000000',0,0,NULL,NULL,7,X'00000000000000000700000000000000',0,NULL);
CREATE UNIQUE INDEX nodes_by_name ON nodes(parent, name) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX nodes_moved ON nodes(s_parent, s_name) WHERE moved;
CREATE INDEX nodes_unlinked ON nodes(ino) WHERE parent IS NULL;
CREATE INDEX nodes_by_file_id ON nodes(s_file_id) WHERE s_file_id IS NOT NULL;
CREATE INDEX nodes_dirty ON nodes(ino) WHERE dirty;
CREATE INDEX nodes_tried ON nodes(t_parent, t_name) WHERE t_parent IS NOT NULL;
CREATE INDEX nodes_stale ON nodes(ino) WHERE folder AND parent IS NOT NULL AND s_parent IS NOT NULL
        AND listed_at IS NOT NULL AND s_etag IS NOT listed_etag;
CREATE INDEX nodes_spelled ON nodes(ino) WHERE s_spelling IS NOT NULL;
CREATE INDEX nodes_to_send ON nodes(size)
        WHERE dirty AND NOT folder AND NOT local_only AND parent IS NOT NULL AND version IS NOT s_version;
CREATE INDEX nodes_busy ON nodes(parent) WHERE dirty AND parent IS NOT NULL;
CREATE INDEX nodes_busy_there ON nodes(s_parent) WHERE dirty AND s_parent IS NOT NULL;
CREATE INDEX nodes_leaving ON nodes(s_parent, local_only, parent) WHERE moved AND parent IS NOT NULL;
CREATE INDEX nodes_unlisted ON nodes(ino)
        WHERE folder AND s_parent IS NOT NULL AND parent IS NOT NULL AND NOT ifnull(listed_at, 0);
CREATE INDEX nodes_removed ON nodes(ino) WHERE parent IS NULL AND s_parent IS NOT NULL AND NOT meant;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('nodes',4);
COMMIT;

"""The tables: every column explained, derived columns true, indexes used, other formats refused."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cloudfs.errors import LocalDamage, UserError
from cloudfs.ranges import RangeSet
from cloudfs.store import schema
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node, StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino, Pin, RemotePath


def tables(store: Store) -> list[str]:
    rows = store.db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return [name for (name,) in rows]


def columns(store: Store, table: str) -> list[str]:
    # table_xinfo: table_info hides generated columns, and those need their words most.
    return [row[1] for row in store.db.execute(f"PRAGMA table_xinfo({table})")]


def documented(table: str) -> set[str]:
    """Return the columns of a table whose line in the schema follows a comment, or another such column."""
    (body,) = re.findall(rf"^CREATE TABLE {table} \((.*?)^\)", schema._TABLES, re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    explained = False
    for line in body.splitlines():
        text = line.strip()
        if text.startswith("--"):
            explained = True
        elif not text:
            explained = False
        elif (name := re.match(r"([a-z_]+) +(TEXT|INTEGER|BLOB|REAL|NOT NULL)", text)) and explained:
            found.add(name[1])
    return found


def test_every_column_is_explained_where_it_is_made(store: Store) -> None:
    plain = {("meta", "key"), ("meta", "value"), ("observed", "ino")}
    missing = {
        (table, column)
        for table in tables(store)
        for column in columns(store, table)
        if column not in documented(table)
    }
    assert missing - plain == set()


def test_a_record_has_the_columns_of_its_table(store: Store) -> None:
    assert [name for name in columns(store, "nodes") if name != "moved"] == list(Node.__struct_fields__)
    assert columns(store, "staged") == list(StagedRow.__struct_fields__)


def test_a_new_database_has_a_clean_root_and_an_identity(store: Store) -> None:
    root = store.nodes.get(ROOT)
    assert root is not None
    assert (root.folder, root.linked, root.synced, root.dirty) == (1, True, True, 0)
    assert re.fullmatch("[0-9a-f]{16}", store.store_id)


def test_two_databases_have_two_identities(store: Store, tmp_path: Path) -> None:
    with closing(Store(tmp_path / "other.sqlite")) as other:
        assert other.store_id != store.store_id


# Derived columns


def wanted_dirty(
    *, linked: bool, synced: bool, local_only: bool, placed: bool, same_content: bool, same_time: bool
) -> bool:
    """Say in words what the column says in SQL."""
    if not linked or local_only:
        return synced  # the server's copy is to go
    return not synced or not placed or not same_content or not same_time


@pytest.mark.parametrize("combination", list(itertools.product([False, True], repeat=6)), ids=str)
def test_dirty_and_moved_follow_from_the_views(store: Store, combination: tuple[bool, ...]) -> None:
    linked, synced, local_only, placed, same_content, same_time = combination
    folder = store.nodes.insert(parent=ROOT, name="f", folder=1, mtime_ns=0, ctime_ns=0)
    views = (
        {"s_parent": ROOT if placed else folder, "s_name": "a", "s_version": 5, "s_mtime_ns": 7}
        if synced
        else {}
    )
    ino = store.nodes.insert(
        parent=ROOT if linked else None,
        name="a",
        folder=0,
        mtime_ns=7 if same_time else 8,
        ctime_ns=0,
        version=5 if same_content else 6,
        local_only=int(local_only),
        **views,
    )
    dirty, moved = store.db.execute("SELECT dirty, moved FROM nodes WHERE ino = ?", (ino,)).fetchone()
    assert bool(dirty) == wanted_dirty(
        linked=linked,
        synced=synced,
        local_only=local_only,
        placed=placed,
        same_content=same_content,
        same_time=same_time,
    )
    assert bool(moved) == (synced and not (linked and placed))
    store.nodes.begin_try(ino, (folder, "tried"))
    assert store.nodes.get(ino) == store.nodes.tried_child(folder, "tried")
    (tried,) = store.nodes.tried()
    assert (tried.dirty, tried.tried) == (1, (folder, "tried")), "what is in doubt has to be found out"
    store.nodes.end_try(ino)
    assert store.nodes.tried() == []
    assert store.db.execute("SELECT dirty FROM nodes WHERE ino = ?", (ino,)).fetchone() == (dirty,)


def test_another_name_in_the_same_folder_is_a_move(store: Store) -> None:
    ino = store.nodes.insert(
        parent=ROOT,
        name="b",
        folder=0,
        mtime_ns=0,
        ctime_ns=0,
        s_parent=ROOT,
        s_name="a",
        s_version=0,
        s_mtime_ns=0,
    )
    assert store.db.execute("SELECT dirty, moved FROM nodes WHERE ino = ?", (ino,)).fetchone() == (1, 1)


def test_derived_columns_cannot_be_set(store: Store) -> None:
    with pytest.raises(ValueError, match="dirty"):
        store.nodes.update(ROOT, dirty=1)
    with pytest.raises(ValueError, match="moved"):
        store.nodes.update(ROOT, moved=1)


def test_a_node_never_changes_its_kind(store: Store) -> None:
    with pytest.raises(ValueError, match="folder"):
        store.nodes.update(ROOT, folder=0)


# Rules of the tables


def test_one_name_means_one_node(store: Store) -> None:
    store.nodes.insert(parent=ROOT, name="a", folder=0, mtime_ns=0, ctime_ns=0)
    with pytest.raises(LocalDamage):
        store.nodes.insert(parent=ROOT, name="a", folder=0, mtime_ns=0, ctime_ns=0)


def test_one_name_on_the_server_means_one_node(store: Store) -> None:
    gone = {
        "parent": None,
        "name": "a",
        "folder": 0,
        "mtime_ns": 0,
        "ctime_ns": 0,
        "s_parent": ROOT,
        "s_name": "a",
    }
    store.nodes.insert(**gone)
    with pytest.raises(LocalDamage):
        store.nodes.insert(**gone)


def test_unlinked_nodes_may_share_a_name(store: Store) -> None:
    for _ in range(3):
        store.nodes.insert(parent=None, name="a", folder=0, mtime_ns=0, ctime_ns=0)
    assert len(store.nodes.orphans()) == 3


def test_inode_numbers_are_never_used_again(store: Store, path: Path) -> None:
    first = store.nodes.insert(parent=ROOT, name="a", folder=0, mtime_ns=0, ctime_ns=0)
    store.nodes.delete(first)
    assert store.nodes.insert(parent=ROOT, name="a", folder=0, mtime_ns=0, ctime_ns=0) > first
    last = store.nodes.insert(parent=ROOT, name="b", folder=0, mtime_ns=0, ctime_ns=0)
    store.nodes.delete(last)
    with closing(Store(path)) as again:
        assert again.nodes.insert(parent=ROOT, name="b", folder=0, mtime_ns=0, ctime_ns=0) > last


# Indexes


QUERIES = {
    "nodes_by_name": "SELECT * FROM nodes WHERE parent = 1 AND name = 'a'",
    "nodes_moved": "SELECT * FROM nodes WHERE moved AND s_parent = 1 AND s_name = 'a'",
    "nodes_dirty": "SELECT count(*) FROM nodes WHERE dirty",
    "nodes_unlinked": "SELECT * FROM nodes WHERE parent IS NULL AND s_parent IS NULL",
    "nodes_by_file_id": "SELECT * FROM nodes WHERE s_file_id = 'x'",
    "nodes_spelled": "SELECT 1 FROM nodes WHERE s_spelling IS NOT NULL LIMIT 1",
    "nodes_stale": "SELECT ino FROM nodes INDEXED BY nodes_stale WHERE folder AND parent IS NOT NULL"
    " AND s_parent IS NOT NULL AND listed_at IS NOT NULL AND s_etag IS NOT listed_etag",
}


@pytest.mark.parametrize(("index", "query"), QUERIES.items(), ids=QUERIES.keys())
def test_an_index_is_really_used(store: Store, index: str, query: str) -> None:
    plan = " ".join(str(row[3]) for row in store.db.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert f"INDEX {index}" in plan
    assert "SCAN nodes\n" not in plan + "\n"


@pytest.mark.parametrize(
    ("add_up", "result"),
    [
        (lambda nodes: nodes.count_dirty(), 3001),
        (lambda nodes: nodes.bytes_to_send(), 9000),
        (lambda nodes: nodes.count_removed(), 1000),
        (lambda nodes: nodes.busy_folders(), {1, 2, 3}),
        (lambda nodes: nodes.left_folders(), {1, 3}),
        (lambda nodes: nodes.is_all_listed(), True),
        (lambda nodes: nodes.is_leaving(), True),
    ],
    ids="dirty to-send removed busy left listed leaving".split(),
)
def test_what_is_added_up_among_many_takes_no_look_at_each_row(
    store: Store, add_up: Callable[[Nodes], object], result: object
) -> None:
    """That takes thirty steps of SQLite's machine, and half a microsecond; in an index alone it takes a few."""
    store.nodes.update(ROOT, listed_at=1.0)
    common = {"folder": 0, "mtime_ns": 0, "ctime_ns": 6}
    for number in (2, 3):
        synced = {"s_parent": ROOT, "s_name": f"{number}", "s_version": 0, "s_mtime_ns": 0, "listed_at": 1.0}
        store.nodes.insert(parent=ROOT, name=f"{number}", **(common | synced | {"folder": 1}))
    there = {"s_version": 1, "s_mtime_ns": 0, "version": 1}
    with store.transaction():
        for number in range(2000):
            store.nodes.insert(parent=2, name=f"{number}", version=number + 1, size=4 + number % 2, **common)
        for number in range(1000):
            gone = {"s_parent": 2, "s_name": f"gone {number}", "name": f"gone {number}"}
            store.nodes.insert(parent=None, **(common | there | gone))
        moved = {"s_parent": 3, "s_name": "moved", "name": "moved", "parent": 2}
        store.nodes.insert(**(common | there | moved))
    steps = 0

    def hundred() -> int:
        nonlocal steps
        steps += 100
        return 0

    store.db._db.set_progress_handler(hundred, 100)
    assert add_up(store.nodes) == result
    store.db._db.set_progress_handler(None, 0)
    assert steps <= 3000 * 10


def test_no_query_of_the_tree_reads_every_node(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on the loop must not grow with the account: each statement that is used finds its rows by an index."""
    seen: list[tuple[str, object]] = []
    execute = store.db.execute

    def watch(sql: str, parameters: object = ()) -> sqlite3.Cursor:
        seen.append((sql, parameters))
        return execute(sql, parameters)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(store.db, "execute", watch)
    nodes = store.nodes
    nodes.child(ROOT, "a")
    nodes.synced_child(ROOT, "a")
    nodes.by_file_id("x")
    nodes.children(ROOT)
    nodes.child_inos(ROOT)
    nodes.get_many([1, 2])
    nodes.synced_children(ROOT)
    nodes.has_children(ROOT)
    nodes.dirty()
    nodes.count_dirty()
    nodes.orphans()
    nodes.local_path(Ino(7))
    nodes.ancestors(Ino(7))
    nodes.stale_folders()
    nodes.is_seen_whole(Ino(7))
    nodes.spelled(RemotePath("/a/b"))
    nodes.bytes_to_send()
    nodes.busy_folders()
    nodes.left_folders()
    nodes.is_all_listed()
    nodes.count_removed()
    nodes.taken_off()
    nodes.leaving(5)
    nodes.is_leaving()
    nodes.are_leaving([Ino(7)])
    nodes.knows_below(ROOT, more_than=3)
    nodes.count_synced_from(ROOT, 3)
    whole = {
        sql: text
        for sql, parameters in seen
        if not sql.startswith("UPDATE")
        for row in execute(f"EXPLAIN QUERY PLAN {sql}", parameters)  # type: ignore[arg-type]  # as above
        if (text := str(row[3])).startswith("SCAN")
        and "INDEX" not in text
        and not text.startswith(("SCAN up", "SCAN CONSTANT ROW", "SCAN json_each ", "SCAN (subquery-"))
    }
    assert whole == {}


# Other formats


def test_a_database_of_a_newer_cloudfs_is_refused_and_left_as_it_is(path: Path) -> None:
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"has format {schema.SCHEMA_VERSION + 1}") as caught:
        Store(path)
    assert "newer cloudfs" in caught.value.hint
    assert path.read_bytes() == before


FORMATS = sorted(Path(__file__).parent.glob("formats/*.sql"))


def structure(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        shape = {name: db.execute(f"PRAGMA table_xinfo({name})").fetchall() for name in names}
        indexes = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
        ).fetchall()
    return {**shape, "indexes": indexes}


def old_database(path: Path, script: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script.read_text())
        db.execute(f"PRAGMA user_version = {script.stem}")


def test_there_is_an_example_of_every_older_format() -> None:
    assert {int(path.stem) for path in FORMATS} >= set(range(1, schema.SCHEMA_VERSION))


@pytest.mark.parametrize("script", FORMATS, ids=lambda path: path.stem)
def test_an_older_database_becomes_a_current_one_and_keeps_what_it_holds(
    path: Path, tmp_path: Path, script: Path
) -> None:
    old_database(path, script)
    with closing(Store(path)) as store:
        assert store.store_id == "0123456789abcdef"
        assert [node.name for node in store.nodes.children(ROOT)] == ["folder", "new", "old"]
        new, old = (store.nodes.child(ROOT, name) for name in ("new", "old"))
        assert new is not None
        assert old is not None
        assert (new.dirty, old.dirty, old.s_etag) == (1, 0, "e1")
        (row,) = store.staged_of(new.ino)
        assert (row.version, row.size, RangeSet.unpack(row.present)) == (new.version, 7, RangeSet([(0, 7)]))
        assert [attempt.checksum for attempt in store.attempts(new.ino)] == ["SHA1:00"]
        store.put_staged(row)
        store.begin_attempt(store.attempts(new.ino)[0])
        assert store.is_observed(old.ino)
        assert store.pins.all() == ({Ino(2): Pin.ALWAYS_LOCAL} if int(script.stem) >= 7 else {})
        assert store.db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    Store(tmp_path / "fresh").close()
    assert structure(path) == structure(tmp_path / "fresh")


def test_a_migration_that_breaks_off_leaves_the_old_database(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(path).close()
    version = schema.SCHEMA_VERSION
    broken = "ALTER TABLE conflicts ADD COLUMN more TEXT; CREATE TABLE meta (x)"
    monkeypatch.setattr(schema, "_STEPS", [*schema._STEPS, broken])
    monkeypatch.setattr(schema, "SCHEMA_VERSION", version + 1)
    with pytest.raises(LocalDamage):
        Store(path)
    monkeypatch.undo()
    with closing(Store(path)) as store:
        assert "more" not in columns(store, "conflicts")


def test_steps_are_run_in_order_up_to_the_newest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(path).close()
    version = schema.SCHEMA_VERSION
    steps = ["ALTER TABLE conflicts ADD COLUMN a TEXT", "ALTER TABLE conflicts RENAME COLUMN a TO b"]
    monkeypatch.setattr(schema, "_STEPS", [*schema._STEPS, *steps])
    monkeypatch.setattr(schema, "SCHEMA_VERSION", version + 2)
    with closing(Store(path)) as store:
        assert columns(store, "conflicts")[-1] == "b"
        assert store.db.execute("PRAGMA user_version").fetchone() == (version + 2,)


def test_opening_again_changes_nothing(path: Path) -> None:
    with closing(Store(path)) as store:
        made = store.nodes.insert(parent=ROOT, name="a", folder=0, mtime_ns=0, ctime_ns=0)
        identity = store.store_id
    with closing(Store(path)) as store:
        assert store.store_id == identity
        assert store.nodes.get(made) is not None


def test_a_creation_that_broke_off_leaves_a_file_that_opens(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_TABLES", schema._TABLES + "\nCREATE TABLE broken (;\n")
    with pytest.raises(LocalDamage):
        Store(path)
    monkeypatch.undo()
    with closing(Store(path)) as store:
        assert store.nodes.get(ROOT) is not None

"""Nodes, staging rows, observations, attempts and conflicts: what goes in comes out."""

from __future__ import annotations

from collections.abc import Callable

from cloudfs.paths import ROOT_PATH
from cloudfs.store.records import Attempt, StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion, Ino, Kind, RemoteEntry, RemotePath, RemoteVersion

REMOTE = RemoteVersion("e", 10, 100, "SHA1:aa")


def local(store: Store, parent: Ino, name: str, *, folder: bool = False) -> Ino:
    return store.nodes.insert(parent=parent, name=name, folder=int(folder), mtime_ns=0, ctime_ns=0)


def synced(store: Store, parent: Ino, name: str, *, folder: bool = False, **more: object) -> Ino:
    views = {"s_parent": parent, "s_name": name, "s_version": 0, "s_mtime_ns": 0}
    return store.nodes.insert(
        **(
            {"parent": parent, "name": name, "folder": int(folder), "mtime_ns": 0, "ctime_ns": 0}
            | views
            | more
        )
    )


def tombstone(store: Store, parent: Ino, name: str) -> Ino:
    ino = synced(store, parent, name)
    store.nodes.update(ino, parent=None)
    return ino


def test_a_node_knows_what_it_is(store: Store) -> None:
    nodes = store.nodes
    new, clean = nodes.get(local(store, ROOT, "new")), nodes.get(synced(store, ROOT, "clean", folder=True))
    gone = nodes.get(tombstone(store, ROOT, "gone"))
    assert new is not None
    assert clean is not None
    assert gone is not None
    assert (new.kind, new.synced, new.linked, new.placed, new.tombstone) == (
        Kind.FILE,
        False,
        True,
        False,
        False,
    )
    assert (clean.kind, clean.synced, clean.linked, clean.placed, clean.tombstone) == (
        Kind.FOLDER,
        True,
        True,
        True,
        False,
    )
    assert (gone.synced, gone.linked, gone.placed, gone.tombstone) == (True, False, False, True)


def test_the_server_has_a_node_where_it_was_until_told(store: Store) -> None:
    nodes = store.nodes
    folder = synced(store, ROOT, "f", folder=True)
    stays, leaves = synced(store, ROOT, "stays"), synced(store, ROOT, "leaves")
    removed = tombstone(store, ROOT, "removed")
    local(store, ROOT, "new")
    nodes.update(leaves, parent=folder, name="x")
    assert {node.ino for node in nodes.synced_children(ROOT)} == {folder, stays, leaves, removed}
    assert {node.ino for node in nodes.children(folder)} == {leaves}
    assert nodes.synced_children(folder) == []
    for name, ino in {"stays": stays, "leaves": leaves, "removed": removed}.items():
        found = nodes.synced_child(ROOT, name)
        assert found is not None
        assert found.ino == ino
    assert nodes.synced_child(ROOT, "new") is None
    assert nodes.synced_child(folder, "x") is None


def test_a_name_taken_anew_still_belongs_to_the_old_node_on_the_server(store: Store) -> None:
    old = tombstone(store, ROOT, "a")
    new = local(store, ROOT, "a")
    found, shown = store.nodes.synced_child(ROOT, "a"), store.nodes.child(ROOT, "a")
    assert found is not None
    assert shown is not None
    assert (found.ino, shown.ino) == (old, new)


def test_paths_are_known_in_both_views(store: Store) -> None:
    nodes = store.nodes
    a, b = synced(store, ROOT, "a", folder=True), synced(store, ROOT, "b", folder=True)
    x = synced(store, a, "x")
    nodes.update(x, parent=b, name="y")
    nodes.update(a, name="A")
    assert (nodes.local_path(x), nodes.synced_path(x)) == ("/b/y", "/a/x")
    assert (nodes.ancestors(x), nodes.synced_ancestors(x)) == ([b, ROOT], [a, ROOT])
    assert nodes.local_path(ROOT) == nodes.synced_path(ROOT) == ROOT_PATH


def test_what_is_unlinked_or_below_it_has_no_path(store: Store) -> None:
    a = synced(store, ROOT, "a", folder=True)
    x = synced(store, a, "x")
    store.nodes.update(a, parent=None)
    assert store.nodes.local_path(x) is None
    assert store.nodes.synced_path(x) == "/a/x"
    new = local(store, ROOT, "new")
    assert store.nodes.synced_path(new) is None
    assert store.nodes.local_path(Ino(12345)) is None


def test_descendants_come_after_their_folders(store: Store) -> None:
    a = synced(store, ROOT, "a", folder=True)
    b = synced(store, a, "b", folder=True)
    x, y = synced(store, b, "x"), synced(store, a, "y")
    store.nodes.update(x, parent=ROOT)
    assert [node.ino for node in store.nodes.descendants(a)] == [b, y]
    assert [node.ino for node in store.nodes.synced_descendants(a)] == [b, y, x]


def test_dirty_nodes_come_in_the_order_of_their_changes(store: Store) -> None:
    for name, when in {"late": 30, "early": 10, "between": 20}.items():
        store.nodes.update(local(store, ROOT, name), ctime_ns=when)
    assert [node.name for node in store.nodes.dirty()] == ["early", "between", "late"]
    assert store.nodes.count_dirty() == 3


def test_many_nodes_come_in_one_statement(store: Store) -> None:
    made = [local(store, ROOT, f"{number:04}") for number in range(300)]
    assert list(store.nodes.child_inos(ROOT)) == made
    assert set(store.nodes.get_many([*made, 99999])) == set(made)
    assert store.nodes.get_many([]) == {}


def test_a_forgotten_synced_view_makes_a_new_node(store: Store) -> None:
    ino = synced(store, ROOT, "a", s_etag="e", s_file_id="7", permissions="RG", mount_root=1)
    store.nodes.forget_synced(ino)
    node = store.nodes.get(ino)
    assert node is not None
    assert (node.synced, node.dirty, node.s_file_id, node.permissions, node.mount_root) == (
        False,
        1,
        None,
        None,
        0,
    )
    assert store.nodes.by_file_id("7") == []


def test_one_file_id_may_stand_at_two_paths(store: Store) -> None:
    synced(store, ROOT, "a", s_file_id="7")
    synced(store, ROOT, "b", s_file_id="7")
    assert [node.name for node in store.nodes.by_file_id("7")] == ["a", "b"]


def test_local_only_is_set_for_many(store: Store) -> None:
    made = [local(store, ROOT, name) for name in "abc"]
    store.nodes.set_local_only(made, value=True)
    assert store.nodes.count_dirty() == 0
    store.nodes.set_local_only(made[:1], value=False)
    assert store.nodes.count_dirty() == 1


def test_an_update_of_nothing_is_no_statement(store: Store) -> None:
    before = store.nodes.get(ROOT)
    store.nodes.update(ROOT, name="")
    assert store.nodes.get(ROOT) == before


def test_staging_rows_come_back_whole(store: Store) -> None:
    row = StagedRow(Ino(5), ContentVersion(9), 100, b"p" * 16, ContentVersion(4), 50, REMOTE, None)
    store.put_staged(row)
    assert store.staged(Ino(5), ContentVersion(9)) == row
    whole = StagedRow(Ino(5), ContentVersion(9), 120, b"p" * 32, ContentVersion(0), 0, None, "SHA1:aa")
    store.put_staged(whole)
    assert store.all_staged() == [whole]
    newer = StagedRow(Ino(5), ContentVersion(10), 1, b"", ContentVersion(9), 120, None)
    store.put_staged(newer)
    assert store.staged_of(Ino(5)) == [newer, whole]
    store.delete_staged(Ino(5), ContentVersion(9))
    assert store.staged(Ino(5), ContentVersion(9)) is None
    assert store.staged_of(Ino(6)) == []


def test_an_observation_stays_until_it_is_dealt_with(store: Store) -> None:
    assert not store.is_observed(ROOT)
    store.observe(ROOT, None)
    assert store.is_observed(ROOT)
    store.observe(ROOT, RemoteEntry(RemotePath("/a"), Kind.FILE, REMOTE))
    assert store.is_observed(ROOT)
    store.clear_observed(ROOT)
    assert not store.is_observed(ROOT)


def test_attempts_are_kept_per_version_and_content(store: Store) -> None:
    sent = [Attempt(Ino(5), ContentVersion(version), 3, f"SHA1:{version}") for version in (1, 2)]
    sent.append(Attempt(Ino(5), ContentVersion(2), 4, "SHA1:3"))  # written further after it was sent in vain
    for attempt in (*sent, sent[0]):
        store.begin_attempt(attempt)
    assert store.attempts(Ino(5)) == sent
    assert store.attempts(Ino(6)) == []
    store.end_attempts(Ino(5))
    assert store.attempts(Ino(5)) == []


def test_a_conflict_lasts_as_long_as_its_copy(store: Store) -> None:
    ours, theirs = local(store, ROOT, "a (conflicted copy)"), synced(store, ROOT, "a")
    store.add_conflict(ours, theirs)
    (conflict,) = store.conflicts()
    assert (conflict.ours, conflict.theirs) == (ours, theirs)
    store.nodes.update(ours, parent=None)
    assert store.conflicts() == []


def test_what_was_written_before_a_moment_is_sent_once_no_staging_file_of_then_is_left(store: Store) -> None:
    """Also older bytes get a newer number below them, where a tail turns out to have arrived."""
    node = synced(store, ROOT, "a")
    earlier = store.nodes.next_version()
    mark = store.nodes.last_version()
    store.put_staged(StagedRow(node, earlier, 1, b"", ContentVersion(0), 0, None))
    below, now = store.nodes.next_version(), store.nodes.next_version()

    def is_sent(**views: ContentVersion) -> bool:
        store.nodes.update(node, **views)
        current = store.nodes.get(node)
        assert current
        return store.sent_since(current, mark)

    assert not is_sent(version=earlier)
    assert not is_sent(version=now, s_version=below)
    store.delete_staged(node, earlier)
    assert is_sent(version=now)
    assert not is_sent(s_version=earlier)


def test_an_answer_about_a_deletion_ends_with_what_is_done_to_the_node_next(store: Store) -> None:
    ino = synced(store, ROOT, "a")
    changes: list[Callable[[], None]] = [
        lambda: store.nodes.update(ino, parent=None),
        lambda: store.nodes.update(ino, parent=ROOT, name="b"),
        lambda: store.nodes.forget_synced(ino),
    ]
    for change in changes:
        store.nodes.update(ino, parent=None)
        assert store.nodes.mean_leaving() == [ino]
        store.nodes.update(ino, mode=0o600)
        store.nodes.set_local_only([ino], value=False)
        assert is_meant(store, ino)
        change()
        assert not is_meant(store, ino)


def test_so_does_one_about_what_is_shown_where_it_never_goes_up(store: Store) -> None:
    ino = synced(store, ROOT, "a")
    store.nodes.update(ino, parent=ROOT, name="a~", local_only=1)
    assert store.nodes.mean_leaving() == [ino]
    assert not store.nodes.is_leaving()
    store.nodes.set_local_only([ino], value=True)
    assert is_meant(store, ino)
    store.nodes.set_local_only([ino], value=False)
    assert not is_meant(store, ino)


def is_meant(store: Store, ino: Ino) -> bool:
    node = store.nodes.get(ino)
    assert node is not None
    return bool(node.meant)

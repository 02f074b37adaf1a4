"""What a listing changes, by tables: pure functions of the listing and our nodes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from cloudfs.metadata.merge import Add, Adopt, Change, Drop, Observe, Refresh, Rename, merge_folder
from cloudfs.store.records import Node
from cloudfs.types import ROOT, ContentVersion, Ino, RemoteEntry
from tests.metadata.world import file, folder

_V = ContentVersion


def node(entry: RemoteEntry, ino: int = 5, **changes: object) -> Node:
    """Return the clean node of an entry, with changes."""
    is_folder = entry.kind.value == "folder"
    values: dict[str, object] = {
        "ino": Ino(ino),
        "parent": ROOT,
        "name": entry.name,
        "folder": int(is_folder),
        "size": entry.version.size,
        "mtime_ns": 1,
        "ctime_ns": 1,
        "mode": None,
        "version": _V(0 if is_folder else 3),
        "local_only": 0,
        "s_parent": ROOT,
        "s_name": entry.name,
        "s_version": _V(0 if is_folder else 3),
        "s_mtime_ns": 1,
        "s_etag": entry.version.etag,
        "s_size": entry.version.size,
        "s_modified_s": entry.version.modified_s,
        "s_checksum": entry.version.checksum,
        "s_file_id": entry.file_id,
        "permissions": entry.permissions,
        "mount_root": 0,
        "listed_at": None,
        "t_parent": None,
        "t_name": None,
        "dirty": 0,
        "listed_etag": None,
    }
    return Node(**(values | changes))  # type: ignore[arg-type]  # a row as SQLite gives it


def new(name: str, ino: int = 9, *, is_folder: bool = False) -> Node:
    """Return a node that the server never had."""
    entry = folder("/" + name) if is_folder else file("/" + name)
    unsynced = dict.fromkeys(
        "s_parent s_name s_version s_mtime_ns s_etag s_size s_modified_s s_checksum s_file_id".split()
    )
    return node(entry, ino, **unsynced, dirty=1)


def merge(
    members: Iterable[RemoteEntry], nodes: Iterable[Node], touched: frozenset[str] = frozenset()
) -> list[Change]:
    nodes = list(nodes)
    return merge_folder(
        members,
        [one for one in nodes if one.s_parent == ROOT],
        {one.name: one for one in nodes if one.parent == ROOT},
        touched,
    )


def test_a_listing_that_says_what_we_know_changes_nothing() -> None:
    entries = [file("/a", file_id="1"), folder("/b", file_id="2")]
    assert merge(entries, [node(entries[0]), node(entries[1], 6)]) == []


def test_an_unknown_name_is_added() -> None:
    assert merge([file("/a")], []) == [Add(file("/a"))]


def test_a_clean_node_that_the_listing_lacks_is_dropped() -> None:
    known = node(file("/a"))
    assert merge([], [known]) == [Drop(known)]


def test_new_content_is_taken_over_by_a_clean_node() -> None:
    known, entry = node(file("/a", "old")), file("/a", "new")
    assert merge([entry], [known]) == [Refresh(known, entry, content=True)]


def test_new_details_of_the_same_content_are_no_new_content() -> None:
    known, entry = node(file("/a", modified_s=100)), file("/a", modified_s=200)
    assert merge([entry], [known]) == [Refresh(known, entry, content=False)]


def test_new_content_under_a_changed_file_is_only_observed() -> None:
    known, entry = node(file("/a", "old"), version=_V(4)), file("/a", "new")
    assert merge([entry], [known]) == [Observe(known, entry)]


def test_new_content_of_a_file_removed_here_is_only_observed() -> None:
    known, entry = node(file("/a", "old"), parent=None), file("/a", "new")
    assert merge([entry], [known]) == [Observe(known, entry)]


def test_new_content_of_a_file_moved_here_is_taken_over_where_it_went() -> None:
    known, entry = node(file("/a", "old"), parent=Ino(7), name="x"), file("/a", "new")
    assert merge([entry], [known]) == [Refresh(known, entry, content=True)]


def test_a_clean_file_renamed_there_is_renamed_here() -> None:
    known, entry = node(file("/a", file_id="1")), file("/b", file_id="1")
    assert merge([entry], [known]) == [Rename(known, entry)]


def test_a_file_moved_here_and_renamed_there_is_no_rename() -> None:
    known, entry = node(file("/a", file_id="1"), name="mine"), file("/b", file_id="1")
    assert merge([entry], [known]) == [Drop(known), Add(entry)]


def test_a_rename_needs_a_file_id() -> None:
    known, entry = node(file("/a")), file("/b")
    assert merge([entry], [known]) == [Drop(known), Add(entry)]


def test_a_rename_never_changes_the_kind() -> None:
    known, entry = node(file("/a", file_id="1")), folder("/b", file_id="1")
    assert merge([entry], [known]) == [Drop(known), Add(entry)]


def test_a_file_renamed_over_another_one_takes_its_content() -> None:
    a, b = node(file("/a", "ea", file_id="1"), 5), node(file("/b", "eb", file_id="2"), 6)
    entry = file("/b", "ea", file_id="1")
    assert merge([entry], [a, b]) == [Drop(a), Refresh(b, entry, content=True)]


def test_another_kind_under_a_name_is_another_node() -> None:
    known, entry = node(file("/a")), folder("/a")
    assert merge([entry], [known]) == [Drop(known), Add(entry)]


def test_names_are_given_up_before_others_take_them() -> None:
    a, b = node(file("/a", file_id="1"), 5), node(file("/b", file_id="2"), 6)
    entries = [folder("/a", file_id="9"), file("/c", file_id="2")]
    changes = merge(entries, [a, b])
    assert changes == [Drop(a), Rename(b, entries[1]), Add(entries[0])]


def test_a_folder_made_on_both_sides_is_one_folder() -> None:
    mine, entry = new("a", is_folder=True), folder("/a")
    assert merge([entry], [mine]) == [Adopt(mine, entry)]


def test_a_file_made_on_both_sides_is_left_to_its_upload() -> None:
    assert merge([file("/a")], [new("a")]) == []
    assert merge([folder("/a")], [new("a")]) == []
    assert merge([file("/a")], [new("a", is_folder=True)]) == []


def test_a_name_that_an_own_step_touched_is_ignored_whatever_the_listing_says() -> None:
    known = node(file("/a", file_id="1"))
    for members in ([], [file("/a", "new")], [folder("/a")]):
        assert merge(members, [known], frozenset({"a"})) == []
    assert merge([file("/b")], [], frozenset({"b"})) == []


def test_a_rename_whose_new_name_was_touched_is_no_rename() -> None:
    known = node(file("/a", file_id="1"))
    assert merge([file("/b", file_id="1")], [known], frozenset({"a", "b"})) == []


def test_a_folder_removed_here_stays_removed() -> None:
    known = node(folder("/a", "old"), parent=None)
    assert merge([folder("/a", "old")], [known]) == []


@pytest.mark.parametrize("place", [{"parent": None}, {"name": "y"}], ids=["removed", "moved"])
def test_another_folder_in_place_of_one_that_left_here_is_another_node(place: dict[str, object]) -> None:
    left, there = node(folder("/x", file_id="1"), 5, **place, dirty=1), folder("/x", file_id="2")
    assert merge([there], [left]) == [Drop(left), Add(there)]


def test_two_files_that_changed_names_there_are_known_by_their_names() -> None:
    """The other way round, a save by rename would lose its inode, as that gives the name another file id."""
    x, y = node(file("/x", "1", file_id="1"), 5), node(file("/y", "2", file_id="2"), 6)
    now_x, now_y = file("/x", "2", file_id="2"), file("/y", "1", file_id="1")
    assert merge([now_x, now_y], [x, y]) == [
        Refresh(x, now_x, content=True),
        Refresh(y, now_y, content=True),
    ]


def test_a_folder_that_is_where_it_was_is_known_by_its_name_alone() -> None:
    """Where the server has scanned a storage anew, everything in it has another file id."""
    known, there = node(folder("/x", file_id="1")), folder("/x", file_id="2")
    assert merge([there], [known]) == [Refresh(known, there, content=False)]

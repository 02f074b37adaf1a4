"""The planner by tables: what programs did in the mount, and the requests that the server gets for it."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from cloudfs.store.store import Store
from cloudfs.sync.planner import Planner, plan, runnable
from cloudfs.sync.steps import MakeFolder, Move, Remove, SetTime, Upload
from tests.functional.saves import SAVES
from tests.sync.trees import Pair


@pytest.fixture
def pair(store: Store) -> Pair:
    return Pair(store)


def test_a_clean_tree_has_no_plan(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/x")
    assert pair.sync() == []


def test_a_new_folder_comes_before_what_is_in_it(pair: Pair) -> None:
    pair.make("/a/")
    pair.make("/a/b/")
    pair.make("/a/b/x")
    steps = plan(pair.nodes.dirty(), pair.nodes)
    assert [type(step) for step in runnable(steps)] == [MakeFolder]
    assert pair.sync() == ["MKCOL", "MKCOL", "PUT"]


def test_created_and_deleted_is_nothing(pair: Pair) -> None:
    pair.make("/x")
    pair.remove("/x")
    pair.make("/a/")
    pair.make("/a/y")
    pair.remove("/a")
    assert pair.sync() == []


def test_many_writes_are_one_upload(pair: Pair) -> None:
    pair.synced("/x")
    for _ in range(5):
        pair.write("/x")
    assert pair.sync() == ["PUT"]


def test_a_removed_tree_of_300_files_is_one_delete(pair: Pair) -> None:
    pair.synced("/a/")
    for folder in range(3):
        pair.synced(f"/a/{folder}/")
        for number in range(100):
            pair.synced(f"/a/{folder}/{number}")
    pair.remove("/a")
    assert pair.sync() == ["DELETE"]


def test_a_moved_folder_is_one_move(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/b/")
    for number in range(50):
        pair.synced(f"/a/{number}")
    before = pair.file_id("/a/7")
    pair.rename("/a", "/b/c")
    assert pair.sync() == ["MOVE"]
    assert pair.file_id("/b/c/7") == before


def test_a_file_moved_many_times_is_one_move(pair: Pair) -> None:
    pair.synced("/x")
    for name in ("/y", "/z", "/w"):
        pair.rename(
            pair.nodes.local_path(pair.nodes.dirty()[0].ino) or "/x" if pair.nodes.dirty() else "/x", name
        )
    assert pair.sync() == ["MOVE"]


def test_moved_there_and_back_is_nothing(pair: Pair) -> None:
    pair.synced("/x")
    pair.rename("/x", "/y")
    pair.rename("/y", "/x")
    assert pair.sync() == []


def test_an_atomic_save_is_one_upload_onto_the_old_file_id(pair: Pair) -> None:
    pair.synced("/doc")
    before = pair.file_id("/doc")
    pair.make("/doc.tmp")
    pair.rename("/doc.tmp", "/doc")
    assert pair.sync() == ["PUT"]
    assert pair.file_id("/doc") == before


def test_an_atomic_save_with_a_local_backup_is_one_upload_onto_the_old_file_id(pair: Pair) -> None:
    """As Emacs saves: `mv doc doc~`, then write doc anew."""
    pair.synced("/doc")
    before = pair.file_id("/doc")
    pair.rename("/doc", "/doc~")
    pair.make("/doc")
    assert pair.sync() == ["PUT"]
    assert pair.file_id("/doc") == before


def test_an_atomic_save_with_a_backup_that_goes_up_keeps_both(pair: Pair) -> None:
    pair.synced("/doc")
    before = pair.file_id("/doc")
    pair.rename("/doc", "/doc.bak")
    pair.make("/doc")
    assert pair.sync() == ["MOVE", "PUT"]
    assert pair.file_id("/doc.bak") == before


def test_repeated_atomic_saves_between_two_syncs_are_one_upload(pair: Pair) -> None:
    pair.synced("/doc")
    before = pair.file_id("/doc")
    for _ in range(4):
        pair.make("/doc.tmp")
        pair.rename("/doc.tmp", "/doc")
    assert pair.sync() == ["PUT"]
    assert pair.file_id("/doc") == before


def test_a_synced_temporary_file_written_and_renamed_over_keeps_the_old_file_id(pair: Pair) -> None:
    """A slow save: the temporary file had gone up already."""
    pair.synced("/doc")
    pair.synced("/doc.tmp")
    before = pair.file_id("/doc")
    pair.write("/doc.tmp")
    pair.rename("/doc.tmp", "/doc")
    assert Counter(pair.sync()) == {"PUT": 1, "DELETE": 1}
    assert pair.file_id("/doc") == before


@pytest.mark.parametrize("name", ["/doc.txt.tmp", "/.doc.txt.Xy12Ab", "/tmpu3x9k_2a", "/sedHs8Kq2"])
def test_a_temporary_file_that_went_up_before_it_was_renamed_over_keeps_the_old_file_id(
    pair: Pair, name: str
) -> None:
    pair.synced("/doc.txt")
    pair.synced(name)
    before = pair.file_id("/doc.txt")
    pair.rename(name, "/doc.txt")
    assert Counter(pair.sync()) == {"PUT": 1, "DELETE": 1}
    assert pair.file_id("/doc.txt") == before


def test_a_file_with_a_history_of_its_own_takes_that_along_to_another_one_s_name(pair: Pair) -> None:
    for name in ("/log", "/log.1", "/log.2", "/report-2", "/report"):
        pair.synced(name)
    before = [pair.file_id(name) for name in ("/log", "/log.1", "/report-2")]
    for old, new in (("/log.1", "/log.2"), ("/log", "/log.1"), ("/report-2", "/report")):
        pair.rename(old, new)
    assert Counter(pair.sync()) == {"DELETE": 2, "MOVE": 3}
    assert [pair.file_id(name) for name in ("/log.1", "/log.2", "/report")] == before


def test_deleted_and_written_anew_keeps_the_file_id(pair: Pair) -> None:
    pair.synced("/x")
    before = pair.file_id("/x")
    pair.remove("/x")
    pair.make("/x")
    assert pair.sync() == ["PUT"]
    assert pair.file_id("/x") == before


def test_an_atomic_save_in_a_moved_folder_keeps_the_file_id(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/doc")
    before = pair.file_id("/a/doc")
    pair.rename("/a", "/b")
    pair.make("/b/tmp")
    pair.rename("/b/tmp", "/b/doc")
    assert sorted(pair.sync()) == ["MOVE", "PUT"]
    assert pair.file_id("/b/doc") == before


@pytest.mark.parametrize("kind", ["", "/"])
@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_cycle_of_renames_costs_one_move_more_than_it_has_names(pair: Pair, length: int, kind: str) -> None:
    names = "abcd"[:length]
    idents = {name: pair.synced(f"/{name}{kind}") for name in names}
    pair.rename(f"/{names[-1]}", "/aside")
    for name, following in reversed(list(itertools.pairwise(names))):
        pair.rename(f"/{name}", f"/{following}")
    pair.rename("/aside", f"/{names[0]}")
    assert pair.at("/b").ino == idents["a"]
    log = pair.sync()
    assert Counter(log) == {"MOVE": length, "MOVE aside": 1}


def test_an_exchange_of_two_folders_keeps_their_members(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/x")
    pair.synced("/b/")
    pair.synced("/b/x")
    one, other = pair.file_id("/a/x"), pair.file_id("/b/x")
    pair.exchange("/a", "/b")
    pair.sync()
    assert (pair.file_id("/b/x"), pair.file_id("/a/x")) == (one, other)


def test_a_folder_and_the_one_inside_it_change_places(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/b/")
    pair.synced("/a/b/x")
    pair.rename("/a/b", "/b")
    pair.rename("/a", "/b/a")
    assert pair.sync() == ["MOVE", "MOVE"]


def test_a_folder_and_the_one_inside_it_change_places_and_names(pair: Pair) -> None:
    outer, inner = pair.synced("/a/"), pair.synced("/a/b/")
    pair.rename("/a/b", "/t")
    pair.rename("/a", "/t/b")
    pair.rename("/t", "/a")
    assert (pair.at("/a").ino, pair.at("/a/b").ino) == (inner, outer)
    assert Counter(pair.sync()) == {"MOVE": 2, "MOVE aside": 1}


def test_a_file_takes_the_place_of_the_folder_it_was_in(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/x")
    before = pair.file_id("/a/x")
    pair.rename("/a/x", "/t")
    pair.remove("/a")
    pair.rename("/t", "/a")
    pair.sync()
    assert pair.file_id("/a") == before


def test_a_folder_takes_the_place_of_the_folder_it_was_in(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/b/")
    pair.synced("/a/b/x")
    pair.synced("/a/old")
    before = pair.file_id("/a/b/x")
    pair.rename("/a/b", "/t")
    pair.remove("/a")
    pair.rename("/t", "/a")
    pair.sync()
    assert pair.file_id("/a/x") == before


def test_a_file_replaced_by_a_folder_of_the_same_name(pair: Pair) -> None:
    pair.synced("/x")
    pair.remove("/x")
    pair.make("/x/")
    pair.make("/x/y")
    assert pair.sync() == ["DELETE", "MKCOL", "PUT"]


def test_a_folder_replaced_by_a_file_of_the_same_name(pair: Pair) -> None:
    pair.synced("/x/")
    pair.synced("/x/y")
    pair.remove("/x")
    pair.make("/x")
    assert pair.sync() == ["DELETE", "PUT"]


def test_a_folder_that_became_local_only_leaves_the_server_and_stays_here(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/x")
    pair.rename("/a", "/.Trash-1000")
    assert pair.sync() == ["DELETE"]
    assert pair.at("/.Trash-1000/x").linked


def test_local_only_names_never_go_up(pair: Pair) -> None:
    pair.make("/.~lock.doc#")
    pair.make("/.Trash-1000/")
    pair.make("/.Trash-1000/x")
    pair.write("/.Trash-1000/x")
    pair.touch("/.~lock.doc#")
    assert plan(pair.nodes.dirty(), pair.nodes) == []
    assert pair.sync() == []


def test_a_local_only_name_renamed_to_another_goes_up(pair: Pair) -> None:
    pair.make("/doc~")
    pair.rename("/doc~", "/doc")
    assert pair.sync() == ["PUT"]


def test_what_leaves_a_removed_folder_leaves_it_first(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/x")
    pair.synced("/a/y")
    before = pair.file_id("/a/x")
    pair.rename("/a/x", "/x")
    pair.remove("/a")
    assert pair.sync() == ["MOVE", "DELETE"]
    assert pair.file_id("/x") == before


@pytest.mark.parametrize("away", ["/x~", "/.Trash-1000/x", "/x.part"])
def test_what_is_put_away_out_of_a_removed_folder_is_taken_out_first(pair: Pair, away: str) -> None:
    """Its own removal keeps its bytes; gone along with the folder it would be nowhere."""
    pair.synced("/a/")
    pair.synced("/a/b/")
    pair.synced("/a/b/x")
    pair.make("/.Trash-1000/")
    pair.rename("/a/b/x", away)
    pair.remove("/a")
    assert pair.sync() == ["DELETE", "DELETE"]
    assert pair.at(away).linked


def test_a_folder_put_away_out_of_a_removed_one_is_taken_out_first_as_a_whole(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/b/")
    pair.synced("/a/b/x")
    pair.synced("/a/b/y")
    pair.rename("/a/b", "/b~")
    pair.rename("/b~/x", "/b~/z")
    pair.remove("/a")
    assert pair.sync() == ["DELETE", "DELETE"]


def test_a_moved_and_written_file_is_moved_then_sent(pair: Pair) -> None:
    pair.synced("/x")
    before = pair.file_id("/x")
    pair.rename("/x", "/y")
    pair.write("/y")
    assert pair.sync() == ["MOVE", "PUT"]
    assert pair.file_id("/y") == before


def test_a_time_alone_is_sent_alone(pair: Pair) -> None:
    pair.synced("/x")
    pair.touch("/x")
    assert pair.sync() == ["TIME"]


def test_a_folders_time_is_set_after_everything_inside_it(pair: Pair) -> None:
    pair.synced("/a/")
    pair.synced("/a/x")
    pair.touch("/a")
    pair.write("/a/x")
    pair.make("/a/y")
    steps = plan(pair.nodes.dirty(), pair.nodes)
    assert not any(isinstance(step, SetTime) for step in runnable(steps))
    assert pair.sync()[-1] == "TIME"


def test_independent_work_waits_for_nothing(pair: Pair) -> None:
    pair.synced("/a")
    pair.synced("/b")
    pair.synced("/c")
    pair.write("/a")
    pair.rename("/b", "/d")
    pair.remove("/c")
    pair.make("/e")
    steps = plan(pair.nodes.dirty(), pair.nodes)
    assert {type(step) for step in runnable(steps)} == {Upload, Move, Remove}
    assert len(runnable(steps)) == 4


def test_a_name_is_free_for_another_file_once_its_owner_has_moved(pair: Pair) -> None:
    pair.synced("/log")
    pair.synced("/log.1")
    pair.rename("/log.1", "/log.2")
    pair.rename("/log", "/log.1")
    pair.make("/log")
    assert pair.sync() == ["MOVE", "MOVE", "PUT"]


def test_what_is_removed_in_a_folder_that_left_a_removed_one_is_removed_by_itself(pair: Pair) -> None:
    """It does not go with the removed folder: it has left that one together with its own."""
    pair.synced("/a/")
    pair.synced("/a/b/")
    pair.synced("/a/b/x/")
    pair.rename("/a/b", "/b")
    pair.remove("/a")
    pair.remove("/b/x")
    pair.make("/b/x")
    assert Counter(pair.sync()) == {"MOVE": 1, "DELETE": 2, "PUT": 1}


@pytest.mark.timeout(20)
def test_a_folder_put_away_inside_what_had_been_in_it_makes_nobody_wait_for_ever(pair: Pair) -> None:
    """Its removal waits for what leaves it, but not for a time inside that, which waits for the removal."""
    pair.synced("/b/")
    pair.synced("/b/m/")
    pair.synced("/b/m/k/")
    pair.rename("/b/m", "/m")
    pair.rename("/b", "/m/k/b~")
    pair.touch("/m/k")
    assert pair.sync() == ["MOVE", "DELETE", "TIME"]


@pytest.mark.timeout(20)
def test_steps_that_no_move_aside_can_part_go_on_waiting(pair: Pair) -> None:
    """Not planned as far as anybody knows; a worker that plans without end would be worse than one that waits."""
    nodes = [pair.nodes.get(pair.synced(f"/{name}")) for name in "abc"]
    a, b, c = (node for node in nodes if node is not None)
    steps = [
        SetTime(node=a, after=frozenset({b.ino})),
        SetTime(node=b, after=frozenset({a.ino})),
        SetTime(node=c, after=frozenset({a.ino})),
    ]
    assert Planner([], pair.nodes)._break_cycles([*steps]) == steps
    assert runnable(steps) == []


@pytest.mark.parametrize("how", SAVES)
def test_a_save_of_any_program_is_one_upload_onto_the_old_file_id(pair: Pair, how: str) -> None:
    pair.synced("/doc.txt")
    before = pair.file_id("/doc.txt")
    for call in SAVES[how]:
        match call:
            case ("write", path) | ("create", path) | ("copy", _, path):
                pair.make(f"/{path}")
            case ("in place",):
                pair.write("/doc.txt")
            case ("rename", old, new):
                pair.rename(f"/{old}", f"/{new}")
            case ("unlink", path):
                pair.remove(f"/{path}")
            case _:
                raise AssertionError(call)
    assert pair.sync() == ["PUT"]
    assert pair.file_id("/doc.txt") == before

"""Much vanishes at once: nothing is dropped before somebody has answered, and every answer is carried out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.sync.deletions import Held, Outcome
from cloudfs.types import ROOT
from tests.functional.drivers import VfsDriver, read, tree, write
from tests.functional.stages import USER, VfsStage, unhurried
from tests.servers import Account, Answer, StandIn

pytestmark = pytest.mark.shared_engine

OLD = 1_600_000_000
MANY = 150
FEW = 2
"""Files whose reading is no walk through their folder yet: of the others nothing is fetched ahead."""


@pytest.fixture
def there(server: StandIn) -> Account:
    account = server.account(USER)
    account.mkdir("/big")
    account.mkdir("/big/inner")
    for number in range(MANY):
        account.write(f"/big/inner/{number}", b"content %d" % number, mtime=OLD)
    account.write("/big/readme", b"read me", mtime=OLD)
    account.write("/single", b"single", mtime=OLD)
    return account


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, there: Account) -> Iterator[VfsStage]:
    del there
    yield from unhurried(tmp_path / "engine", server)


@pytest.fixture
def here(stage: VfsStage) -> VfsDriver:
    return stage.root()


def vanished(stage: VfsStage) -> Held | None:
    return stage.call_sync(stage.engine.deletions.vanished)


def names(here: VfsDriver) -> set[str]:
    return set(here.names("big/inner"))


def test_what_vanishes_at_once_stays_until_somebody_answers(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    assert read(here, "big/inner/7") == b"content 7"
    there.delete("/big")
    stage.look()
    stage.look()
    held = vanished(stage)
    assert held is not None
    assert (held.count, held.paths) == (MANY + 3, ["/big"])
    assert len(names(here)) == MANY
    assert read(here, "big/inner/7") == b"content 7"  # cached
    there.write("/new", b"new")
    there.delete("/single")
    stage.look()
    assert "new" in here.names()

    assert stage.call(stage.engine.deletions.accept_vanished) == Outcome(MANY + 4, 0)
    assert tree(here) == there.tree() == {"new": b"new"}
    assert vanished(stage) is None


def test_single_absences_are_believed(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    for number in range(50):
        there.delete(f"/big/inner/{number}")
    there.delete("/single")
    stage.look()
    assert vanished(stage) is None
    assert len(names(here)) == MANY - 50
    assert here.names() == ["big"]


def test_many_small_steps_are_one_event(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    for number in range(MANY):
        there.delete(f"/big/inner/{number}")
        if number % 30 == 29:
            stage.look()
    assert vanished(stage) is not None
    assert len(names(here)) == MANY - 90


def test_what_comes_back_lets_the_guard_go(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    """An external storage that was away: the same files, the same ids."""
    before = here.ino("big/inner/7")
    there.delete("/big")
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    assert vanished(stage) is not None
    there.restore("/big")
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    assert vanished(stage) is None
    assert len(names(here)) == MANY
    assert here.ino("big/inner/7") == before
    assert tree(here) == there.tree()


def test_a_move_is_no_loss(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    there.mkdir("/depot")
    stage.look()
    there.move("/big", "/depot/big")
    stage.look()  # the folder that it left is listed first
    stage.look()
    assert vanished(stage) is None
    assert tree(here) == there.tree()


def test_an_emptied_account_stays(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    for number in range(10):
        there.write(f"/top{number}", b"x", mtime=OLD)
    stage.look()
    there.delete("/big")
    stage.look()
    stage.call(stage.engine.deletions.accept_vanished)
    for name in here.names():
        there.delete(f"/{name}")
    stage.look()
    held = vanished(stage)
    assert held is not None
    assert held.count == 11
    assert len(here.names()) == 11


def test_an_emptied_account_of_few_folders_stays(tmp_path: Path, server: StandIn) -> None:
    """It has no more than ten names in its root: what counts is all that is in them."""
    account = server.account(USER)
    account.populate({"a": None, "b": None, **{f"{folder}/{n}": b"x" for folder in "ab" for n in range(5)}})
    stage = VfsStage(tmp_path / "engine", server)
    try:
        stage.look()
        before = tree(stage.root())
        for name in "ab":
            account.delete(f"/{name}")
        stage.look()
        held = vanished(stage)
        assert held is not None
        assert held.count == 12
        assert tree(stage.root()) == before
    finally:
        stage.close()


def test_it_is_remembered_across_a_restart(
    stage: VfsStage, here: VfsDriver, there: Account, tmp_path: Path, server: StandIn
) -> None:
    there.delete("/big")
    stage.look()
    before = vanished(stage)
    assert before is not None
    server.stop()
    stage.restart()
    assert vanished(stage) == before
    server.start()
    stage.look()
    assert vanished(stage) == before
    stage.call(stage.engine.deletions.accept_vanished)
    assert tree(stage.root()) == there.tree() == {"single": b"single"}


def test_an_answer_is_kept_until_the_server_can_be_asked(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    there.delete("/big")
    stage.look()
    server.stop()
    assert stage.call(stage.engine.deletions.accept_vanished) == Outcome(0, MANY + 3)
    assert len(names(here)) == MANY
    stage.restart()
    assert len(names(stage.root())) == MANY
    server.start()
    stage.look()
    assert stage.root().names() == ["single"]


def test_an_answer_is_for_what_is_gone_then_and_not_for_what_comes_back(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    there.mkdir("/depot")
    stage.look()
    there.move("/big", "/depot/big")
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    server.stop()
    stage.call(stage.engine.deletions.accept_vanished)
    server.start()
    there.move("/depot/big", "/big")
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    assert vanished(stage) is None
    there.delete("/big")
    stage.look()
    assert vanished(stage) is not None
    assert len(names(here)) == MANY


def test_what_was_changed_here_is_never_dropped(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "big/inner/7", b"mine")
    there.delete("/big")
    stage.look()
    stage.call(stage.engine.deletions.accept_vanished)
    assert tree(here) == {"big": None, "big/inner": None, "big/inner/7": b"mine", "single": b"single"}
    stage.sync()
    assert there.tree() == tree(here)


def test_what_is_here_in_full_can_be_sent_back(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    for number in range(FEW):
        assert read(here, f"big/inner/{number}") == b"content %d" % number
    there.delete("/big")
    stage.look()
    outcome = stage.call(stage.engine.deletions.restore_vanished)
    assert outcome == Outcome(FEW + 2, MANY - FEW + 1)
    stage.sync()
    restored = {path: data for path, data in there.tree("/big/inner").items() if data}
    assert restored == {str(number): b"content %d" % number for number in range(FEW)}
    stage.look()
    held = vanished(stage)
    assert held is not None  # the others, which nobody has any more
    stage.call(stage.engine.deletions.accept_vanished)
    assert tree(here) == there.tree()


def said(stage: VfsStage) -> dict[str, str]:
    """Return what cannot go up, with the next step."""
    return {trouble.name: trouble.next_step for trouble in stage.send()}


def test_what_was_changed_inside_waits_for_the_answer(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    write(here, "big/inner/7", b"mine")
    write(here, "big/new", b"new")
    here.rename("big/inner/8", "big/eight")
    here.rename("single", "big/inner/single")
    write(here, "elsewhere", b"elsewhere")
    there.delete("/big")
    stage.look()
    told = said(stage)
    assert set(told) == {"7", "new", "eight", "single"}
    assert all("`cloudfs deletions accept`" in step for step in told.values())
    assert {it.name for it in stage.call_sync(stage.engine.obstacles.all_blocked)} == set(told)
    assert there.tree() == {"single": b"single", "elsewhere": b"elsewhere"}

    stage.call(stage.engine.deletions.accept_vanished)
    stage.sync()
    assert stage.call_sync(stage.engine.obstacles.all_blocked) == []
    assert there.tree() == tree(here)
    assert read(here, "big/inner/7") == b"mine"
    assert read(here, "big/inner/single") == b"single"


def test_a_change_that_finds_out_itself_that_much_is_gone(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    write(here, "big/inner/7", b"mine")
    there.delete("/big")
    assert set(said(stage)) == {"7"}


def test_what_was_changed_inside_does_not_wait_where_all_of_it_has_merely_moved(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    there.mkdir("/depot")
    stage.look()
    write(here, "big/inner/7", b"mine")
    there.move("/big", "/depot/big")
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    assert said(stage) == {}
    assert vanished(stage) is None
    assert there.read("/depot/big/inner/7") == b"mine"
    assert tree(here) == there.tree()


def test_what_was_changed_goes_up_when_the_rest_is_back(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    there.mkdir("/depot")
    stage.look()
    write(here, "big/inner/7", b"mine")
    there.move("/big", "/depot/big")
    server.faults.add(Answer(501), method="SEARCH", times=None)  # nobody can tell where it went
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    assert set(said(stage)) == {"7"}
    there.move("/depot/big", "/big")
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    stage.sync()
    assert there.read("/big/inner/7") == b"mine"


def test_what_was_changed_goes_up_with_what_is_restored(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    for number in range(FEW):
        assert read(here, f"big/inner/{number}") == b"content %d" % number
    write(here, "big/inner/7", b"mine")
    there.delete("/big")
    stage.look()
    assert set(said(stage)) == {"7"}
    stage.call(stage.engine.deletions.restore_vanished)
    stage.sync()
    assert there.read("/big/inner/7") == b"mine"
    assert len([data for data in there.tree("/big/inner").values() if data]) == FEW + 1


def test_a_removal_inside_does_not_wait(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    there.delete("/big")
    stage.look()
    here.unlink("big/inner/7")
    stage.sync()
    assert "7" not in names(here)

"""Much is deleted here at once: it stays on the server until somebody has answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudfs.sync.deletions import Held, Outcome
from cloudfs.types import ROOT
from tests.functional.drivers import VfsDriver, read, tree, write
from tests.functional.stages import USER, VfsStage, unhurried
from tests.servers import Account, StandIn

pytestmark = pytest.mark.shared_engine

OLD = 1_600_000_000
MANY = 150


@pytest.fixture
def there(server: StandIn) -> Account:
    account = server.account(USER)
    account.mkdir("/big")
    account.mkdir("/big/inner")
    for number in range(MANY):
        account.write(f"/big/inner/{number}", b"content %d" % number, mtime=OLD)
    for number in range(40):
        account.write(f"/{number}", b"single", mtime=OLD)
    return account


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, there: Account) -> Iterator[VfsStage]:
    del there
    yield from unhurried(tmp_path / "engine", server)


@pytest.fixture
def here(stage: VfsStage) -> VfsDriver:
    return stage.root()


def removed(stage: VfsStage) -> Held | None:
    return stage.call_sync(stage.engine.deletions.removed)


def remove_all(here: VfsDriver) -> None:
    for number in range(MANY):
        here.unlink(f"big/inner/{number}")
    here.rmdir("big/inner")
    here.rmdir("big")


def to_trash(here: VfsDriver) -> None:
    here.mkdir(".Trash-1000")
    here.rename("big", ".Trash-1000/big")


WAYS = pytest.mark.parametrize("delete", [remove_all, to_trash])


def hold(stage: VfsStage, here: VfsDriver, delete: Callable[[VfsDriver], None]) -> None:
    delete(here)
    (trouble,) = stage.send()
    assert "cloudfs deletions accept" in trouble.next_step


@WAYS
def test_much_waits_and_everything_else_goes_on(
    stage: VfsStage, here: VfsDriver, there: Account, delete: Callable[[VfsDriver], None]
) -> None:
    before = there.tree()
    write(here, "new", b"new")
    hold(stage, here, delete)
    assert there.tree() == {**before, "new": b"new"}
    held = removed(stage)
    assert held is not None
    assert (held.count, held.paths) == (MANY + 2, ["/big"])
    stage.look()
    assert "big" not in here.names()

    assert stage.call_sync(stage.engine.deletions.accept_removed) == Outcome(MANY + 2)
    stage.sync()
    assert "big" not in there.tree()
    assert removed(stage) is None


@WAYS
def test_it_can_be_brought_back(
    stage: VfsStage, here: VfsDriver, there: Account, delete: Callable[[VfsDriver], None]
) -> None:
    before = there.tree()
    write(here, "big/inner/7", b"changed here, not sent")
    inode = here.ino("big/inner/8")
    hold(stage, here, delete)
    assert stage.call(stage.engine.deletions.restore_removed) == Outcome(MANY + 2, 0)
    assert here.ino("big/inner/8") == inode
    assert read(here, "big/inner/8") == b"content 8"
    stage.sync()
    assert removed(stage) is None
    shown = {path: data for path, data in tree(here).items() if not path.startswith(".Trash")}
    assert shown == there.tree() == {**before, "big/inner/7": b"changed here, not sent"}


def test_little_goes_up_at_once(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    for number in range(40):
        here.unlink(str(number))
    for number in range(50):
        here.unlink(f"big/inner/{number}")
    stage.sync()
    assert len(there.tree()) == 2 + MANY - 50
    assert removed(stage) is None


def test_half_of_what_was_seen_is_not_half_of_the_account(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    there.mkdir("/never looked into")
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    remove_all(here)
    stage.sync()
    assert "big" not in there.tree()


def test_what_was_sent_lately_counts(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    for number in range(90):
        here.unlink(f"big/inner/{number}")
    stage.sync()
    for number in range(90, MANY):
        here.unlink(f"big/inner/{number}")
    assert len(stage.send()) == 1
    held = removed(stage)
    assert held is not None
    assert held.count == 60
    assert len(there.tree("/big/inner")) == 60


def test_it_waits_across_a_restart(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    before = there.tree()
    hold(stage, here, remove_all)
    held = removed(stage)
    stage.restart()
    stage.wait(lambda: stage.engine.connectivity.online)
    assert len(stage.send()) == 1
    assert removed(stage) == held
    assert there.tree() == before


def test_the_answer_survives_a_restart(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    hold(stage, here, remove_all)
    server.stop()
    stage.call_sync(stage.engine.deletions.accept_removed)
    stage.restart()
    server.start()
    stage.sync()
    assert "big" not in there.tree()


def test_an_answer_is_for_what_was_deleted_until_then(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    hold(stage, here, remove_all)
    stage.call_sync(stage.engine.deletions.accept_removed)
    stage.sync()
    here.mkdir("more")
    for number in range(120):
        write(here, f"more/{number}", b"x")
    stage.sync()
    to = [f"more/{number}" for number in range(120)]
    for path in to:
        here.unlink(path)
    assert len(stage.send()) == 1
    assert len(there.tree("/more")) == 120


def test_a_taken_name_stays_with_whoever_has_it(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    hold(stage, here, remove_all)
    write(here, "big", b"a file now")
    assert len(stage.send()) == 1  # what waits for the name is told of, and waited for by nobody
    outcome = stage.call(stage.engine.deletions.restore_removed)
    assert outcome == Outcome(0, MANY + 2)
    assert read(here, "big") == b"a file now"
    assert len(there.tree("/big/inner")) == MANY

"""Deciding about conflicts: what each decision does, and that nothing is lost where it cannot be done."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode, UserError
from cloudfs.sync.resolve import Pair
from cloudfs.types import ROOT
from tests.functional.drivers import VfsDriver, read, tree, write
from tests.functional.stages import USER, VfsStage, unhurried
from tests.servers import Account, Hold, LoseReply, StandIn

pytestmark = pytest.mark.shared_engine

COPY = re.compile(r"doc \(conflicted copy \d{4}-\d\d-\d\d \d{6}( \d+)?\)\.txt")
OLD = 1_600_000_000


@pytest.fixture
def there(server: StandIn) -> Account:
    account = server.account(USER)
    account.write("/doc.txt", b"base", mtime=OLD)
    return account


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, there: Account) -> Iterator[VfsStage]:
    del there
    yield from unhurried(tmp_path / "engine", server)


@pytest.fixture
def here(stage: VfsStage, there: Account) -> VfsDriver:
    """A conflict: the server has `theirs`, ours lies beside it."""
    driver = stage.root()
    assert read(driver, "doc.txt") == b"base"
    write(driver, "doc.txt", b"ours")
    there.write("/doc.txt", b"theirs", mtime=OLD + 100)
    stage.sync()
    stage.look()
    return driver


def pairs(stage: VfsStage) -> list[Pair]:
    return stage.call_sync(stage.engine.resolver.pairs)


def copy_of(stage: VfsStage) -> str:
    (pair,) = pairs(stage)
    assert COPY.fullmatch(pair.ours.name)
    return pair.ours.name


def keep_mine(stage: VfsStage, path: str) -> None:
    stage.call(lambda: stage.engine.resolver.keep_mine(f"/{path}"))


def keep_theirs(stage: VfsStage, path: str) -> None:
    stage.call(lambda: stage.engine.resolver.keep_theirs(f"/{path}"))


def refuses(stage: VfsStage, decide: object, path: str, said: str) -> None:
    assert callable(decide)
    with pytest.raises(UserError, match=said) as caught:
        decide(stage, path)
    assert caught.value.code == ExitCode.NOT_DONE
    assert caught.value.hint


@pytest.mark.parametrize("by_copy", [False, True])
def test_keep_mine(stage: VfsStage, here: VfsDriver, there: Account, *, by_copy: bool) -> None:
    file_id = there.node("/doc.txt").file_id
    keep_mine(stage, copy_of(stage) if by_copy else "doc.txt")
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"ours"}
    assert there.node("/doc.txt").file_id == file_id
    assert pairs(stage) == []


def test_keep_mine_of_what_was_never_sent(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    """The copy was written again since: all of it goes up, straight onto the server's file."""
    copy = copy_of(stage)
    write(here, copy, b"ours, second")
    keep_mine(stage, copy)
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"ours, second"}


def test_keep_mine_of_a_large_copy_that_is_not_cached(
    stage: VfsStage, here: VfsDriver, there: Account, tmp_path: Path, server: StandIn
) -> None:
    data = os.urandom(3_000_000)
    write(here, copy_of(stage), data)
    stage.sync()
    stage.close()
    shutil.rmtree(tmp_path / "engine/cache")
    stage.reopen()
    keep_mine(stage, "doc.txt")
    stage.sync()
    assert there.tree() == tree(stage.root()) == {"doc.txt": data}


@pytest.mark.parametrize("by_copy", [False, True])
def test_keep_theirs(stage: VfsStage, here: VfsDriver, there: Account, *, by_copy: bool) -> None:
    keep_theirs(stage, copy_of(stage) if by_copy else "doc.txt")
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"theirs"}
    assert pairs(stage) == []


def test_keep_both(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    copy = copy_of(stage)
    stage.call_sync(lambda: stage.engine.resolver.keep_both("/doc.txt"))
    assert pairs(stage) == []
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"theirs", copy: b"ours"}


@pytest.mark.parametrize("decide", [keep_mine, keep_theirs])
def test_nothing_is_done_when_the_server_has_another_version_by_now(
    stage: VfsStage, here: VfsDriver, there: Account, decide: object
) -> None:
    copy = copy_of(stage)
    there.write("/doc.txt", b"theirs, later", mtime=OLD + 200)
    refuses(stage, decide, "doc.txt", "changed on the server")
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"theirs, later", copy: b"ours"}
    assert callable(decide)
    decide(stage, "doc.txt")  # asked again, with the newest version shown
    stage.sync()
    assert pairs(stage) == []


def test_a_change_right_before_the_overwrite_wins(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    copy = copy_of(stage)
    rule = server.faults.add(Hold(), method="PUT", path=r"/doc\.txt$")
    with ThreadPoolExecutor(1) as pool:
        deciding = pool.submit(refuses, stage, keep_mine, "doc.txt", "changed on the server")
        assert rule.wait_hit()
        there.write("/doc.txt", b"in between", mtime=OLD + 300)
        rule.release()
        deciding.result(30)
    stage.sync()
    stage.look()
    assert there.tree() == tree(here) == {"doc.txt": b"in between", copy: b"ours"}
    assert copy_of(stage) == copy


@pytest.mark.parametrize("mine", [False, True])
def test_a_listing_from_before_the_change_is_not_relied_on(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn, *, mine: bool
) -> None:
    copy, started = copy_of(stage), threading.Event()
    resolver, lister = stage.engine.resolver, stage.engine.lister

    async def decide() -> None:
        started.set()
        await (resolver.keep_mine if mine else resolver.keep_theirs)("/doc.txt")

    rule = server.faults.add(Hold(after_execution=True), method="PROPFIND")
    with ThreadPoolExecutor(2) as pool:
        listing = pool.submit(stage.call, lambda: lister.refresh(ROOT))
        assert rule.wait_hit()
        there.write("/doc.txt", b"theirs, later", mtime=OLD + 300)
        deciding = pool.submit(stage.call, decide)
        assert started.wait(10)
        for _ in range(3):
            stage.call_sync(lambda: None)
        rule.release()
        listing.result(30)
        with pytest.raises(UserError, match="changed on the server"):
            deciding.result(30)
    stage.look()
    assert tree(here) == there.tree() == {"doc.txt": b"theirs, later", copy: b"ours"}


@pytest.mark.parametrize("decide", [keep_mine, keep_theirs])
def test_nothing_is_done_while_the_server_cannot_be_asked(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn, decide: object
) -> None:
    copy = copy_of(stage)
    server.stop()
    refuses(stage, decide, "doc.txt", "cannot be asked")
    server.start()
    assert tree(here) == {"doc.txt": b"theirs", copy: b"ours"}
    assert there.tree() == tree(here)


def test_a_lost_reply_is_finished_by_asking_again(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    copy = copy_of(stage)
    server.faults.add(LoseReply(), method="PUT", path=r"/doc\.txt$")
    refuses(stage, keep_mine, "doc.txt", "what the server has now is not known")
    assert there.tree() == {"doc.txt": b"ours", copy: b"ours"}
    keep_mine(stage, "doc.txt")
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"ours"}


def test_what_is_done_by_hand_is_a_decision(stage: VfsStage, here: VfsDriver) -> None:
    copy = copy_of(stage)
    here.rename(copy, "mine.txt")
    assert pairs(stage) == []
    here.rename("mine.txt", copy)
    copy_of(stage)
    here.rename("doc.txt", "theirs.txt")
    assert pairs(stage) == []
    here.rename("theirs.txt", "doc.txt")
    copy_of(stage)
    here.unlink("doc.txt")
    assert pairs(stage) == []


def test_a_removed_copy_is_a_decision(stage: VfsStage, here: VfsDriver) -> None:
    here.unlink(copy_of(stage))
    assert pairs(stage) == []


def test_editors_do_not_decide(stage: VfsStage, here: VfsDriver) -> None:
    """Both files may be opened, edited and saved, in whatever way an editor saves."""
    copy = copy_of(stage)
    for name in ("doc.txt", copy):
        write(here, "new~", b"saved")
        here.rename("new~", name)
        assert copy_of(stage) == copy
    here.rename("doc.txt", "doc.txt~")
    write(here, "doc.txt", b"saved again")
    assert copy_of(stage) == copy


def test_a_rename_to_a_taken_name_is_a_conflict_too(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    keep_theirs(stage, "doc.txt")
    here.rename("doc.txt", "taken.txt")
    there.write("/taken.txt", b"other", mtime=OLD)
    stage.sync()
    stage.look()
    (pair,) = pairs(stage)
    assert pair.theirs.name == "taken.txt"
    keep_mine(stage, "taken.txt")
    stage.sync()
    assert there.tree() == tree(here) == {"taken.txt": b"theirs"}


def test_the_server_is_not_asked_about_what_is_no_conflict(stage: VfsStage, here: VfsDriver) -> None:
    stage.call_sync(lambda: stage.engine.resolver.keep_both("/doc.txt"))
    refuses(stage, keep_mine, "doc.txt", "is in no conflict")
    with pytest.raises(UserError, match="There is no /absent"):
        keep_mine(stage, "absent")


def test_open_files_keep_what_they_have(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    reading = here.open("doc.txt")
    assert reading.read(0, 100) == b"theirs"
    keep_mine(stage, "doc.txt")
    assert reading.read(0, 100) == b"theirs"
    reading.close()
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"ours"}


def test_several_copies_have_to_be_named(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "doc.txt", b"ours too")
    there.write("/doc.txt", b"theirs again", mtime=OLD + 500)
    stage.sync()
    stage.look()
    first, second = (pair.ours.name for pair in pairs(stage))
    refuses(stage, keep_mine, "doc.txt", "several")
    keep_mine(stage, second)
    stage.sync()
    assert there.tree() == tree(here) == {"doc.txt": b"ours too", first: b"ours"}
    keep_theirs(stage, "doc.txt")
    stage.sync()
    assert there.tree() == {"doc.txt": b"ours too"}

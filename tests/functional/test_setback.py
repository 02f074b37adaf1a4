"""A backup is restored on the server: nothing it lacks is dropped here, nothing newer is replaced, before an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.sync.deletions import Held, Outcome
from cloudfs.types import ROOT
from tests.functional.drivers import VfsDriver, read, write
from tests.functional.stages import USER, VfsStage
from tests.servers import Account, StandIn

pytestmark = [pytest.mark.shared_engine, pytest.mark.expect_log("was set back to a backup", optional=True)]

OLD, NEW = 1_600_000_000, 1_700_000_000


@pytest.fixture
def there(server: StandIn) -> Account:
    account = server.account(USER)
    account.write("/docs/report", b"the newer report", mtime=NEW)
    account.write("/docs/same", b"same", mtime=OLD)
    account.write("/made-later", b"after the backup", mtime=NEW)
    return account


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, there: Account) -> Iterator[VfsStage]:
    del there
    made = VfsStage(tmp_path / "engine", server, listing_ttl_s=3600)
    made.call(made.engine.greet)  # no listing of the start may be under way when the tests look
    made.look()
    yield made
    made.close()


@pytest.fixture
def here(stage: VfsStage) -> VfsDriver:
    driver = stage.root()
    assert read(driver, "docs/report") == b"the newer report"
    assert read(driver, "made-later") == b"after the backup"
    return driver


def restore_backup(server: StandIn, there: Account) -> None:
    """Bring the server back to a time before the newest changes."""
    there.write("/docs/report", b"the older report", mtime=OLD)
    there.delete("/made-later")
    server.site.fingerprint = "b0a1c2"


def held(stage: VfsStage) -> Held | None:
    return stage.call_sync(stage.engine.deletions.vanished)


def test_nothing_is_dropped_or_replaced(
    stage: VfsStage, here: VfsDriver, server: StandIn, there: Account
) -> None:
    restore_backup(server, there)
    there.write("/docs/edited-since", b"somebody goes on working", mtime=NEW + 1)
    stage.look()
    assert read(here, "docs/report") == b"the newer report"
    assert read(here, "made-later") == b"after the backup"
    for _ in range(2):
        stage.look()
        assert here.names() == ["docs", "made-later"]
        waiting = held(stage)
        assert waiting is not None
        assert (waiting.count, waiting.older, waiting.set_back) == (1, 1, True)
        assert set(waiting.paths) == {"/made-later", "/docs/report"}
        assert read(here, "docs/edited-since") == b"somebody goes on working"
        stage.restart()
        here = stage.root()


def test_the_servers_state_is_accepted(
    stage: VfsStage, here: VfsDriver, server: StandIn, there: Account
) -> None:
    restore_backup(server, there)
    stage.look()
    assert stage.call(stage.engine.deletions.accept_vanished) == Outcome(2, 0)
    assert read(here, "docs/report") == b"the older report"
    assert here.names() == ["docs"]
    assert held(stage) is None
    there.delete("/docs/same")
    stage.look()
    assert here.names("docs") == ["report"], "from now on it is believed again"


def test_what_is_newer_here_goes_up(
    stage: VfsStage, here: VfsDriver, server: StandIn, there: Account
) -> None:
    restore_backup(server, there)
    stage.look()
    report = there.node("/docs/report").file_id
    assert stage.call(stage.engine.deletions.restore_vanished) == Outcome(2, 0)
    assert held(stage) is None
    stage.sync()
    assert there.tree() == {
        "docs": None,
        "docs/report": b"the newer report",
        "docs/same": b"same",
        "made-later": b"after the backup",
    }
    assert there.node("/docs/report").file_id == report, "over the older one, under its condition"
    assert there.node("/docs/report").mtime == NEW


def test_what_is_not_here_in_full_waits_on(stage: VfsStage, server: StandIn, there: Account) -> None:
    restore_backup(server, there)
    stage.look()
    assert stage.call(stage.engine.deletions.restore_vanished) == Outcome(0, 2)
    waiting = held(stage)
    assert waiting is not None
    assert (waiting.count, waiting.older) == (1, 1)
    assert stage.call(stage.engine.deletions.accept_vanished) == Outcome(2, 0)
    assert read(stage.root(), "docs/report") == b"the older report"


def test_a_server_that_cannot_be_asked_ends_nothing(
    stage: VfsStage, here: VfsDriver, server: StandIn, there: Account
) -> None:
    """Restored while nobody could look into every folder: what is in the others is not given up."""
    server.site.fingerprint = "b0a1c2"
    stage.call(lambda: stage.engine.lister.refresh(ROOT))
    server.stop()
    assert stage.call(stage.engine.deletions.restore_vanished) == Outcome(0, 0)
    waiting = held(stage)
    assert waiting is not None
    assert waiting.set_back
    server.start()
    there.write("/docs/report", b"the older report", mtime=OLD)
    assert stage.call(stage.engine.deletions.restore_vanished) == Outcome(1, 0)
    stage.sync()
    assert there.read("/docs/report") == b"the newer report"
    assert held(stage) is None


def test_an_older_version_that_is_replaced_meanwhile_is_kept_beside(
    stage: VfsStage, here: VfsDriver, server: StandIn, there: Account
) -> None:
    restore_backup(server, there)
    stage.look()
    there.write("/docs/report", b"written after the restore", mtime=NEW + 5)
    stage.look()
    waiting = held(stage)
    assert waiting is not None
    assert waiting.older == 0, "somebody has worked on it since: that is taken over as ever"
    assert read(here, "docs/report") == b"written after the restore"


def test_nothing_that_is_deleted_here_goes_up(
    stage: VfsStage, here: VfsDriver, server: StandIn, there: Account
) -> None:
    server.site.fingerprint = "b0a1c2"
    stage.look()
    here.unlink("docs/same")
    assert stage.send() != []
    assert there.exists("/docs/same")
    removed = stage.call_sync(stage.engine.deletions.removed)
    assert removed is not None
    assert removed.count == 1
    assert stage.call_sync(stage.engine.deletions.accept_removed) == Outcome(1)
    stage.sync()
    assert not there.exists("/docs/same")


def test_changes_go_on_going_up(stage: VfsStage, here: VfsDriver, server: StandIn, there: Account) -> None:
    restore_backup(server, there)
    stage.look()
    write(here, "docs/new", b"new")
    write(here, "docs/report", b"edited here")
    stage.sync()
    tree = there.tree("/docs")
    assert tree["new"] == b"new"
    assert {b"edited here", b"the older report"} <= set(tree.values()), "both stay, as in every conflict"


def test_the_same_fingerprint_says_nothing(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    there.delete("/made-later")
    there.write("/docs/report", b"an older one, put there on purpose", mtime=OLD)
    stage.look()
    assert here.names() == ["docs"]
    assert read(here, "docs/report") == b"an older one, put there on purpose"
    assert held(stage) is None


def test_what_is_fetched_ahead_is_not_the_older_version(
    stage: VfsStage, server: StandIn, there: Account
) -> None:
    """Files without checksums, of the same size in both versions: a folder's ETag proves nothing about what is kept."""
    names = [f"docs/walk/{number:02}" for number in range(12)]
    for name in names:
        there.write(f"/{name}", b"newer " + name.encode(), mtime=NEW)
    stage.look()
    here = stage.root()
    for name in names[:2]:
        assert read(here, name) == b"newer " + name.encode()
    for name in names:
        there.write(f"/{name}", b"older " + name.encode(), mtime=OLD)
    server.site.fingerprint = "b0a1c2"
    stage.look()
    for name in names[:2]:
        assert read(here, name) == b"newer " + name.encode()
    for name in names[2:]:
        with pytest.raises(OSError, match="Stale"):
            read(here, name)

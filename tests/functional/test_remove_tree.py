"""`rm -r` of a whole tree: one request, and only where the server has nothing in it that nobody here has seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import VfsDriver, tree
from tests.functional.stages import USER, VfsStage
from tests.servers import Account, StandIn

pytestmark = pytest.mark.shared_engine

FEW, MANY = 20, 100
"""Files in each folder; where each is deleted by a request of its own, few do."""


def album(count: int) -> dict[str, bytes | None]:
    """Return a folder of three with so many files in each."""
    return {
        "album": None,
        **{f"album/{year}": None for year in range(3)},
        **{f"album/{year}/{it:03}.jpg": b"picture %d" % it for year in range(3) for it in range(count)},
    }


@pytest.fixture
def account(server: StandIn, request: pytest.FixtureRequest) -> Account:
    made = server.account(USER)
    made.populate(album(getattr(request, "param", FEW)))
    return made


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, account: Account) -> Iterator[VfsStage]:
    del account
    # The whole account is removed: without the question whether that is meant.
    # And however slow the machine is, nobody looks for changes by himself.
    made = VfsStage(tmp_path / "engine", server, quiet_s=3600.0, delete_guard_server=0, poll_s=0)
    made.look()
    yield made
    made.close()


def remove_tree(driver: VfsDriver, path: str) -> None:
    for name in driver.names(path):
        below = f"{path}/{name}"
        (remove_tree if driver.is_folder(below) else VfsDriver.unlink)(driver, below)
    driver.rmdir(path)


@pytest.mark.parametrize("account", [MANY], indirect=True)
def test_300_files_are_one_delete(stage: VfsStage, server: StandIn, account: Account) -> None:
    driver = stage.root()
    assert len(driver.names("album/2")) == MANY
    remove_tree(driver, "album")
    server.requests.reset()
    stage.sync()
    (delete,) = server.requests.matching("DELETE")
    assert delete.path.endswith(f"/{USER}/album")
    assert [it.method for it in server.requests] == ["PROPFIND", "DELETE"], "all is looked at in one request"
    assert account.tree() == tree(driver) == {}
    assert stage.engine.store.nodes.count_dirty() == 0


@pytest.mark.parametrize("unknown", ["album/new.jpg", "album/1/new.jpg", "album/1/deep/er/new.jpg"])
def test_a_tree_with_something_unknown_in_it_is_not_deleted(
    stage: VfsStage, server: StandIn, account: Account, unknown: str
) -> None:
    driver = stage.root()
    remove_tree(driver, "album")
    account.write(f"/{unknown}", b"nobody here has seen it")
    server.requests.reset()
    stage.sync()
    stage.look()
    stage.sync()
    above = {path.rpartition("/")[0] for path in (unknown, unknown.rpartition("/")[0])}
    for delete in server.requests.matching("DELETE"):
        assert not any(delete.path.endswith(f"/{USER}/{folder}") for folder in above), delete
    found = account.tree()
    assert {path: data for path, data in found.items() if data is not None} == {
        unknown: b"nobody here has seen it"
    }
    assert tree(driver) == found


def test_a_changed_file_in_a_tree_keeps_it(stage: VfsStage, server: StandIn, account: Account) -> None:
    driver = stage.root()
    remove_tree(driver, "album")
    account.write("/album/1/005.jpg", b"another picture", mtime=1_600_000_000)
    server.requests.reset()
    stage.sync()
    stage.look()
    stage.sync()
    assert account.read("/album/1/005.jpg") == b"another picture"
    assert tree(driver) == account.tree()

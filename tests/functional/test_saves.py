"""A save is one conditional PUT onto the file that is there: its id stays, and with it versions, shares and tags."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloudfs.paths import is_local_only
from tests.functional.drivers import VfsDriver, tree
from tests.functional.saves import SAVES, save
from tests.functional.stages import USER, VfsStage
from tests.servers import Account, StandIn

pytestmark = pytest.mark.shared_engine

OLD, NEW = b"the old content", b"the new content, longer"


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path_factory.mktemp("saves") / "engine", server, quiet_s=3600.0)
    yield made
    made.close()


@pytest.fixture
def account(server: StandIn) -> Account:
    """Another client, which made the file."""
    made = server.account(USER)
    for path in made.tree():
        if made.exists(f"/{path}"):
            made.delete(f"/{path}")
    made.write("/doc.txt", OLD, mtime=1_600_000_000)
    return made


@pytest.fixture
def here(stage: VfsStage, account: Account) -> VfsDriver:
    del account
    stage.look()
    driver = stage.root()
    for name in driver.names():
        if name != "doc.txt":
            driver.unlink(name)
    tree(driver)
    return driver


def changes(server: StandIn) -> list[str]:
    looks = {"PROPFIND", "GET", "HEAD", "OPTIONS", "REPORT", "SEARCH"}
    return [f"{it.method} {it.path.rpartition('/')[2]}" for it in server.requests if it.method not in looks]


@pytest.mark.parametrize("how", SAVES)
def test_a_save_is_one_conditional_put_and_keeps_the_file_id(
    stage: VfsStage, server: StandIn, account: Account, here: VfsDriver, how: str
) -> None:
    before = account.node("/doc.txt").file_id, account.node("/doc.txt").etag
    server.requests.reset()
    save(here, "doc.txt", how, NEW)
    stage.sync()
    assert changes(server) == ["PUT doc.txt"]
    (put,) = server.requests.matching("PUT")
    assert put.headers["if-match"] == f'"{before[1]}"'
    assert (account.node("/doc.txt").file_id, account.read("/doc.txt")) == (before[0], NEW)
    shown = {path: data for path, data in tree(here).items() if not is_local_only(path)}
    assert shown == account.tree() == {"doc.txt": NEW}


@pytest.mark.parametrize("how", SAVES)
def test_repeated_saves_are_one_put(
    stage: VfsStage, server: StandIn, account: Account, here: VfsDriver, how: str
) -> None:
    before = account.node("/doc.txt").file_id
    server.requests.reset()
    for _ in range(3):
        save(here, "doc.txt", how, NEW)
    stage.sync()
    assert changes(server) == ["PUT doc.txt"]
    assert (account.node("/doc.txt").file_id, account.read("/doc.txt")) == (before, NEW)

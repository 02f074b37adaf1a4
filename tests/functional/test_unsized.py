"""A file of which the server does not know the size yet: the rest of its folder is as ever (docs/SEMANTICS.md)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from cloudfs.remote.connect import discover
from cloudfs.remote.files import WebdavRemote
from cloudfs.types import RemotePath
from tests.functional.drivers import read, write
from tests.functional.stages import USER, VfsStage
from tests.servers import Account, StandIn

pytestmark = pytest.mark.shared_engine


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path_factory.mktemp("unsized") / "engine", server)
    yield made
    made.close()


@pytest.fixture
def storage(request: pytest.FixtureRequest, server: StandIn, stage: VfsStage) -> str:
    """A folder with a file that was listed here, and one that another client is about to add."""
    folder = str(request.node.name)
    account = server.account(USER)
    account.populate({f"{folder}/known": b"known", f"{folder}/below/file": b"deep", f"{folder}/other": b""})
    stage.look()
    assert set(stage.root().names(folder)) == {"known", "below", "other"}
    account.write(f"/{folder}/pending", b"theirs")
    account.set_listed_size(f"/{folder}/pending", -1)
    account.set_listed_size(f"/{folder}/known", -1)
    return folder


def seen(stage: VfsStage, folder: str) -> set[str]:
    stage.look()
    return set(stage.root().names(folder))


def test_what_was_known_of_it_stays_and_the_rest_is_listed(
    server: StandIn, stage: VfsStage, storage: str
) -> None:
    account = server.account(USER)
    account.write(f"/{storage}/added", b"added")
    account.delete(f"/{storage}/other")
    assert seen(stage, storage) == {"known", "below", "added"}
    account.set_listed_size(f"/{storage}/pending", 6)
    account.set_listed_size(f"/{storage}/known", 5)
    assert read(stage.root(), f"{storage}/known") == b"known"
    assert seen(stage, storage) == {"known", "below", "added", "pending"}
    assert read(stage.root(), f"{storage}/pending") == b"theirs"


def test_a_name_that_it_has_is_made_here_too(server: StandIn, stage: VfsStage, storage: str) -> None:
    account, here = server.account(USER), stage.root()
    assert "pending" not in seen(stage, storage)
    write(here, f"{storage}/pending", b"ours")
    account.set_listed_size(f"/{storage}/pending", 6)
    stage.sync()
    copies = {path: data for path, data in account.tree(f"/{storage}").items() if path.startswith("pending")}
    assert sorted(str(data) for data in copies.values()) == sorted(map(str, (b"ours", b"theirs")))
    assert copies["pending"] == b"theirs"


def test_a_tree_lacks_its_folder_alone(server: StandIn, storage: str) -> None:
    account: Account = server.account(USER)

    async def trees() -> list[str]:
        remote = WebdavRemote(await discover(server.url, USER, account.password), account.password)
        try:
            found = await remote.list_tree(RemotePath(f"/{storage}"), most=100)
        finally:
            await remote.aclose()
        return [own.path for own, _ in found]

    assert trio.run(trees) == [f"/{storage}/below"]


def test_its_folder_is_removed_with_what_is_known_and_it_stays(
    server: StandIn, stage: VfsStage, storage: str
) -> None:
    """What nobody here has seen is not taken along: the folder comes back with it."""
    account, here = server.account(USER), stage.root()
    assert "pending" not in seen(stage, storage)
    account.set_listed_size(f"/{storage}/known", 5)
    for name in ("below/file", "known", "other"):
        here.unlink(f"{storage}/{name}")
    here.rmdir(f"{storage}/below")
    here.rmdir(storage)
    stage.sync()
    assert account.tree(f"/{storage}")["pending"] == b"theirs"
    account.set_listed_size(f"/{storage}/pending", 6)
    stage.look()
    assert read(here, f"{storage}/pending") == b"theirs"

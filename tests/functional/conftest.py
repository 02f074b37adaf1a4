"""The stages, made once for this folder's tests; each test gets a folder of its own in all of them.

Not for the whole session: an engine that goes on looking for changes opens connections in the midst of other tests,
which would be taken for their leaks. Who makes a stage of its own takes `server`, which nobody else uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import Driver, tree
from tests.functional.stages import USER, MountStage, PlainStage, Stage, VfsStage
from tests.servers import StandIn

_numbers = itertools.count()


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A server for one test."""
    with StandIn() as standin:
        yield standin


@pytest.fixture(scope="package")
def shared_server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


def _make(kind: str, home: Path, server: StandIn) -> Stage:
    if kind == "plain":
        home.mkdir()
        return PlainStage(home)
    return VfsStage(home, server) if kind == "vfs" else MountStage(home, server)


@pytest.fixture(
    scope="package", params=["plain", "vfs", pytest.param("mount", marks=pytest.mark.mount)], ids=str
)
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_server: StandIn
) -> Iterator[Stage]:
    made = _make(request.param, tmp_path_factory.mktemp("stage") / request.param, shared_server)
    yield made
    made.close()


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> str:
    return f"{next(_numbers)}-{request.node.originalname}"


@pytest.fixture
def driver(stage: Stage, folder: str, shared_server: StandIn) -> Iterator[Driver]:
    """A driver for a new folder. After the test the server must have exactly what the file system shows."""
    made = stage.driver(folder)
    yield made
    if isinstance(stage, PlainStage):
        return
    stage.sync()
    assert on_server(shared_server, folder) == tree(made)


def on_server(server: StandIn, folder: str) -> dict[str, bytes | None]:
    """Return the server's content of a folder, with paths relative to it, as another client sees it."""
    return server.account(USER).tree(f"/{folder}")

"""Small files of a folder in one request, through the engine (docs/SEMANTICS.md, Reading)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.content.source import Source
from cloudfs.store.records import Node
from cloudfs.types import ROOT
from tests.functional.drivers import read
from tests.functional.stages import USER, VfsStage
from tests.servers import StandIn

pytestmark = pytest.mark.shared_engine

CONTENTS = {f"{number:03} ü.txt": os.urandom(100 + number) for number in range(120)}


def md5(data: bytes) -> str:
    return "MD5:" + hashlib.md5(data).hexdigest()  # noqa: S324  # some clients use it


@pytest.fixture(params=["with checksums", "without"])
def server(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn() as standin:
        for name, data in CONTENTS.items():
            checksum = md5(data) if request.param == "with checksums" else None
            standin.account(USER).write(f"/d/{name}", data, checksum=checksum, mtime=10**9)
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path / "engine", server)
    yield made
    made.close()


def sources(stage: VfsStage) -> list[Source]:
    """Return what is in the folder, as it was listed."""
    assert len(stage.root().names("d")) == len(CONTENTS)

    def look() -> list[Node]:
        nodes = stage.engine.store.nodes
        return nodes.children(next(node for node in nodes.children(ROOT) if node.name == "d").ino)

    return [Source(node.ino, node.version, node.remote_version) for node in stage.call_sync(look)]


def test_a_folder_is_read_without_a_get_for_each_file(stage: VfsStage, server: StandIn) -> None:
    wanted = sources(stage)
    server.requests.reset()
    brought = stage.call(lambda: stage.engine.fetcher.prefetch_archive(wanted))
    assert len(brought) == len(CONTENTS)
    assert server.requests.count("GET", "download.php") == 2
    here = stage.root()
    assert {name: read(here, f"d/{name}") for name in CONTENTS} == CONTENTS
    assert server.requests.count("GET", "/d/.*txt") == 0


def test_what_was_changed_in_the_meantime_is_read_by_itself(stage: VfsStage, server: StandIn) -> None:
    """No listing has told of it yet, and its size and time are as they were."""
    wanted = sources(stage)
    name, data = "007 ü.txt", os.urandom(107)
    server.account(USER).write(f"/d/{name}", data, checksum=md5(data), mtime=10**9 + 1)
    server.requests.reset()
    brought = stage.call(lambda: stage.engine.fetcher.prefetch_archive(wanted))
    assert len(brought) == len(CONTENTS) - 1
    stage.look()
    here = stage.root()
    assert {name: read(here, f"d/{name}") for name in CONTENTS} == CONTENTS | {name: data}
    assert server.requests.count("GET", "/d/.*txt") == 1

"""Names that begin with a dot on a server that lists none (docs/SEMANTICS.md, Names)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import read, tree, write
from tests.functional.stages import PASSWORD, USER, VfsStage
from tests.servers.plain.dialects import LikeNginx

pytestmark = [
    pytest.mark.server("wsgidav"),
    pytest.mark.shared_engine,
    pytest.mark.expect_log("does not list names that begin with a dot"),
]

OURS = {".config": b"ours", ".git": None, ".git/.lock": b"locked", ".git/HEAD": b"ref: main", "seen": b"seen"}


@pytest.fixture
def server() -> Iterator[LikeNginx]:
    made = LikeNginx()
    made.user, made.password = USER, PASSWORD
    with made:
        yield made


@pytest.fixture
def stage(tmp_path: Path, server: LikeNginx) -> Iterator[VfsStage]:
    made = VfsStage(tmp_path / "engine", server)
    here = made.root()
    here.mkdir(".git")
    for name, data in OURS.items():
        if data is not None:
            write(here, name, data)
    made.sync()
    yield made
    made.close()


def test_what_was_made_here_stays(stage: VfsStage) -> None:
    stage.look()
    assert tree(stage.root()) == OURS
    stage.restart()
    stage.look()
    assert tree(stage.root()) == OURS


def test_what_another_client_changes_and_removes_shows(stage: VfsStage, server: LikeNginx) -> None:
    server.write("/.config", b"another's", mtime=2_000_000_000)
    server.delete("/.git/.lock")
    stage.look()
    here = stage.root()
    assert read(here, ".config") == b"another's"
    assert here.names(".git") == ["HEAD"]


def test_they_are_moved_and_removed(stage: VfsStage, server: LikeNginx) -> None:
    here = stage.root()
    stage.look()
    here.rename(".git", ".hg")
    here.unlink(".config")
    stage.sync()
    stage.look()
    assert here.names() == [".hg", "seen"]
    assert here.names(".hg") == [".lock", "HEAD"]
    assert sorted(path.name for path in server.root.rglob("*")) == [".hg", ".lock", "HEAD", "seen"]

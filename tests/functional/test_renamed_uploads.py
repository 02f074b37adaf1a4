"""A file that is renamed while it goes up in pieces: no piece is sent twice, and no part of it is ever to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.remote.onego import OneGo
from tests.functional.drivers import tree, write
from tests.functional.stages import USER, VfsStage
from tests.servers import Account, Answer, Hold, StandIn

pytestmark = pytest.mark.shared_engine

OLD, LARGE = b"old", b"n" * (6 << 20)


@pytest.fixture
def account(server: StandIn) -> Account:
    made = server.account(USER)
    made.mkdir("/d")
    made.write("/d/known", OLD, mtime=1_600_000_000)
    return made


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[VfsStage]:
    monkeypatch.setattr(OneGo, "is_slow", lambda *_: True)  # so that new files go in pieces, too
    made = VfsStage(tmp_path / "engine", server)
    yield made
    made.close()


def files(account: Account) -> dict[str, bytes]:
    """Return the account's files."""
    return {path: content for path, content in account.tree().items() if content is not None}


def pieces(server: StandIn) -> list[str]:
    """Return the pieces that were sent, by name."""
    return [it.path.rpartition("/")[2] for it in server.requests.matching("PUT") if "/uploads/" in it.path]


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [("known", "d/known", "moved"), ("new", "d/new", "d/renamed"), ("new", "d", "e")],
)
def test_it_goes_up_once_and_is_moved(
    server: StandIn, stage: VfsStage, account: Account, name: str, source: str, target: str
) -> None:
    """By the name that it had when the first piece was sent, which all of them belong to; then by one MOVE."""
    before = files(account)
    piece = server.faults.add(Hold(), method="PUT", times=1)
    write(stage.root(), f"d/{name}", LARGE)
    assert piece.wait_hit()
    stage.root().rename(source, target)
    assert files(account) == before
    piece.release()
    stage.sync()
    assert pieces(server) == ["00001"]
    assert [it.path.endswith("/.file") for it in server.requests.matching("MOVE")] == [True, False]
    shown = {path: content for path, content in tree(stage.root()).items() if content is not None}
    assert files(account) == shown
    assert LARGE in shown.values()
    assert not account.uploads


def test_what_was_sent_before_the_line_broke_is_not_sent_again(
    server: StandIn, stage: VfsStage, account: Account
) -> None:
    server.faults.add(Answer(502), method="MOVE", times=None)
    write(stage.root(), "d/known", LARGE)
    stage.wait(lambda: bool(server.requests.matching("MOVE")))
    stage.root().rename("d/known", "renamed")
    server.faults.clear()
    stage.sync()
    assert pieces(server) == ["00001"]
    assert files(account) == {"renamed": LARGE}
    assert not account.uploads

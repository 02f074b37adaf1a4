"""Pieces of an upload that was given up are removed from the server; those of one that is still wanted are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.remote.onego import OneGo
from tests.functional.drivers import write
from tests.functional.stages import USER, VfsStage, wait_until
from tests.servers import Account, Answer, Hold, Record, StandIn

pytestmark = pytest.mark.shared_engine

OLD, NEW = b"old", b"n" * 100_000
"""More than fits one send: it goes over a file in pieces."""


@pytest.fixture
def account(server: StandIn) -> Account:
    made = server.account(USER)
    made.write("/file", OLD, mtime=1_600_000_000)
    return made


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, account: Account) -> VfsStage:
    """With an upload that ended before its last request."""
    made = VfsStage(tmp_path / "engine", server)
    server.faults.add(Answer(502), method="MOVE", times=None)
    write(made.root(), "file", NEW)
    wait_until(lambda: bool(server.requests.matching("MOVE")))
    assert account.uploads
    made.close()
    server.faults.clear()
    return made


def test_what_is_still_wanted_goes_on(server: StandIn, stage: VfsStage, account: Account) -> None:
    server.requests.reset()
    stage.reopen()
    stage.sync()
    stage.close()
    assert account.read("/file") == NEW
    assert not account.uploads
    assert not server.requests.matching("DELETE")


def test_what_was_written_over_is_removed_after_a_crash(
    server: StandIn, stage: VfsStage, account: Account
) -> None:
    (old,) = account.uploads
    server.faults.add(Answer(502), method="MKCOL", times=None)
    stage.reopen()
    write(stage.root(), "file", NEW + b"more")
    stage.restart()
    wait_until(lambda: old not in account.uploads)
    server.faults.clear()
    stage.sync()
    stage.close()
    assert account.read("/file") == NEW + b"more"
    assert not account.uploads


def test_what_was_removed_here_is_removed_there(stage: VfsStage, account: Account) -> None:
    stage.reopen()
    stage.root().unlink("file")
    stage.restart()
    wait_until(lambda: not account.uploads)
    stage.close()


@pytest.fixture
def new_line(tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[VfsStage]:
    """New files go in pieces, until the first one has shown that the line is quick."""
    monkeypatch.setattr(OneGo, "is_slow", lambda *_: True)
    monkeypatch.setattr("cloudfs.remote.onego._SENT_TWICE", 1.0)
    made = VfsStage(tmp_path / "engine", server)
    yield made
    made.close()


LARGE = b"l" * (6 << 20)


def test_the_piece_that_showed_a_quick_line_is_removed(
    new_line: VfsStage, server: StandIn, account: Account
) -> None:
    write(new_line.root(), "new", LARGE)
    new_line.sync()
    wait_until(lambda: not account.uploads)
    assert account.read("/new") == LARGE
    methods = [it.method for it in server.requests if it.method not in {"GET", "PROPFIND", "SEARCH"}]
    assert methods == ["MKCOL", "PUT", "PUT", "DELETE"]


def test_that_piece_is_removed_after_a_crash_too(
    new_line: VfsStage, server: StandIn, account: Account
) -> None:
    answer = server.faults.add(Hold(after_execution=True), method="PUT", path="/new$")
    write(new_line.root(), "new", LARGE)
    assert answer.wait_hit()
    assert account.uploads
    server.requests.reset()
    new_line.close()
    answer.release()
    new_line.reopen()
    new_line.sync()
    new_line.restart()
    wait_until(lambda: not account.uploads)
    assert account.read("/new") == LARGE
    assert not server.requests.matching("PUT"), "it had arrived"


def test_once_it_goes_whole_nothing_breaks_it_off(
    new_line: VfsStage, server: StandIn, account: Account
) -> None:
    """Cut, it could leave a part of the file."""
    answer = server.faults.add(Hold(), method="PUT", path="/new$")
    write(new_line.root(), "new", LARGE)
    assert answer.wait_hit()
    new_line.root().unlink("new")
    answer.release()
    new_line.sync()
    wait_until(lambda: not account.uploads)
    assert "/new" not in account.tree()
    assert [it.method for it in server.requests if it.path.endswith("/new")].count("DELETE") == 1


@pytest.mark.parametrize("status", [400, 408])
def test_what_was_cut_on_the_way_of_one_request_is_no_other_clients(
    new_line: VfsStage, server: StandIn, account: Account, status: int
) -> None:
    """A proxy heard no end of the body, and says so; an object store has what had come by then as the file."""

    def leaves_a_part(_: Record) -> bool:
        account.write("/new", LARGE[: 1 << 20])
        return True

    server.faults.add(Answer(status), method="PUT", path="/new$", predicate=leaves_a_part)
    write(new_line.root(), "new", LARGE)
    new_line.sync()
    wait_until(lambda: not account.uploads)
    assert {name: len(content or b"") for name, content in account.tree().items()} == {
        "file": len(OLD),
        "new": len(LARGE),
    }
    assert account.read("/new") == LARGE

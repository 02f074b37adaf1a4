"""Pieces of an upload that was given up are removed from the server; those of one that is still wanted are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.drivers import write
from tests.functional.stages import USER, VfsStage, wait_until
from tests.servers import Account, Answer, StandIn

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

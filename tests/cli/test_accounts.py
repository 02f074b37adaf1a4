"""`cloudfs accounts`: whatever one account's state is, all of them are shown."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudfs.config import Folders
from cloudfs.control.instance import Holder, hold
from cloudfs.errors import ExitCode
from tests.cli.conftest import Run, add_account

Mount = Callable[..., int]


def test_there_is_none(run: Run) -> None:
    assert run("accounts").out == "There is no account yet. Begin with `cloudfs login URL`.\n"
    assert json.loads(run("accounts", "--json").out) == []


@pytest.mark.mount
def test_each_with_its_place(run: Run, folders: Folders, mounted: Mount, mount_point: Path) -> None:
    add_account(folders, "away")
    folders.account_file("bad").write_text("url = 3\n")
    pid = mounted("work")
    result = run("accounts")
    assert result.code == ExitCode.OK
    away, bad, work = result.out.splitlines()
    assert away == "away  jo at https://h.example/dav/  not mounted"
    assert bad.startswith(f"bad   {folders.account_file('bad')}:1: url: expected `str`")
    assert work == f"work  jo at https://h.example/dav/  {mount_point} (online)"
    told = {line["name"]: line for line in json.loads(run("accounts", "--json").out)}
    assert (told["work"]["pid"], told["work"]["state"]) == (pid, "online")
    assert (told["away"]["mount_point"], told["away"]["state"]) == (None, "not-mounted")
    assert told["bad"]["state"] == "unusable"


def test_a_daemon_that_hangs(run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    add_account(folders)
    monkeypatch.setattr("cloudfs.cli.accounts._PATIENCE_S", 0.05)
    with hold(folders.account_state("work"), "work") as held, socket.socket(socket.AF_UNIX) as deaf:
        held.note(Holder(os.getpid(), "/m", str(folders.runtime)))
        deaf.bind(str(folders.runtime / "work.sock"))
        deaf.listen()
        (line,) = json.loads(run("accounts", "--json").out)
    assert (line["state"], line["mount_point"]) == ("unanswered", "/m")
    assert line["problem"] == "The daemon of this account cannot be asked: it does not answer."

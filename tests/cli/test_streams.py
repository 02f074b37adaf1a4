"""Standard streams that are closed, full, or read by nobody any more: a sentence, or none, and all the same done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.config import Account, Folders
from cloudfs.control.instance import find_holder
from cloudfs.errors import ExitCode
from tests.cli.conftest import REPOSITORY, Result, add_account
from tests.fuse.test_operations import wait_for


def run_with(streams: str, *words: object) -> Result:
    """Run `cloudfs` with its streams as the shell says it."""
    script = f'exec "$0" -P -m cloudfs "$@" {streams}'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_closed_ones(folders: Folders) -> None:
    add_account(folders)
    assert run_with(">&-", "accounts") == Result(0, "", "")
    result = run_with("2>&-", "accounts", "--json")
    assert (result.code, result.out[:1]) == (0, "[")
    assert run_with("<&- >&- 2>&-", "status") == Result(ExitCode.NOT_MOUNTED, "", "")


@pytest.mark.mount
def test_a_mount_without_any(folders: Folders, mount_point: Path) -> None:
    """What the daemon is told by takes the places of those that are closed."""
    config.write_secret(folders, "work", "app-password")
    account = Account(url="http://127.0.0.1:9/dav/", user="jo", features={"name": "WebDAV"})
    config.save_account(folders, "work", account)
    try:
        result = run_with("<&- >&- 2>&-", "mount", mount_point)
        assert result.code == 0, (folders.state / "work/daemon.log").read_text()
        assert find_holder(folders.state / "work") is not None
    finally:
        if holder := find_holder(folders.state / "work"):
            os.kill(holder.pid, signal.SIGTERM)
            wait_for(lambda: find_holder(folders.state / "work") is None)


def test_full_ones(folders: Folders) -> None:
    add_account(folders)
    result = run_with(">/dev/full", "accounts", "--json")
    assert (result.code, result.said[0]) == (1, "The output cannot be written: No space left on device.")


@pytest.mark.mount
def test_nobody_reads_what_is_watched(mounted: Callable[..., int], folders: Folders) -> None:
    mounted()
    result = run_with("| true", "status", "--watch", "--json")
    assert "cannot be asked" not in result.err

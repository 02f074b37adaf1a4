"""Ctrl-C before the mount answers: no word, exit code 130, nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudfs.config import Folders
from cloudfs.daemon.readiness import Ready
from cloudfs.errors import UserError
from tests.cli.conftest import REPOSITORY, add_account
from tests.fuse.conftest import is_mounted

HOOK = Path(__file__).parent / "interrupting"
CLI, DAEMON = "--foreground", "cloudfs.daemon"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mount_interrupted(place: Path, program: str, moment: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{HOOK}:{REPOSITORY}"}
    environ |= {"INTERRUPT_IN": program, "INTERRUPT_AT": moment}
    return subprocess.run(
        [sys.executable, "-P", "-m", "cloudfs", "mount", "--foreground", "work", str(place)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
    )


@pytest.mark.parametrize(
    ("program", "moment"),
    [
        (CLI, "import cloudfs.cli.main"),
        (CLI, "import typer"),
        (CLI, "import cloudfs.cli.mount"),
        (CLI, "os.exec"),
        (DAEMON, "start"),
        (DAEMON, "import trio"),
        (DAEMON, "import pyfuse3"),
    ],
)
def test_at_its_start(folders: Folders, mount_point: Path, program: str, moment: str) -> None:
    add_account(folders)
    before = content(folders.state.parent)
    done = mount_interrupted(mount_point, program, moment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert content(folders.state.parent) == before
    assert not is_mounted(mount_point)


@pytest.mark.mount
@pytest.mark.parametrize("moment", ["os.chdir", "sqlite3.connect"])
def test_while_the_account_is_opened(folders: Folders, mount_point: Path, moment: str) -> None:
    add_account(folders, "work", name="a server")
    done = mount_interrupted(mount_point, DAEMON, moment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert not is_mounted(mount_point)


def test_nobody_waits_for_it_any_more() -> None:
    """As after a terminal was closed, or `timeout 1 cloudfs mount`: it ends in order, as with Ctrl-C."""
    theirs, ours = os.pipe()
    os.close(theirs)
    with pytest.raises(UserError, match="has gone before"):
        Ready(ours).succeed("/m")

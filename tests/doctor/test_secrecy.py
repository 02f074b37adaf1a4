"""The password where nobody should read it: what `cloudfs doctor` says of files, logs and a running daemon."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudfs.config import Folders
from cloudfs.doctor.report import Verdict
from cloudfs.doctor.secrecy import check_files, check_logs, check_process

SECRET = "tree-house-17/+"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders.from_environment({"CLOUDFS_HOME": str(tmp_path)})
    made.create()
    made.account_file("work").touch(mode=0o600)
    made.account_state("work")
    return made


@pytest.mark.parametrize("which", ["account", "secret", "database", "cache"])
def test_a_file_that_others_may_read_is_found_and_closed(folders: Folders, which: str) -> None:
    assert check_files(folders, "work").verdict is Verdict.OK
    path = {
        "account": folders.account_file("work"),
        "secret": folders.state / "work/secret",
        "database": folders.state / "work/state.sqlite-wal",
        "cache": folders.account_cache("work") / "index",
    }[which]
    path.touch()
    path.chmod(0o640)
    found = check_files(folders, "work")
    assert (found.verdict, str(path) in found.reason) == (Verdict.PROBLEM, True)
    assert found.fix
    found.fix()
    assert path.stat().st_mode & 0o777 == 0o600
    assert check_files(folders, "work").verdict is Verdict.OK


def test_a_link_that_somebody_planted_is_not_followed(folders: Folders, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch(mode=0o644)
    (folders.state / "work/link").symlink_to(target)
    assert check_files(folders, "work").verdict is Verdict.OK


@pytest.mark.parametrize(
    "spelling", [SECRET, base64.b64encode(SECRET.encode()).decode(), "tree-house-17%2F%2B"]
)
def test_a_password_in_the_log_is_found(folders: Folders, spelling: str) -> None:
    assert check_logs(folders, "work", SECRET).verdict is Verdict.OK
    (folders.state / "work/daemon.log").write_text("nothing\n")
    assert check_logs(folders, "work", SECRET).verdict is Verdict.OK
    (folders.state / "work/daemon.log.2").write_bytes(b"\xff: " + spelling.encode() + b" was refused\n")
    found = check_logs(folders, "work", SECRET)
    assert (found.verdict, "daemon.log.2" in found.reason, SECRET in found.reason) == (
        Verdict.PROBLEM,
        True,
        False,
    )


def test_a_process_that_shows_it_is_found() -> None:
    pid = os.getpid()
    assert check_process("work", pid, SECRET, memory_closed=None).verdict is Verdict.SKIPPED
    assert check_process("work", pid, SECRET, memory_closed=False).verdict is Verdict.PROBLEM
    assert check_process("work", pid, SECRET, memory_closed=True).verdict is Verdict.OK
    for words, environ in ((["--password", SECRET], {}), ([], {"PASSWORD": SECRET})):
        command = [sys.executable, "-c", "print(flush=True); input()", *words]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as shown:
            assert shown.stdout
            shown.stdout.readline()
            found = check_process("work", shown.pid, SECRET, memory_closed=True)
            shown.kill()
        assert found.verdict is Verdict.PROBLEM
        assert SECRET not in found.reason

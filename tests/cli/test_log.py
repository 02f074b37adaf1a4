"""`cloudfs log`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudfs.cli import logs
from cloudfs.cli.logentries import Collector, of_journal
from cloudfs.config import Folders
from cloudfs.control.instance import Holder
from cloudfs.errors import ExitCode
from tests.cli.conftest import REPOSITORY, Run, add_account


@pytest.fixture
def file(folders: Folders) -> Path:
    add_account(folders)
    path = folders.account_state("work") / "daemon.log"
    path.write_text("first\nsecond\nthird\n")
    return path


def test_the_last_lines(run: Run, file: Path) -> None:
    assert run("log").out == "first\nsecond\nthird\n"
    assert run("log", "-n", 2).out == "second\nthird\n"
    assert run("log", "-n", 0).out == ""
    file.rename(file.with_name("daemon.log.1"))
    file.write_text("fourth\n")
    assert run("log", "work", "-n", 3).out == "second\nthird\nfourth\n"


def test_there_is_none(run: Run, folders: Folders) -> None:
    add_account(folders)
    result = run("log")
    assert result.code == ExitCode.NOT_DONE
    assert result.said[0] == "The account work has no log yet: it was never mounted here."


def test_following_goes_on_in_the_next_file(file: Path) -> None:
    command = [sys.executable, "-m", "cloudfs.cli.main", "log", "--follow", "-n", "1"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert following.stdout.readline() == "third\n"
        with file.open("a") as log:
            log.write("fourth\n")
            log.flush()
            assert following.stdout.readline() == "fourth\n"
            file.rename(file.with_name("daemon.log.1"))
            log.write("fifth\n")
        file.write_text("sixth\n")
        assert following.stdout.readline() == "fifth\n"
        assert following.stdout.readline() == "sixth\n"
        following.terminate()


def test_a_daemon_of_systemd_has_its_log_in_the_journal(tmp_path: Path) -> None:
    journalctl = tmp_path / "journalctl"
    journalctl.write_text('#!/bin/sh\necho "$@"\n')
    journalctl.chmod(0o755)
    command = [
        sys.executable,
        "-c",
        "from cloudfs.cli import logs; logs._show_journal('work', 5, follow=True)",
    ]
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(
        command, cwd=REPOSITORY, env=environ, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert said == "--user-unit=cloudfs@work --lines 5 --no-pager --follow\n"
    assert not logs.in_journal(None, "work")
    assert not logs.in_journal(Holder(os.getpid(), "/m", "/r"), "work")
    assert not logs.in_journal(Holder(2**30, "/m", "/r"), "work")


def test_a_line_that_is_no_text(run: Run, file: Path) -> None:
    file.write_bytes(b"caf\xe9\n")
    assert run("log").out == "caf\\xe9\n"


@pytest.mark.expect_log("ERROR cloudfs.x: failed")
def test_for_programs_each_message_is_a_line(run: Run, file: Path) -> None:
    at = time.mktime(time.strptime("2026-11-30 09:00:00", "%Y-%m-%d %H:%M:%S"))
    file.write_text(
        "what was cut off\n"
        "2026-11-30 09:00:00,250 INFO cloudfs.daemon: mounted work at /m\n"
        "2026-11-30 09:00:01,000 ERROR cloudfs.x: failed\nTraceback (most recent call last):\n  ValueError\n"
    )
    told = [json.loads(line) for line in run("log", "--json").out.splitlines()]
    assert [line["message"] for line in told] == [
        "what was cut off",
        "mounted work at /m",
        "failed\nTraceback (most recent call last):\n  ValueError",
    ]
    assert told[0]["time"] is None
    assert told[1] == {
        "time": at + 0.25,
        "level": "INFO",
        "logger": "cloudfs.daemon",
        "message": "mounted work at /m",
        "path": None,
        "request_id": None,
    }


def test_for_programs_a_line_that_is_being_written_waits_for_its_end() -> None:
    collector = Collector()
    begun = "2026-11-30 09:00:00,250 INFO cloudfs.x: half of"
    assert collector.take([begun]) + collector.end() == []
    (entry,) = collector.take([" it\n"]) + collector.end()
    assert entry.message == "half of it"


def test_the_journal_is_told_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {
        "__REALTIME_TIMESTAMP": "1780000000500000",
        "PRIORITY": "4",
        "CLOUDFS_LOGGER": "cloudfs.x",
        "CLOUDFS_PATH": "/docs/a.txt",
        "MESSAGE": list(b"caf\xe9"),
    }
    (tmp_path / "said").write_text(json.dumps(fields) + "\n")
    journalctl = tmp_path / "journalctl"
    journalctl.write_text(f'#!/bin/sh\necho "$@" >&2\necho no JSON\ncat {tmp_path}/said\n')
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    logs._show_journal("work", 5, follow=False, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "time": 1780000000.5,
        "level": "WARNING",
        "logger": "cloudfs.x",
        "message": "caf\\xe9",
        "path": "/docs/a.txt",
        "request_id": None,
    }
    several = of_journal(json.dumps(fields | {"MESSAGE": ["one", "two"], "PRIORITY": None}).encode())
    assert several is not None
    assert (several.message, several.level) == ("one", "INFO")

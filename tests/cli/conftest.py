"""The commands as processes of their own, and daemons that are ended whatever happens."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudfs import config
from cloudfs.cli.main import main
from cloudfs.cli.mount import start_daemon
from cloudfs.config import Account, Folders
from cloudfs.control.instance import find_holder
from tests.fuse.test_operations import wait_for

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        return self.err.splitlines()


Run = Callable[..., Result]


@pytest.fixture
def run(guarded_home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `cloudfs` with words, in this process: starting one for each command takes most of a test's time."""
    del guarded_home

    def run(*words: object, stdin: str = "") -> Result:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["cloudfs", *map(str, words)])
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            with pytest.raises(SystemExit) as ended:
                main()
        return Result(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def run_process(guarded_home: Path) -> Run:
    """Run `cloudfs` as a person does; the environment is the test's own."""
    del guarded_home

    def run(*words: object, cwd: Path | None = None) -> Result:
        command = [sys.executable, "-P", "-m", "cloudfs.cli.main", *map(str, words)]
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=60, cwd=cwd, env=environ
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def folders() -> Folders:
    made = Folders.from_environment()
    made.create()
    return made


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    path = tmp_path / "cloud"
    path.mkdir()
    return path


UNUSED = "unused"
"""An account that no test mounts: mounts are the machine's, and a dead one of its name, another test's, is told of."""


def add_account(folders: Folders, name: str = "work", /, **features: object) -> None:
    config.write_secret(folders, name, "app-password")
    config.save_account(folders, name, Account(url="https://h.example/dav/", user="jo", features=features))


@pytest.fixture
def mounted(folders: Folders, mount_point: Path) -> Iterator[Callable[..., int]]:
    """Mount an account over an engine that pretends; returns the daemon's pid."""
    names: list[str] = []
    pids: list[int] = []

    def mount(name: str = "work", at: Path | None = None, **features: object) -> int:
        names.append(name)
        add_account(folders, name, **features)
        environ = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(REPOSITORY)
        try:
            told = start_daemon(folders, name, str(at or mount_point), module="tests.control.pretending")
        finally:
            os.environ.pop("PYTHONPATH") if environ is None else os.environ.update(PYTHONPATH=environ)
        pids.append(told.pid)
        return told.pid

    yield mount
    for name in names:
        holder = find_holder(folders.state / name)
        if holder is not None:
            os.kill(holder.pid, signal.SIGKILL)
            wait_for(lambda name=name: find_holder(folders.state / name) is None)  # type: ignore[misc]
        place = holder.mount_point if holder else str(mount_point)
        subprocess.run(["fusermount3", "-uz", place], check=False, capture_output=True, timeout=20)
    for pid in pids:
        wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    """Wait until a daemon that this process started has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)

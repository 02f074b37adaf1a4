"""The systemd unit: that it says what it should, and that what it runs exists and works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer.core
import typer.main

from cloudfs.cli.main import app
from cloudfs.config import Folders
from cloudfs.errors import ExitCode
from tests.cli.conftest import REPOSITORY, add_account
from tests.fuse.conftest import is_mounted

UNIT = REPOSITORY / "systemd" / "cloudfs@.service"


def settings(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_what_it_starts_is_a_command_of_ours() -> None:
    (line,) = settings("ExecStart")
    program, name, *words = shlex.split(line.replace("%i", "work").replace("%h", "/home/jo"))
    assert Path(program).name == "cloudfs"
    commands = typer.main.get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)
    with commands.commands[name].make_context(name, words) as context:
        assert context.params["places"] == ["work", "/home/jo/Cloud/work"]
        assert context.params["foreground"]


def test_it_does_not_try_again_what_ends_the_same_way() -> None:
    (numbers,) = settings("RestartPreventExitStatus")
    codes = {ExitCode(int(number)) for number in numbers.split()}
    assert codes == {
        ExitCode.USAGE,
        ExitCode.NO_ACCOUNT,
        ExitCode.MOUNT_POINT,
        ExitCode.ALREADY_MOUNTED,
        ExitCode.NO_FUSE,
        ExitCode.BAD_CONFIG,
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    program = tmp_path / ".local/bin/cloudfs"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    environ = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    unit = tmp_path / UNIT.name
    shutil.copy(UNIT, unit)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
    )
    assert [line for line in done.stderr.splitlines() if "cloudfs" in line] == []


@pytest.mark.mount
@pytest.mark.parametrize("abstract", [False, True])
def test_it_hears_when_the_mount_answers(
    folders: Folders, mount_point: Path, tmp_path: Path, *, abstract: bool
) -> None:
    add_account(folders)
    address = f"@cloudfs-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        manager.settimeout(30)
        command = [sys.executable, "-m", "tests.control.pretending", "work", str(mount_point)]
        with subprocess.Popen(
            command, cwd=REPOSITORY, env={**os.environ, "NOTIFY_SOCKET": address}, stderr=subprocess.DEVNULL
        ) as daemon:
            assert manager.recv(1000) == f"READY=1\nSTATUS=mounted at {mount_point}".encode()
            assert (mount_point / "hello.txt").exists()
            daemon.send_signal(signal.SIGTERM)
            assert manager.recv(1000) == b"STOPPING=1"
            assert daemon.wait(20) == 0
    assert not is_mounted(mount_point)

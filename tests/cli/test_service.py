"""The systemd unit: that it says what it should, and that what it runs exists and works."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.core
import typer.main

from cloudfs.cli import service
from cloudfs.cli.main import app
from cloudfs.config import Folders
from cloudfs.errors import ExitCode
from cloudfs.vault.keyholding import _PATIENCE_S
from tests.cli.conftest import REPOSITORY, Run, add_account
from tests.fuse.conftest import is_mounted

UNIT = REPOSITORY / "systemd" / "cloudfs@.service"


def settings(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_what_it_starts_is_a_command_of_ours() -> None:
    (line,) = settings("ExecStart")
    assert settings("Environment") == ["CLOUDFS_PLACE=%h/Cloud/%i"]
    line = line.replace("${CLOUDFS_PLACE}", "%h/Cloud/%i")
    program, name, *words = shlex.split(line.replace("%i", "work").replace("%h", "/home/jo"))
    assert Path(program).name == "cloudfs"
    commands = typer.main.get_command(app)
    assert isinstance(commands, typer.core.TyperGroup)
    with commands.commands[name].make_context(name, words) as context:
        assert [*context.params["places"]] == ["work", "/home/jo/Cloud/work"]
        assert context.params["foreground"]


def test_nothing_in_it_takes_fusermount3_its_rights() -> None:
    """Of a user's manager each of these implies NoNewPrivileges, or a mount namespace."""
    names = re.findall(r"^(\w+)=", UNIT.read_text(), re.MULTILINE)
    starts = (
        "NoNew",
        "Protect",
        "Private",
        "ReadOnly",
        "ReadWrite",
        "System",
        "Restrict",
        "Lock",
        "Memory",
        "Capab",
    )
    assert [name for name in names if name.startswith(starts) and not name.startswith("RestartPrev")] == []


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


def test_it_tries_for_ever_while_the_keyring_is_locked() -> None:
    """Each try waits for the key itself, so that they never come as fast as those that systemd gives up on."""
    (pause,), (within,), (tries,) = map(settings, ("RestartSec", "StartLimitIntervalSec", "StartLimitBurst"))
    waited = _PATIENCE_S + int(pause)
    assert (int(tries) - 1) * waited > int(within)
    assert settings("Restart") == ["on-failure"]
    assert str(int(ExitCode.NOT_DONE)) not in settings("RestartPreventExitStatus")[0].split()
    # And what may follow at the same start: its files are encrypted or decrypted, which takes up to a minute.
    assert int(settings("TimeoutStartSec")[0]) >= _PATIENCE_S + 60 + 30


def verify(unit: Path, home: Path) -> list[str]:
    """Return what systemd has to say of a unit."""
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", str(unit)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
    )
    return [line for line in done.stderr.splitlines() if "cloudfs" in line]


needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


@needs_systemd
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    program = tmp_path / ".local/bin/cloudfs"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    unit = tmp_path / UNIT.name
    shutil.copy(UNIT, unit)
    assert verify(unit, tmp_path) == []


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
            assert manager.recv(1000) == f"STATUS={mount_point}: online".encode()
            assert (mount_point / "hello.txt").exists()
            daemon.send_signal(signal.SIGTERM)
            assert manager.recv(1000) == b"STOPPING=1"
            assert daemon.wait(20) == 0
    assert not is_mounted(mount_point)


@pytest.mark.mount
def test_it_says_that_it_lives_while_the_mount_answers(
    folders: Folders, mount_point: Path, tmp_path: Path
) -> None:
    add_account(folders)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        command = [sys.executable, "-m", "tests.control.pretending", "work", str(mount_point)]
        environ = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with subprocess.Popen(command, cwd=REPOSITORY, env=environ, stderr=subprocess.DEVNULL) as daemon:
            heard = {manager.recv(1000).split(b"=")[0] for _ in range(4)}
            assert {b"READY", b"STATUS", b"WATCHDOG"} == heard
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0


# --- `cloudfs service`


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down what it is told; what it answers stands in the file `answer` beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/asked\n'
        f'case "$*" in *show*) cat {folder}/shown 2>/dev/null;; esac\n'
        f"[ ! -e {folder}/refusal ] || {{ cat {folder}/refusal >&2; exit 1; }}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


def asked(systemctl: Path) -> list[str]:
    path = systemctl / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_a_life_of_a_unit(run: Run, folders: Folders, systemctl: Path, tmp_path: Path) -> None:
    add_account(folders)
    assert run("service", "start").said == ["The unit is not installed.", "`cloudfs service install work`"]
    assert run("service", "install", "--at", tmp_path / "100% mine").code == ExitCode.OK
    units = tmp_path / "config/systemd/user"
    text = (units / UNIT.name).read_text()
    assert "%h/.local/bin" not in text
    assert f"ExecStart={Path(sys.executable).with_name('cloudfs')} mount --foreground" in text
    assert (units / "cloudfs@work.service.d/place.conf").read_text() == (
        f'[Service]\nEnvironment="CLOUDFS_PLACE={tmp_path}/100%% mine"\n'
        f"Environment=CLOUDFS_HOME={os.environ['CLOUDFS_HOME']}\n"
    )
    for words in (("enable",), ("stop",), ("start", "work"), ("uninstall",)):
        assert run("service", *words).code == ExitCode.OK
    user = "--user --no-pager"
    assert [it for it in asked(systemctl) if " show " not in it] == [
        f"{user} daemon-reload",
        f"{user} enable cloudfs@work.service",
        f"{user} start cloudfs@work.service",
        f"{user} stop cloudfs@work.service",
        f"{user} start cloudfs@work.service",
        f"{user} disable --now cloudfs@work.service",
        f"{user} daemon-reload",
        f"{user} reset-failed cloudfs@work.service",
    ]
    assert list(units.iterdir()) == []


@pytest.mark.usefixtures("systemctl")
def test_who_starts_it_learns_how_it_stands_with_the_server(
    run: Run, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(folders)
    told: list[str] = []
    monkeypatch.setattr(service, "warn", lambda _, name: told.append(name))
    run("service", "install")
    for words, names in (
        (("enable",), ["work"]),
        (("start", "--json"), ["work"]),
        (("start",), ["work"] * 2),
    ):
        assert run("service", *words).code == ExitCode.OK
        assert told == names


def test_the_package_s_own_unit_is_used_where_it_came_by_one(
    run: Run, folders: Folders, systemctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(folders)
    units = tmp_path / "config/systemd/user"
    assert run("service", "install").code == ExitCode.OK
    assert (units / UNIT.name).exists()

    monkeypatch.setattr(sys, "prefix", str(tmp_path / "lib/cloudfs"))
    packaged = tmp_path / "lib/systemd/user" / UNIT.name
    packaged.parent.mkdir(parents=True)
    shutil.copy(UNIT, packaged)
    assert run("service", "start").code == ExitCode.OK  # there is nothing to put in place first
    assert run("service", "install", "--at", tmp_path / "there").code == ExitCode.OK
    assert not (units / UNIT.name).exists()  # it would hide the package's, also from its updates
    assert str(tmp_path / "there") in (units / "cloudfs@work.service.d/place.conf").read_text()
    (systemctl / "shown").write_text("ActiveState=inactive\n")
    assert json.loads(run("service", "status", "--json").out)["installed"]
    assert run("service", "uninstall").code == ExitCode.OK
    assert packaged.exists()


@needs_systemd
def test_systemd_finds_nothing_wrong_with_what_is_installed(
    run: Run, folders: Folders, systemctl: Path, tmp_path: Path
) -> None:
    add_account(folders)
    assert run("service", "install", "--at", tmp_path / "a place").code == ExitCode.OK
    assert asked(systemctl)
    assert verify(tmp_path / "config/systemd/user" / UNIT.name, tmp_path) == []


def test_how_a_unit_is(run: Run, folders: Folders, systemctl: Path) -> None:
    add_account(folders)
    shown = systemctl / "shown"
    shown.write_text(
        "UnitFileState=enabled\nActiveState=active\nStatusText=/m: online, 3 to send\nMainPID=7\nNRestarts=2\n"
    )
    result = run("service", "status")
    assert (result.code, result.out.splitlines()) == (
        ExitCode.OK,
        [
            "cloudfs@work.service: active, enabled",
            "  /m: online, 3 to send",
            "  process 7",
            "  restarted 2 times; `cloudfs service logs work` tells why",
        ],
    )
    shown.write_text("UnitFileState=\nActiveState=inactive\nMainPID=0\nNRestarts=0\n")
    result = run("service", "status", "--json")
    assert (result.code, result.said[0]) == (ExitCode.NOT_MOUNTED, "There is no unit for work yet.")
    assert json.loads(result.out)["active"] == "inactive"


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ("Failed to connect to bus: No medium found", "No systemd manager runs for you in this session."),
        ("Job for x failed.\nSee more.", "systemd refused: Job for x failed."),
    ],
)
def test_what_systemd_refuses(
    run: Run, folders: Folders, systemctl: Path, refusal: str, sentence: str
) -> None:
    add_account(folders)
    run("service", "install")
    (systemctl / "refusal").write_text(refusal)
    result = run("service", "start")
    assert (result.code, result.said[0], len(result.said)) == (ExitCode.NOT_DONE, sentence, 2)


def test_without_systemd(run: Run, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_account(folders)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("service", "install").said[0] == "There is no systemd here."
    assert not (tmp_path / "systemd").exists()


@pytest.mark.mount
def test_one_that_a_person_has_mounted(
    run: Run, mounted: Callable[..., int], systemctl: Path, mount_point: Path
) -> None:
    pid = mounted()
    run("service", "install")
    result = run("service", "start")
    assert result.code == ExitCode.ALREADY_MOUNTED
    assert result.said[0] == f"The account work is already mounted at {mount_point} by the process {pid}."
    assert [it for it in asked(systemctl) if " show " not in it] == ["--user --no-pager daemon-reload"]

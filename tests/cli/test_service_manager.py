"""The unit under systemd's real manager of a user, in namespaces of its own: start, stop, kill, hang."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.cli.conftest import REPOSITORY
from tests.fuse.test_operations import wait_for
from tests.tooling.needs import find_program, missing

PASSWORD = "tree-house-17"
UNIT = "cloudfs@work.service"
CLOUDFS = Path(sys.executable).with_name("cloudfs")
HANG_S = 10
"""WatchdogSec= of this test: the daemon says four times within it that it lives."""

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass
class Manager:
    """A running manager, and the way in to it."""

    pid: int
    """Of the first process in its namespaces, as seen from here."""
    environ: dict[str, str]
    place: Path
    log: Path

    def run(self, *command: object, code: int | None = 0) -> str:
        """Run a program in there; return what it prints."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--cgroup", "--"]
        done = subprocess.run(
            [*enter, *map(str, command)],
            check=False,
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=120,
        )
        assert code in {None, done.returncode}, f"{command}: {done.stderr}\n{self.log.read_text()}"
        return done.stdout

    def service(self, *words: object) -> str:
        """Run `cloudfs service` in there."""
        return self.run(CLOUDFS, "service", *words)

    def shown(self, name: str) -> str:
        """Return a property of the unit."""
        return self.run("systemctl", "--user", "show", "--value", "--property", name, UNIT).strip()

    def answers(self) -> bool:
        """Tell whether the mount does."""
        return self.run("cat", self.place / "a.txt", code=None) == "what the server has\n"

    def mounts(self) -> str:
        """Return what is mounted of cloudfs in there, dead or not."""
        return self.run("findmnt", "--noheadings", "--output", "TARGET", "--types", "fuse.cloudfs", code=None)

    def endings(self) -> list[str]:
        """Return how each run ended, as systemd says it (systemd.exec(5), SERVICE_RESULT)."""
        return Path(self.environ["HOME"], "ended").read_text().split()

    def is_up_again(self, before: str) -> bool:
        """Tell whether another process than `before` serves the mount."""
        return (
            self.shown("ActiveState") == "active"
            and self.shown("MainPID") not in {"0", before}
            and self.answers()
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve an account on loopback; its address."""
    tree, password = tmp_path / "tree", tmp_path / "password"
    tree.mkdir()
    (tree / "a.txt").write_text("what the server has\n")
    password.write_text(PASSWORD)
    command = [sys.executable, "-m", "tests.servers.standin", "--user", "zoe"]
    command += ["--password-file", str(password), "--tree", str(tree)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())["url"]
        process.kill()


@pytest.fixture
def manager(tmp_path: Path, guarded_home: Path, server: str) -> Iterator[Manager]:
    """Run the manager of a user who has an account, and installed its unit."""
    for program, package in (("systemctl", "systemd"), ("dbus-daemon", "dbus"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            missing(f"{program} (Debian's package {package})")
    if os.geteuid() != 0:
        pytest.skip("a manager in namespaces of its own is started by root alone")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "CLOUDFS_HOME": str(guarded_home),
        "XDG_RUNTIME_DIR": "/run/user/0",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/0/bus",
    }
    place, log = tmp_path / "a place", tmp_path / "manager.log"
    (tmp_path / "home").mkdir()
    command = ["unshare", "--mount", str(REPOSITORY / "tests/cli/user_manager.sh")]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True
        )
    assert process.stdin
    assert process.stdout
    with process, process.stdin:
        if process.stdout.readline() != "ready\n":
            reasons = log.read_text().splitlines() or ["it ended without a word"]
            pytest.skip(f"no manager of a user can run here: {reasons[-1]}")
        found = Manager(innermost(process.pid), environ, place, log)
        login = ["login", server, "--user", "zoe", "--account", "work", "--password-stdin"]
        subprocess.run(
            [CLOUDFS, *login], input=PASSWORD, env=environ, text=True, check=True, capture_output=True
        )
        found.service("install", "--at", place)
        yield found


def innermost(pid: int) -> int:
    """Return the first process in the namespaces: the script's child is unshare, and that one's is it."""
    for _ in range(2):
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return pid


def change(manager: Manager, *settings: str) -> None:
    """Change the unit as a user would, in a drop-in, which also has it write down how each run ended."""
    folder = Path(manager.environ["HOME"]) / f".config/systemd/user/{UNIT}.d"
    ended = """ExecStopPost=/bin/sh -c 'echo "$$SERVICE_RESULT" >>"$$HOME/ended"'"""
    (folder / "test.conf").write_text("\n".join(["[Service]", ended, *settings, ""]))
    manager.run("systemctl", "--user", "daemon-reload")


def test_it_is_started_when_the_mount_answers_and_unmounts_when_stopped(manager: Manager) -> None:
    manager.service("start")
    assert manager.answers()  # at once: `start` returned when it did
    state = json.loads(manager.service("status", "--json"))
    assert (state["active"], state["restarts"]) == ("active", 0)
    wait_for(lambda: manager.shown("StatusText") == f"{manager.place}: online", timeout_s=60)
    manager.run("sh", "-c", 'echo mine >"$1"', "sh", manager.place / "b.txt")

    manager.service("stop")
    assert (manager.shown("ActiveState"), manager.shown("Result")) == ("inactive", "success")
    assert manager.shown("NRestarts") == "0"
    assert manager.mounts() == ""
    assert list(manager.place.iterdir()) == []

    manager.service("start")
    assert manager.run("cat", manager.place / "b.txt") == "mine\n"
    manager.service("uninstall")
    assert manager.mounts() == ""


def journal(manager: Manager, *matches: str) -> list[dict[str, str]]:
    """Return what is in there of these fields."""
    lines = manager.run("journalctl", "--output", "json", "--no-pager", *matches, code=None).splitlines()
    return [json.loads(line) for line in lines]


def test_the_journal_has_fields_and_a_reload_takes_over_settings(manager: Manager) -> None:
    manager.service("start")
    wait_for(lambda: bool(journal(manager, "CLOUDFS_LOGGER=cloudfs.daemon")), timeout_s=60)
    said = journal(manager, "CLOUDFS_ACCOUNT=work", "CLOUDFS_LOGGER=cloudfs.daemon")[0]
    assert said["MESSAGE"] == f"mounted work at {manager.place}"
    assert (said["PRIORITY"], said["SYSLOG_IDENTIFIER"]) == ("6", "cloudfs")
    assert said["_SYSTEMD_USER_UNIT"] == UNIT
    assert said["MESSAGE"] in manager.run(CLOUDFS, "log", "work")

    account = Path(manager.environ["CLOUDFS_HOME"]) / "config/accounts/work.toml"
    account.write_text(account.read_text() + '\n[bandwidth]\nup = "1 MB/s"\n')
    manager.run("systemctl", "--user", "reload", UNIT)
    assert json.loads(manager.run(CLOUDFS, "status", "--json"))["limits"]["up"] == 1e6
    wait_for(lambda: bool(journal(manager, "CLOUDFS_LOGGER=cloudfs.sync.throttling")), timeout_s=60)
    account.write_text(account.read_text() + "nonsense\n")
    manager.run("systemctl", "--user", "reload", UNIT, code=1)
    assert manager.shown("ActiveState") == "active"
    assert manager.answers()


def test_a_killed_daemon_is_started_again_and_its_dead_mount_is_cleared(manager: Manager) -> None:
    change(manager, "RestartSec=0")
    manager.service("start")
    before = manager.shown("MainPID")
    manager.run("kill", "-KILL", before)
    wait_for(lambda: manager.is_up_again(before), timeout_s=120)
    assert int(manager.shown("NRestarts")) >= 1
    assert "signal" in manager.endings()
    assert manager.mounts().splitlines() == [str(manager.place)]
    manager.service("stop")
    assert manager.mounts() == ""


def test_a_daemon_that_hangs_is_ended_and_started_again(manager: Manager) -> None:
    change(manager, "RestartSec=0", f"WatchdogSec={HANG_S}")
    manager.service("start")
    before = manager.shown("MainPID")
    manager.run("kill", "-STOP", before)
    wait_for(lambda: manager.is_up_again(before), timeout_s=120)
    assert "watchdog" in manager.endings()
    assert manager.mounts().splitlines() == [str(manager.place)]


def test_a_locked_keyring_is_waited_for_as_long_as_it_takes(manager: Manager) -> None:
    """Not by failing and being started again: what waits is there, says why, and mounts once it may."""
    if find_program("gnome-keyring-daemon") is None:
        missing("gnome-keyring-daemon (Debian's package gnome-keyring)")
    keyring = "echo -n a-Pass-123 | gnome-keyring-daemon --replace --components=secrets"
    manager.run("sh", "-c", f"{keyring} --unlock")
    account = Path(manager.environ["CLOUDFS_HOME"]) / "config/accounts/work.toml"
    account.write_text(
        account.read_text() + 'cache_encrypt = true\ncache_key = "keyring"\n'
    )  # [settings] comes last
    limit_s = 15
    change(manager, f"TimeoutStartSec={limit_s}", "RestartSec=0")
    manager.service("start")
    assert manager.answers()
    manager.service("stop")

    manager.run("sh", "-c", "gnome-keyring-daemon --replace --components=secrets --daemonize")
    manager.run("systemctl", "--user", "start", "--no-block", UNIT)
    wait_for(lambda: "waiting for the keyring" in manager.shown("StatusText"), timeout_s=60)
    before, began = manager.shown("MainPID"), time.monotonic()
    wait_for(lambda: time.monotonic() > began + limit_s, timeout_s=60)
    assert (manager.shown("ActiveState"), manager.shown("MainPID")) == ("activating", before)
    assert manager.mounts() == ""
    said = manager.run(CLOUDFS, "status", "--json", code=int(ExitCode.NOT_MOUNTED))
    assert "waiting for the keyring" in said, said
    manager.run("sh", "-c", f"{keyring} --unlock")
    wait_for(manager.answers, timeout_s=60)
    assert (manager.shown("MainPID"), manager.shown("NRestarts")) == (before, "0")
    assert manager.endings() == ["success"]


def test_what_ends_the_same_way_is_not_tried_again(manager: Manager) -> None:
    manager.place.mkdir()
    (manager.place / "a file").touch()
    manager.run(CLOUDFS, "service", "start", code=6)
    assert manager.shown("ActiveState") == "failed"
    assert manager.shown("NRestarts") == "0"
    assert manager.shown("ExecMainStatus") == "20"

"""Mount, look, wait, unmount: the real daemon over an engine that pretends."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudfs.cli.common import connect
from cloudfs.config import Folders
from cloudfs.control.instance import find_holder
from cloudfs.errors import ExitCode, UserError
from tests.cli.conftest import REPOSITORY, Run, add_account, wait_for_end
from tests.fuse.conftest import is_mounted
from tests.fuse.test_operations import errno_of, wait_for

pytestmark = pytest.mark.mount

Mount = Callable[..., int]


def test_a_whole_life(run: Run, mounted: Mount, mount_point: Path, folders: Folders) -> None:
    pid = mounted()
    assert (mount_point / "hello.txt").read_bytes() == b"hello world\n"
    answer = json.loads(run("status", "--json").out)
    assert answer["pid"] == pid
    assert answer["mount_point"] == str(mount_point)
    assert (answer["pending"], answer["state"], answer["account"]) == (0, "online", "work")
    assert "mounted at" in run("status").out
    assert run("sync", "--wait").out == "work: everything is on the server.\n"
    file = mount_point / "hello.txt"
    assert run("sync", "--wait", file).out == f"{file}: everything is on the server.\n"
    result = run("unmount")
    assert result.out == f"Unmounted work from {mount_point}; everything is on the server.\n"
    assert not is_mounted(mount_point)
    assert find_holder(folders.state / "work") is None
    assert os.listdir(folders.runtime) == []
    assert run("status").code == ExitCode.NOT_MOUNTED


def test_the_secret_is_nowhere_to_be_seen(mounted: Mount, folders: Folders, run: Run) -> None:
    pid = mounted()
    assert b"app-password" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    answer = run("status", "--json").out
    # Its own word, as the kernel tells it: root reads all the same.
    assert json.loads(answer)["memory_closed"] is True
    if os.geteuid() == 0:
        assert b"app-password" not in Path(f"/proc/{pid}/environ").read_bytes()
    else:
        # Not dumpable: its environment and memory are closed even to its own user.
        assert errno_of(Path(f"/proc/{pid}/environ").read_bytes) == errno.EACCES
        assert errno_of(lambda: os.open(f"/proc/{pid}/mem", os.O_RDONLY)) == errno.EACCES
    assert "app-password" not in (folders.state / "work" / "daemon.log").read_text()
    assert "app-password" not in answer


def test_the_daemon_stands_alone(mounted: Mount, folders: Folders) -> None:
    pid = mounted()
    assert os.getsid(pid) == pid
    if os.geteuid() == 0:
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    limits = Path(f"/proc/{pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core"))
    # Both: the one in force may be 0 without us, and the other is what it can be raised to.
    assert core.split()[4:6] == ["0", "0"]
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Umask:\t0077" in status
    files = [path for path in (folders.state / "work").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_an_idle_daemon_is_small(mounted: Mount) -> None:
    pid = mounted()
    line = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    assert int(line.split()[1]) < 80_000


def test_a_second_mount_names_process_and_place(
    mounted: Mount, run: Run, mount_point: Path, tmp_path: Path
) -> None:
    pid = mounted()
    (tmp_path / "other").mkdir()
    for place in (mount_point, tmp_path / "other"):
        result = run("mount", place)
        assert result.code == ExitCode.ALREADY_MOUNTED
        assert result.said[0] == f"The account work is already mounted at {mount_point} by the process {pid}."
    assert (mount_point / "hello.txt").exists()


def test_two_accounts_side_by_side(mounted: Mount, run: Run, tmp_path: Path, mount_point: Path) -> None:
    (tmp_path / "second").mkdir()
    mounted("work")
    mounted("home", at=tmp_path / "second")
    assert json.loads(run("status", "home", "--json").out)["mount_point"] == str(tmp_path / "second")
    assert run("sync", "--wait", tmp_path / "second" / "hello.txt").code == ExitCode.OK
    assert run("unmount", tmp_path / "second").code == ExitCode.OK
    assert is_mounted(mount_point)
    assert run("unmount", "work").code == ExitCode.OK


def test_what_cannot_go_up_is_listed(mounted: Mount, run: Run, mount_point: Path) -> None:
    mounted(pending=2, blocked=True)
    result = run("sync", "--wait")
    assert result.code == ExitCode.PENDING
    assert result.said == ["1 change is not on the server.", "/a.txt: no space. Next step: make some"]
    assert "blocked     /a.txt: no space" in run("status").out
    result = run("unmount", "--wait", "work")
    assert result.code == ExitCode.PENDING
    assert result.said[:2] == [
        "1 change is not on the server. It stays mounted.",
        "/a.txt: no space. Next step: make some",
    ]
    assert is_mounted(mount_point)
    assert run("unmount", mount_point).out == (
        f"Unmounted work from {mount_point}. 1 change is not on the server yet; it goes up after the next mount.\n"
    )


def test_waiting_ends_at_the_time_limit(mounted: Mount, run: Run, mount_point: Path) -> None:
    mounted(pending=2)
    (mount_point / "never").touch()
    result = run("sync", "--wait", mount_point / "never", "--timeout", "0.2")
    assert result.code == ExitCode.OK  # nothing below it is pending
    assert run("sync", "--wait", mount_point / "absent").said[0].endswith("does not exist.")


def test_ctrl_c_while_waiting(mounted: Mount, mount_point: Path) -> None:
    mounted()
    (mount_point / "never").touch()
    command = [sys.executable, "-m", "cloudfs.cli.main", "sync", "--wait", str(mount_point / "never")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=10)
    assert waiting.returncode == 130
    assert b"Traceback" not in said


@pytest.mark.expect_log("is in use: a program has a file or a working folder there. Detached")
def test_a_mount_in_use_is_refused_unless_lazy(mounted: Mount, run: Run, mount_point: Path) -> None:
    mounted()
    descriptor = os.open(mount_point / "hello.txt", os.O_RDONLY)
    result = run("unmount")
    assert result.code == ExitCode.MOUNT_POINT
    assert "is in use" in result.said[0]
    assert os.read(descriptor, 5) == b"hello"
    assert run("unmount", "--lazy").code == ExitCode.OK
    assert errno_of(lambda: os.close(descriptor)) == errno.ENOTCONN
    assert not is_mounted(mount_point)


def test_a_killed_daemon_is_cleared_away(
    mounted: Mount, run: Run, mount_point: Path, folders: Folders
) -> None:
    os.kill(mounted(), signal.SIGKILL)
    wait_for(lambda: find_holder(folders.state / "work") is None)
    dead = f"The mount of the account work at {mount_point} is dead: its process is gone."
    for words in (("status",), ("sync", "--wait"), ("sync", "--wait", mount_point / "hello.txt")):
        said = run(*words)
        assert (said.code, said.said[0]) == (ExitCode.NOT_MOUNTED, dead)
        assert f"`cloudfs mount work {mount_point}`" in said.said[1]
    assert is_mounted(mount_point)
    result = run("unmount", "work")
    assert result.code == ExitCode.OK
    assert result.out.startswith("Cleared the dead mount of work")
    assert not is_mounted(mount_point)
    assert run("unmount", "work").code == ExitCode.NOT_MOUNTED


@pytest.mark.expect_log("cleared the mount of account work that a killed daemon left", optional=True)
def test_after_a_kill_it_mounts_again_at_the_same_place(
    mounted: Mount, mount_point: Path, folders: Folders
) -> None:
    os.kill(mounted(), signal.SIGKILL)
    wait_for(lambda: find_holder(folders.state / "work") is None)
    mounted()
    assert (mount_point / "hello.txt").exists()


def test_a_dead_mount_is_found_by_its_place(
    mounted: Mount, run: Run, mount_point: Path, folders: Folders
) -> None:
    os.kill(mounted(), signal.SIGKILL)
    wait_for(lambda: find_holder(folders.state / "work") is None)
    assert run("unmount", mount_point).code == ExitCode.OK


def test_a_dead_mount_is_found_by_its_name_in_the_working_folder(
    mounted: Mount, run: Run, mount_point: Path, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(mounted(), signal.SIGKILL)
    wait_for(lambda: find_holder(folders.state / "work") is None)
    # Until then the kernel answers by itself.
    wait_for(lambda: not os.path.exists(mount_point), 30)
    monkeypatch.chdir(mount_point.parent)
    assert run("unmount", mount_point.name).out.startswith("Cleared the dead mount of work")
    assert not is_mounted(mount_point)


def test_sighup_has_it_read_its_file_again(mounted: Mount, mount_point: Path, folders: Folders) -> None:
    log = folders.state / "work" / "daemon.log"
    os.kill(mounted(), signal.SIGHUP)
    wait_for(lambda: "reloaded" in log.read_text(), 10)
    assert is_mounted(mount_point)


def test_sighup_ends_what_belongs_to_a_terminal(folders: Folders, mount_point: Path) -> None:
    """As when its window is closed."""
    add_account(folders)
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    daemon = [sys.executable, "-m", "tests.control.pretending", "work", str(mount_point)]
    command = [sys.executable, "-c", take, *daemon]
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr
        assert f"mounted work at {mount_point}" in process.stderr.readline()
        os.close(theirs)
        os.close(ours)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "ending: SIGHUP" in said
    assert not is_mounted(mount_point)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(mounted: Mount, mount_point: Path, folders: Folders, number: int) -> None:
    os.kill(mounted(), number)
    wait_for(lambda: find_holder(folders.state / "work") is None, 10)
    assert not is_mounted(mount_point)
    assert "Traceback" not in (folders.state / "work" / "daemon.log").read_text()


@pytest.mark.expect_log(
    r"CRITICAL cloudfs.daemon: the daemon ended\n(.*\n)*.*LocalDamage: the database is broken"
)
def test_an_engine_that_does_not_start_is_a_sentence(mounted: Mount, mount_point: Path) -> None:
    with pytest.raises(UserError, match="The daemon ended: the database is broken"):
        mounted(crash="start")
    assert not is_mounted(mount_point)


@pytest.mark.expect_log(r"CRITICAL cloudfs.daemon: the daemon ended\n(.*\n)*.*ZeroDivisionError")
def test_an_engine_that_breaks_leaves_no_mount(mounted: Mount, mount_point: Path, folders: Folders) -> None:
    wait_for_end(mounted(crash="later"))
    assert not is_mounted(mount_point)
    assert "ZeroDivisionError" in (folders.state / "work" / "daemon.log").read_text()


def test_the_foreground_serves_until_ctrl_c(folders: Folders, mount_point: Path) -> None:
    add_account(folders)
    command = [sys.executable, "-m", "tests.control.pretending", "work", str(mount_point)]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr
        assert f"mounted work at {mount_point}" in daemon.stderr.readline()
        assert (mount_point / "hello.txt").exists()
        daemon.send_signal(signal.SIGINT)
        _, said = daemon.communicate(timeout=20)
    assert daemon.returncode == 0
    assert "unmounted work" in said
    assert not is_mounted(mount_point)


def test_waiting_for_a_path_that_is_not_there_says_so(mounted: Mount, folders: Folders) -> None:
    mounted()
    with connect(folders, "work") as client, pytest.raises(UserError, match="There is no /none"):
        client.sync_wait("/none", 5.0, report=lambda _progress: None)


def test_a_path_and_another_account(run: Run, folders: Folders, mounted: Mount, mount_point: Path) -> None:
    add_account(folders, "other")
    mounted()
    result = run("sync", "--wait", mount_point, "--account", "other")
    assert result.code == ExitCode.USAGE
    assert "is in the account work, not in other" in result.said[0]


def test_what_is_printed_for_programs(mounted: Mount, run: Run, mount_point: Path, folders: Folders) -> None:
    mounted(pending=2, blocked=True)
    result = run("sync", "--wait", "--json")
    told = json.loads(result.out)
    assert (result.code, told["pending"], told["blocked"][0]["path"]) == (ExitCode.PENDING, 1, "/a.txt")
    told = json.loads(run("unmount", "--json").out)
    assert told == {
        "account": "work",
        "mount_point": str(mount_point),
        "pending": 1,
        "pending_bytes": 0,
    }
    os.kill(mounted(), signal.SIGKILL)
    wait_for(lambda: find_holder(folders.state / "work") is None)
    told = json.loads(run("unmount", "work", "--json").out)
    assert (told["mount_point"], told["pending"]) == (str(mount_point), None)

"""A real mount with its password in a real keyring: locked, unlocked, gone, and back."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.cli import keeping
from cloudfs.config import Folders
from tests.functional.stages import PASSWORD, REPOSITORY, USER, MountStage
from tests.secrets.session import Desktop
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

WAITING = "waiting for the keyring"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn({USER: PASSWORD}) as standin:
        standin.account(USER).write("/unknown.txt", b"never read here")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, desktop: Desktop) -> Iterator[MountStage]:
    """Mounted, with its password in the keyring, and one file that was read; plain on the disk, or it would wait."""
    made = MountStage(tmp_path / "home", server, settings="cache_encrypt = false\n")
    (made.mount_point / "known").write_bytes(b"known")
    made.sync()
    yield made
    made.close()


def folders(stage: MountStage) -> Folders:
    return Folders.from_environment({"CLOUDFS_HOME": str(stage.home)})


def log(stage: MountStage) -> str:
    return (stage.home / "state/a/daemon.log").read_text()


def mount_again(stage: MountStage) -> None:
    stage.cloudfs("unmount", "a")
    stage.mount()


def secret(desktop: Desktop) -> str:
    (found,) = desktop.secrets().values()
    return found


def test_a_locked_keyring_holds_up_no_mount(stage: MountStage, server: StandIn, desktop: Desktop) -> None:
    kept = secret(desktop)
    desktop.lock()
    server.requests.reset()
    mount_again(stage)
    stage.wait(lambda: stage.status()["reason"] == "the keyring is locked")
    assert stage.status()["state"] == WAITING
    assert f"state       {WAITING} since" in stage.cloudfs("status").stdout
    assert "unlock it, and the mount goes on by itself" in stage.cloudfs("status").stdout

    assert (stage.mount_point / "known").read_bytes() == b"known"
    (stage.mount_point / "pending").write_bytes(b"pending")
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its errno is what is looked at
        (stage.mount_point / "unknown.txt").read_bytes()
    assert caught.value.errno == errno.EHOSTUNREACH
    done = stage.cloudfs("sync", "--wait", "--timeout", "1", check=False)
    assert "Traceback" not in done.stderr
    assert server.requests.count() == 0, "nothing is sent without a password"
    assert log(stage).count(f"{WAITING}: the keyring is locked") == 1

    desktop.unlock()
    stage.wait(lambda: server.account(USER).tree().get("pending") == b"pending")
    assert stage.status()["state"] == "online"
    assert (stage.mount_point / "unknown.txt").read_bytes() == b"never read here"
    assert kept not in log(stage)
    assert [it for it in server.requests if it.status == 401] == []


def test_locked_while_it_is_mounted_nothing_changes(
    stage: MountStage, server: StandIn, desktop: Desktop
) -> None:
    desktop.lock()
    (stage.mount_point / "later").write_bytes(b"later")
    stage.sync()
    assert stage.status()["state"] == "online"
    desktop.unlock()
    mount_again(stage)
    stage.wait(lambda: stage.status()["state"] == "online")


def test_a_keyring_that_is_not_there_yet(stage: MountStage, server: StandIn, desktop: Desktop) -> None:
    """As with a mount at boot, before anybody has logged in to the desktop."""
    desktop.stop_keyring()
    mount_again(stage)
    assert stage.status()["state"] == WAITING
    assert (stage.mount_point / "known").read_bytes() == b"known"
    desktop.start_keyring(locked=True)
    stage.wait(lambda: stage.status()["reason"] == "the keyring is locked")
    desktop.unlock()
    stage.wait(lambda: stage.status()["state"] == "online")


def test_a_keyring_that_hangs(stage: MountStage, desktop: Desktop) -> None:
    with desktop.silent():
        mount_again(stage)
        assert (stage.status()["state"], stage.status()["reason"]) == (WAITING, "it has not answered yet")
        assert (stage.mount_point / "known").read_bytes() == b"known"
    stage.wait(lambda: stage.status()["state"] == "online")


def test_a_keyring_that_hangs_does_not_hold_up_the_end(stage: MountStage, desktop: Desktop) -> None:
    with desktop.silent():
        mount_again(stage)
        pid = stage.status()["pid"]
        stage.cloudfs("unmount", "a")
        stage.wait(lambda: not Path(f"/proc/{pid}").exists())
    assert "Traceback" not in log(stage)


def test_a_password_that_is_gone_waits_for_a_login(
    stage: MountStage, server: StandIn, desktop: Desktop
) -> None:
    keeping.forget(folders(stage), "a", "keyring")
    mount_again(stage)
    reason = "the keyring has no password for this account"
    stage.wait(lambda: stage.status()["reason"] == reason)
    status = stage.status()
    assert status["state"] == "needs-login"
    (stage.mount_point / "pending").write_bytes(b"pending")
    done = stage.cloudfs("sync", "--wait", check=False)
    assert reason in done.stderr
    done = stage.cloudfs(
        "login", server.url, "--user", USER, "--password-stdin", "--account", "a", stdin=PASSWORD
    )
    assert f"The mount at {stage.mount_point} goes on with the new login." in done.stdout
    stage.wait(lambda: server.account(USER).tree().get("pending") == b"pending")
    assert stage.status()["pid"] == status["pid"]


def test_a_login_moves_the_password_under_a_mount(
    stage: MountStage, server: StandIn, desktop: Desktop
) -> None:
    for store in ("file", "keyring"):
        words = ("--user", USER, "--password-stdin", "--account", "a", "--secret-store", store)
        done = stage.cloudfs("login", server.url, *words, stdin=PASSWORD)
        assert "goes on with the new login" in done.stdout
        (stage.mount_point / store).write_bytes(b"x")
        stage.sync()
        server.account(USER).revoke(
            secret(desktop) if desktop.secrets() else folders(stage).secret_file("a").read_text().strip()
        )
        (stage.mount_point / f"{store} 2").write_bytes(b"x")
        stage.wait(lambda: stage.status()["state"] == "needs-login")


def test_a_person_at_the_screen_is_asked_once(stage: MountStage, desktop: Desktop, server: StandIn) -> None:
    desktop.lock()
    with desktop.prompter() as asked:
        stage.environ["DISPLAY"] = ":99"
        mount_again(stage)
        stage.wait(lambda: bool(asked))
        desktop.unlock()
        stage.wait(lambda: stage.status()["state"] == "online")
        assert len(asked) == 1


def test_without_a_screen_nobody_is_asked(stage: MountStage, desktop: Desktop, server: StandIn) -> None:
    desktop.lock()
    with desktop.prompter() as asked:
        mount_again(stage)
        desktop.unlock()
        stage.wait(lambda: stage.status()["state"] == "online")
        assert asked == []


def test_it_is_small_and_its_password_is_nowhere_to_be_seen(stage: MountStage, desktop: Desktop) -> None:
    mount_again(stage)
    process = Path(f"/proc/{stage.status()['pid']}")
    (line,) = (it for it in (process / "status").read_text().splitlines() if it.startswith("VmRSS"))
    assert int(line.split()[1]) < 80_000
    kept = secret(desktop).encode()
    assert kept not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert kept.decode() not in log(stage)


def test_systemd_hears_that_it_waits(
    stage: MountStage, desktop: Desktop, tmp_path: Path, server: StandIn
) -> None:
    stage.cloudfs("unmount", "a")
    desktop.lock()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        environ = {**stage.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        command = [sys.executable, "-P", "-m", "cloudfs.daemon", "a", str(stage.mount_point)]
        with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as daemon:
            assert manager.recv(1000) == f"READY=1\nSTATUS=mounted at {stage.mount_point}".encode()
            assert manager.recv(1000) == f"STATUS={stage.mount_point}: {WAITING}".encode()
            desktop.unlock()
            while manager.recv(1000) != f"STATUS={stage.mount_point}: online".encode():
                pass  # it may be heard while it just tries
            daemon.terminate()
            assert daemon.wait(60) == 0


def test_a_unit_mounts_with_its_credential(tmp_path: Path, server: StandIn) -> None:
    home, place, handed = tmp_path / "home", tmp_path / "place", tmp_path / "credentials"
    place.mkdir()
    handed.mkdir()
    (handed / "cloudfs-a").write_text(server.account(USER).app_password() + "\n")
    environ = {**os.environ, "CLOUDFS_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    words = ("login", server.url, "--user", USER, "--account", "a", "--password-stdin")
    subprocess.run(
        MountStage.command(*words, "--secret-store", "credential"),
        check=True,
        env=environ,
        input=(handed / "cloudfs-a").read_text(),
        text=True,
        capture_output=True,
    )
    environ["CREDENTIALS_DIRECTORY"] = str(handed)
    subprocess.run(MountStage.command("mount", "a", str(place)), check=True, env=environ, capture_output=True)
    try:
        assert (place / "unknown.txt").read_bytes() == b"never read here"
    finally:
        subprocess.run(MountStage.command("unmount", "a"), check=True, env=environ, capture_output=True)

"""A daemon that is killed while a thread of it waits in the kernel for a program, which waits for the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudfs.control.instance import find_holder
from tests.functional.stages import USER, MountStage
from tests.servers import Hold, StandIn


def mount_again(stage: MountStage) -> None:
    stage.mount()


def detach_and_mount(stage: MountStage) -> None:
    """As the unit does after the end of a daemon: nothing in the tree leads to the connection any more."""
    subprocess.run(["fusermount3", "-uz", str(stage.mount_point)], check=True)
    stage.mount()


def unmount_and_mount(stage: MountStage) -> None:
    stage.cloudfs("unmount", "a")
    stage.mount()


@pytest.fixture
def connections() -> Iterator[None]:
    """Have the kernel's list of FUSE connections be there, as systemd does."""
    place = "/sys/fs/fuse/connections"
    if os.path.ismount(place):  # as everywhere here
        yield
        return
    if subprocess.run(["mount", "-t", "fusectl", "fusectl", place], check=False).returncode:
        pytest.skip(f"{place} is not mounted, and only root may do that")
    yield
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.mount
@pytest.mark.shared_engine
@pytest.mark.slow
@pytest.mark.usefixtures("connections")
@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
@pytest.mark.parametrize("come_next", [mount_again, detach_and_mount, unmount_and_mount])
def test_what_comes_next_frees_both(
    tmp_path: Path, server: StandIn, come_next: Callable[[MountStage], None]
) -> None:
    """The program removes a folder, which locks the one above; in that one a name is to be invalidated."""
    there = server.account(USER)
    there.write("/above/file", b"content")
    there.mkdir("/above/folder")
    stage = MountStage(tmp_path / "home", server, settings="poll_s = 1.0\nlisting_ttl_s = 0.0")
    try:
        assert sorted(os.listdir(stage.mount_point / "above")) == ["file", "folder"]
        (stage.mount_point / "above/file").read_bytes()
        holder = find_holder(stage.home / "state/a")
        assert holder is not None
        listing = server.faults.add(Hold(), method="PROPFIND", path="/above/folder/?$", times=None)
        remove = [sys.executable, "-c", f"import os; os.rmdir({str(stage.mount_point / 'above/folder')!r})"]
        with subprocess.Popen(remove, stderr=subprocess.PIPE) as program:
            assert listing.wait_hit()
            there.delete("/above/file")
            wait_for_thread_in_the_kernel(holder.pid)
            os.kill(holder.pid, signal.SIGKILL)
            come_next(stage)
            _, said = program.communicate(timeout=60)
        assert b"ConnectionAbortedError" in said
        server.faults.clear()
        stage.wait(lambda: os.listdir(stage.mount_point / "above") == ["folder"])
    finally:
        server.faults.clear()
        stage.close()


def wait_for_thread_in_the_kernel(pid: int) -> None:
    """Wait until a thread waits to have a name forgotten; pytest ends what would never end."""
    pause = threading.Event()
    while not any("inval" in task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/wchan")):
        pause.wait(0.05)

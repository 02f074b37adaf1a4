"""A daemon that is killed while a thread of it waits in the kernel for a program, which waits for the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cloudfs.control.instance import find_holder
from tests.functional.stages import USER, MountStage
from tests.servers import Hold, StandIn


@pytest.mark.mount
@pytest.mark.shared_engine
@pytest.mark.slow
@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
def test_the_next_mount_frees_both(tmp_path: Path, server: StandIn) -> None:
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
            stage.mount()
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

"""The end of a mount never waits for the network, whatever is under way; what is pending goes on at the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from cloudfs.control.instance import find_holder
from tests.functional.stages import USER, MountStage
from tests.model.fake_remote import FakeRemote
from tests.servers import BlackHole, StandIn
from tests.sync.mount import World, tell


@pytest.mark.parametrize("method", ["put", "list_folder", "move"])
def test_a_request_that_is_never_answered_holds_up_no_end(tmp_path: Path, method: str) -> None:
    """In virtual time: whoever waited for a time-out, however short, would be seen."""
    remote = FakeRemote()
    remote.other.write("/there", b"x")

    async def story(world: World) -> None:
        begun = trio.Event()

        async def never() -> None:
            begun.set()
            await trio.sleep_forever()

        await world.walk()
        remote.before[method] = never
        await world.save("a", b"not sent")
        await world.rename("there", "moved")
        with trio.move_on_after(3600):
            await begun.wait()
        remote.before.clear()
        assert begun.is_set()
        now = trio.current_time()
        await world.restart()
        assert trio.current_time() == now
        await world.drain()
        assert remote.other.tree() == {"/a": b"not sent", "/moved": b"x"}

    tell(tmp_path, story, remote)


@pytest.mark.mount
@pytest.mark.shared_engine
@pytest.mark.slow
@pytest.mark.expect_log("is in use: a program has a file .* there. Detached")
def test_a_signal_ends_a_mount_while_a_program_waits_for_the_network(tmp_path: Path, server: StandIn) -> None:
    """It gives the program some seconds to close its file, and not until its call is answered: after 19 s."""
    server.account(USER).write("/theirs", b"never read")
    stage = MountStage(tmp_path / "home", server, settings="request_deadline_s = 19\nquiet_s = 3600")
    try:
        (stage.mount_point / "mine").write_bytes(b"not sent")
        silent = server.faults.add(BlackHole(), method="GET", path="theirs", times=None)
        read = [sys.executable, "-c", f"open({str(stage.mount_point / 'theirs')!r}, 'rb').read()"]
        with subprocess.Popen(read, stderr=subprocess.PIPE) as reader:
            assert silent.wait_hit()
            end(stage, signal.SIGTERM)
            _, said = reader.communicate(timeout=60)
        assert b"OSError" in said
        assert "was not answered" not in (stage.home / "state/a/daemon.log").read_text()
        server.faults.clear()
        stage.mount()
        stage.sync()
        assert server.account(USER).tree() == {"theirs": b"never read", "mine": b"not sent"}
    finally:
        stage.close()


def end(stage: MountStage, number: signal.Signals) -> None:
    """Send the daemon a signal, and wait until it has ended."""
    holder = find_holder(stage.home / "state/a")
    assert holder is not None
    os.kill(holder.pid, number)
    pause = threading.Event()
    while find_holder(stage.home / "state/a") is not None:  # pytest ends what would never end
        pause.wait(0.05)

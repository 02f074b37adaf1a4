"""`cloudfs unmount` with and without --wait, over a real mount and a server that is slow, away or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import BlackHole, Hold, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "home", server, settings="quiet_s = 3600")
    yield made
    made.close()


def test_it_waits_until_everything_is_on_the_server(stage: MountStage, server: StandIn) -> None:
    for number in range(20):
        (stage.mount_point / f"{number}.txt").write_bytes(b"x" * number)
    done = stage.cloudfs("unmount", "a", "--wait", "--timeout", "60")
    assert done.stdout == f"Unmounted a from {stage.mount_point}; everything is on the server.\n"
    assert len(server.account(USER).tree()) == 20
    assert not os.path.ismount(stage.mount_point)


def test_it_says_how_much_goes_up_later(stage: MountStage, server: StandIn) -> None:
    for name in ("a", "b"):
        (stage.mount_point / name).write_bytes(bytes(6_000_000))
    (stage.mount_point / "c").mkdir()
    done = stage.cloudfs("unmount", "a")
    assert done.stdout.endswith(
        ". 3 changes (12 MB) are not on the server yet; they go up after the next mount.\n"
    )
    stage.mount()
    stage.sync()
    assert {path: data and len(data) for path, data in server.account(USER).tree().items()} == {
        "a": 6_000_000,
        "b": 6_000_000,
        "c": None,
    }


def test_out_of_time_it_stays_mounted(stage: MountStage, server: StandIn) -> None:
    (stage.mount_point / "a").write_bytes(b"x")
    server.stop()
    done = stage.cloudfs("unmount", "a", "--wait", "--timeout", "0.5", check=False)
    assert done.returncode == ExitCode.PENDING
    assert done.stderr.startswith("1 change is not on the server in time. It stays mounted.\n")
    assert (stage.mount_point / "a").read_bytes() == b"x"


def test_ctrl_c_leaves_the_mount_as_it_is(stage: MountStage, server: StandIn) -> None:
    (stage.mount_point / "a").write_bytes(b"x")
    rule = server.faults.add(Hold(), method="PUT")
    command = [sys.executable, "-m", "cloudfs.cli.main", "unmount", "a", "--wait"]
    with subprocess.Popen(command, env=stage.environ, stderr=subprocess.PIPE) as waiting:
        assert rule.wait_hit()
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=10)
    assert waiting.returncode == 130
    assert b"Traceback" not in said
    rule.release()
    stage.wait(lambda: server.account(USER).tree() == {"a": b"x"})
    assert (stage.mount_point / "a").read_bytes() == b"x"


def test_without_wait_a_hanging_server_keeps_nobody(stage: MountStage, server: StandIn) -> None:
    (stage.mount_point / "a").write_bytes(bytes(2_000_000))
    rule = server.faults.add(BlackHole(), times=None)
    hurrying = subprocess.Popen(
        [sys.executable, "-m", "cloudfs.cli.main", "sync", "--wait"],
        env=stage.environ,
        stderr=subprocess.PIPE,
    )
    with hurrying:
        assert rule.wait_hit()
        began = time.monotonic()
        done = stage.cloudfs("unmount", "a")
        assert time.monotonic() - began < 8  # no time-out of a request is shorter than 10 s
        assert "1 change (2.0 MB) is not on the server yet" in done.stdout
        hurrying.communicate(timeout=10)
    server.faults.clear()
    stage.mount()
    stage.sync()
    assert server.account(USER).tree() == {"a": bytes(2_000_000)}

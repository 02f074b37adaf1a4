"""Pausing and watching from the command line, over a mount of a real engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.errors import ExitCode
from tests.functional.stages import USER, MountStage
from tests.servers import Hold, StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.account(USER).write("/theirs", b"theirs")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "home", server)
    yield made
    made.close()


def test_paused_until_resumed(stage: MountStage, server: StandIn) -> None:
    there = server.account(USER)
    assert stage.cloudfs("pause").stdout.startswith("Paused ")
    (stage.mount_point / "mine").write_bytes(b"mine")
    assert (stage.mount_point / "theirs").read_bytes() == b"theirs"
    status = json.loads(stage.cloudfs("status", "--json").stdout)
    assert status["paused_since"]
    assert status["pending"] == 1
    assert "  paused      since " in stage.cloudfs("status").stdout
    for words in (("sync", "--wait"), ("unmount", "--wait")):
        done = stage.cloudfs(*words, check=False)
        assert done.returncode == ExitCode.PENDING
        assert done.stderr.startswith("1 change is not on the server: sending is paused.")
    assert json.loads(stage.cloudfs("pause", "--json").stdout)["pending"] == 1
    assert "1 change waits" in stage.cloudfs("pause", str(stage.mount_point / "mine")).stdout
    assert there.tree() == {"theirs": b"theirs"}
    assert "1 change goes up now." in stage.cloudfs("resume").stdout
    stage.sync()
    assert there.tree() == {"theirs": b"theirs", "mine": b"mine"}
    assert stage.cloudfs("sync", "--wait").returncode == ExitCode.OK
    assert json.loads(stage.cloudfs("status", "--json").stdout)["paused_since"] is None


@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
def test_it_outlives_a_kill(stage: MountStage, server: StandIn) -> None:
    stage.cloudfs("pause")
    (stage.mount_point / "mine").write_bytes(b"mine")
    stage.kill()
    stage.mount()
    assert (stage.status()["pending"], bool(stage.status()["paused_since"])) == (1, True)
    assert server.account(USER).tree() == {"theirs": b"theirs"}
    stage.cloudfs("resume")
    stage.sync()
    assert server.account(USER).read("/mine") == b"mine"


def test_a_pause_while_somebody_waits(stage: MountStage, server: StandIn) -> None:
    upload = server.faults.add(Hold(), method="PUT", times=1)
    (stage.mount_point / "file").write_bytes(b"content")
    with subprocess.Popen(
        stage.command("sync", "--wait"), env=stage.environ, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert upload.wait_hit()
        stage.cloudfs("pause")
        _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == ExitCode.PENDING
    assert "sending is paused" in said
    upload.release()
    stage.cloudfs("resume")
    stage.sync()
    assert server.account(USER).read("/file") == b"content"


def test_watching_hears_of_each_change(stage: MountStage, server: StandIn) -> None:
    upload = server.faults.add(Hold(), method="PUT", times=1)
    with subprocess.Popen(
        stage.command("status", "--watch", "--json"), env=stage.environ, stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout
        assert json.loads(watching.stdout.readline())["pending"] == 0
        (stage.mount_point / "file").write_bytes(bytes(1000))
        told = (json.loads(line)["transfers"] for line in watching.stdout)
        (transfer,) = next(filter(None, told))
        assert (transfer["path"], transfer["direction"], transfer["size_bytes"]) == ("/file", "up", 1000)
        upload.release()
        assert any(json.loads(line)["pending"] == 0 for line in watching.stdout)
        stage.cloudfs("unmount")
        assert watching.wait(30) == ExitCode.NOT_MOUNTED
    stage.cloudfs("mount", str(stage.mount_point))


def test_watching_in_plain_text(stage: MountStage) -> None:
    with subprocess.Popen(
        stage.command("status", "--watch"), env=stage.environ, stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout
        assert "\033" not in watching.stdout.readline()
        watching.terminate()

"""`cloudfs cache` over a mount of a real engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.account.caching import CacheWork
from cloudfs.control.records import Checked
from cloudfs.errors import ExitCode
from cloudfs.types import ROOT
from tests.functional.drivers import read, write
from tests.functional.stages import USER, MountStage, VfsStage
from tests.servers import StandIn

pytestmark = [pytest.mark.mount, pytest.mark.shared_engine]

MIB = 1 << 20
LARGE = os.urandom(3 * MIB)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.account(USER).write("/large", LARGE)
        standin.account(USER).write("/small", b"small")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "home", server)
    yield made
    made.close()


def used(stage: MountStage) -> int:
    return int(json.loads(stage.cloudfs("cache", "info", "--json").stdout)["used_bytes"])


def read_all(stage: MountStage) -> None:
    assert (stage.mount_point / "large").read_bytes() == LARGE
    assert (stage.mount_point / "small").read_bytes() == b"small"
    stage.wait(lambda: used(stage) > 3 * MIB)


def test_clearing_drops_what_the_server_has_and_nothing_else(stage: MountStage, server: StandIn) -> None:
    read_all(stage)
    stage.cloudfs("pause")
    with (stage.mount_point / "large").open("r+b") as file:
        file.seek(MIB)
        file.write(b"changed")
    (stage.mount_point / "new").write_bytes(b"only here")
    # Another client replaces what the change was made from: only the cache has that now.
    server.account(USER).write("/large", b"theirs")
    done = json.loads(stage.cloudfs("cache", "clear", "--json").stdout)
    assert done["left_bytes"] > 3 * MIB
    assert 0 < done["freed_bytes"] < MIB
    expected = LARGE[:MIB] + b"changed" + LARGE[MIB + 7 :]
    assert (stage.mount_point / "large").read_bytes() == expected
    assert (stage.mount_point / "small").read_bytes() == b"small"
    stage.cloudfs("resume")
    stage.sync()
    there = server.account(USER).tree()
    assert there["large"] == b"theirs"
    assert expected in there.values()
    assert there["new"] == b"only here"


def test_an_empty_cache(stage: MountStage) -> None:
    read_all(stage)
    assert stage.cloudfs("cache", "clear").stdout.startswith("Cleared 3.1 MB of a.")
    assert used(stage) == 0
    assert (stage.mount_point / "small").read_bytes() == b"small"
    assert "hits " in stage.cloudfs("cache", "info").stdout


def test_what_is_good_is_found_to_be_so(stage: MountStage) -> None:
    (stage.mount_point / "mine").write_bytes(LARGE)
    stage.sync()
    (stage.mount_point / "mine").read_bytes()
    read_all(stage)
    done = json.loads(stage.cloudfs("cache", "verify", "--json").stdout)
    assert (done["files"], done["bytes"]) == (3, 6 * MIB + 5)
    assert done["compared"] >= 1  # what was sent from here has a checksum
    assert (done["wrong"], done["damaged"]) == ([], 0)


@pytest.mark.expect_log("block 0 of inode 2 was not what was stored, and is dropped")
def test_what_the_disk_has_changed_is_dropped_and_comes_again(stage: MountStage) -> None:
    read_all(stage)
    stage.cloudfs("unmount")
    values = [path for path in (stage.home / "cache/a").rglob("*.val") if path.stat().st_size == MIB]
    with values[0].open("r+b") as file:
        file.write(b"rotten")
    stage.mount()
    done = stage.cloudfs("cache", "verify", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        ExitCode.NOT_DONE,
        "1 file or block of a not as it should be: dropped.",
    )
    assert stage.cloudfs("cache", "verify").returncode == ExitCode.OK
    read_all(stage)


def test_what_is_not_what_its_checksum_says_is_dropped(tmp_path: Path, server: StandIn) -> None:
    stage = VfsStage(tmp_path / "engine", server)
    write(stage.root(), "mine", LARGE)
    stage.sync()
    engine = stage.engine
    node = stage.call_sync(lambda: engine.store.nodes.child(ROOT, "mine"))
    assert node is not None
    # The block is in order, and not that of the file.
    stage.call(lambda: engine.blocks.put(node.ino, node.version, 1, os.urandom(MIB)))
    told: list[object] = []

    async def hear(event: object) -> None:
        told.append(event)

    def verify() -> Checked:
        return stage.call(lambda: CacheWork(engine).verify(hear))

    assert verify().wrong == ["/mine"]
    assert verify() == Checked(0, 0, 0, [], 0)
    assert read(stage.root(), "mine") == LARGE
    stage.close()


def test_offline_it_is_not_cleared_unless_forced(stage: MountStage, server: StandIn) -> None:
    read_all(stage)
    server.stop()
    (stage.mount_point / "new").write_bytes(b"new")
    stage.wait(lambda: stage.status()["state"] == "offline")
    done = stage.cloudfs("cache", "clear", check=False)
    assert (done.returncode, used(stage) > 3 * MIB) == (ExitCode.NOT_DONE, True)
    assert "--force" in done.stderr
    assert stage.cloudfs("cache", "clear", "--force").returncode == ExitCode.OK
    assert (stage.mount_point / "new").read_bytes() == b"new"

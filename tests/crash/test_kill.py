"""kill -9 of the daemon: what close() or fsync() acknowledged is in the next mount and then on the server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.stages import USER, MountStage
from tests.programs.conftest import contents
from tests.servers import Answer, Delay, Drop, LoseReply, StandIn
from tests.servers.standin.faults import Action

pytestmark = [
    pytest.mark.mount,
    pytest.mark.shared_engine,
    pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True),
]

WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "home", server, settings="listing_ttl_s = 0.0")
    yield made
    made.close()


def test_closed_files_survive(stage: MountStage, server: StandIn) -> None:
    folder = stage.mount_point / "folder"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}").write_bytes(random.Random(number).randbytes(number * 40_000))
    before = contents(folder)
    stage.kill()
    stage.mount()
    assert contents(folder) == before
    stage.sync()
    assert server.account(USER).tree("/folder") == before


def test_fsynced_bytes_of_an_open_file_survive(stage: MountStage, server: StandIn) -> None:
    file = (stage.mount_point / "file").open("wb", buffering=0)
    file.write(b"synced")
    os.fsync(file.fileno())
    stage.kill()
    with pytest.raises(OSError, match=r"."):
        file.write(b"lost, and the program knows")
    with pytest.raises(OSError, match=r"."):
        file.close()
    stage.mount()
    assert (stage.mount_point / "file").read_bytes()[:6] == b"synced"
    stage.sync()
    assert server.account(USER).read("/file")[:6] == b"synced"


def test_names_survive(stage: MountStage, server: StandIn) -> None:
    server.account(USER).populate({"a/old": b"content", "a/gone": b"x", "b": None})
    mount = stage.mount_point
    assert sorted(os.listdir(mount / "a")) == ["gone", "old"]
    os.rename(mount / "a/old", mount / "b/new")
    os.unlink(mount / "a/gone")
    os.mkdir(mount / "c")
    os.rename(mount / "a", mount / "c/a")
    stage.kill()
    stage.mount()
    expected = {"b": None, "b/new": b"content", "c": None, "c/a": None}
    assert contents(mount) == expected
    stage.sync()
    assert server.account(USER).tree() == expected


def test_killed_while_the_upload_is_under_way(stage: MountStage, server: StandIn) -> None:
    data = random.Random(1).randbytes(3_000_000)
    server.faults.add(Delay(5.0), method="PUT", times=1)
    (stage.mount_point / "file").write_bytes(data)
    _wait_for_request(server, "PUT")
    stage.kill()
    stage.mount()
    assert (stage.mount_point / "file").read_bytes() == data
    stage.sync()
    assert server.account(USER).tree() == {"file": data}


def test_killed_between_the_servers_work_and_its_reply(stage: MountStage, server: StandIn) -> None:
    """The file is on the server already, our database does not know: no conflict, no second copy."""
    server.faults.add(LoseReply(), method="PUT", times=1)
    (stage.mount_point / "file").write_bytes(b"first content")
    _wait_for_request(server, "PUT")
    stage.kill()
    stage.mount()
    (stage.mount_point / "file").write_bytes(b"second content")
    stage.sync()
    assert server.account(USER).tree() == {"file": b"second content"}
    assert stage.status()["conflicts"] == 0


WRITERS = 3
KILLS = int(os.environ.get("CLOUDFS_TEST_KILLS", "4"))
ACTIONS: list[Action] = [LoseReply(), Drop(), Answer(503), Delay(0.5)]
PER_ROUND = 4
"""Kills of one mount after each other, each on what the one before left."""


@pytest.mark.parametrize("seed", range((KILLS + PER_ROUND - 1) // PER_ROUND))
def test_killed_again_and_again_under_load(stage: MountStage, server: StandIn, seed: int) -> None:
    """Programs write, sync, append, save, cut and remove while the server fails now and then."""
    choose = random.Random(seed)
    for life in range(PER_ROUND):
        _trouble(server, choose)
        notes = [stage.home.with_name(f"notes-{life}-{number}") for number in range(WRITERS)]
        _kill_under_load(stage, notes, choose)
        stage.mount()
        shown = contents(stage.mount_point)
        for number, book in enumerate(notes):
            folder = f"life{life}-{number}"
            for name, may in _replay(book).items():
                found = _digest(shown.get(f"{folder}/{name}"))
                assert found in may, f"{folder}/{name}: {found} is none of {may}"
    server.faults.clear()
    stage.sync()
    shown = contents(stage.mount_point)
    assert server.account(USER).tree() == shown
    assert not [path for path in shown if "conflicted copy" in path]
    left = list((stage.home / "state").rglob("staging-*/*"))
    stage.wait(lambda: not [path for path in left if path.exists()])


def _trouble(server: StandIn, choose: random.Random) -> None:
    server.faults.clear()
    for method in ("PUT", "MOVE", "DELETE", "MKCOL"):
        action: Action = choose.choice(ACTIONS)
        server.faults.add(action, method=method, nth=choose.randrange(1, 10), times=choose.randrange(1, 4))


def _kill_under_load(stage: MountStage, notes: list[Path], choose: random.Random) -> None:
    writers = [
        subprocess.Popen(
            [
                sys.executable,
                str(WRITER),
                str(stage.mount_point / book.name.replace("notes-", "life")),
                str(book),
                str(choose.randrange(1 << 30)),
            ]
        )
        for book in notes
    ]
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            writers[0].wait(choose.uniform(0.5, 3.0))
        stage.kill()
    finally:
        for writer in writers:
            writer.wait(30)


def _replay(notes: Path) -> dict[str, list[object]]:
    """Return what each name may hold, by SHA-1 and size: the last line of each tells."""
    state: dict[str, list[object]] = {}
    for line in notes.read_text().splitlines():
        note = json.loads(line)
        state[note["name"]] = note["may"]
    return state


def _digest(data: bytes | None) -> list[object] | None:
    return None if data is None else [hashlib.sha1(data, usedforsecurity=False).hexdigest(), len(data)]


def _wait_for_request(server: StandIn, method: str) -> None:
    import time  # noqa: PLC0415  # polls a server that another process talks to

    for _ in range(400):
        if any(record.method == method for record in server.requests):
            return
        time.sleep(0.05)
    pytest.fail(f"no {method} in 20 s")

"""Appending to a large file that was never read here (docs/SEMANTICS.md, "Writing and saving")."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.stages import PASSWORD, USER, MountStage, VfsStage
from tests.servers import StandIn
from tests.servers.plain import WsgidavServer

OLD = random.Random(4).randbytes(64 * 1024 * 1024)
CHECKSUM = "SHA1:" + hashlib.sha1(OLD, usedforsecurity=False).hexdigest()


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.account(USER).write("/log", OLD, mtime=1_600_000_000, checksum=CHECKSUM)
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    made = MountStage(tmp_path / "mount", server)
    yield made
    made.close()


def moved_bytes(server: StandIn) -> int:
    """Bytes of bodies in both directions."""
    return sum(record.request_bytes + record.response_bytes for record in server.requests)


@pytest.mark.mount
def test_a_line_added_to_a_cold_file_of_64_mb_moves_less_than_a_tenth_of_one(
    stage: MountStage, server: StandIn
) -> None:
    log = stage.mount_point / "log"
    expected = OLD
    for number in range(3):
        line = f"line {number}\n"
        server.requests.reset()
        subprocess.run(["sh", "-c", f"echo 'line {number}' >> {log}"], check=True, timeout=60)
        stage.sync()
        expected += line.encode()
        assert moved_bytes(server) < 100_000
        assert server.account(USER).read("/log") == expected
    done = subprocess.run(["tail", "-c", "21", log], check=True, capture_output=True, timeout=60)
    assert done.stdout == b"line 0\nline 1\nline 2\n"
    done = subprocess.run(["sha1sum", log], check=True, capture_output=True, timeout=60)
    assert done.stdout.split()[0].decode() == hashlib.sha1(expected, usedforsecurity=False).hexdigest()


@pytest.mark.server("wsgidav")
@pytest.mark.shared_engine
def test_where_the_server_has_no_such_thing_the_whole_goes_up(tmp_path: Path) -> None:
    server = WsgidavServer()
    server.user, server.password = USER, PASSWORD
    with server:
        server.write("/log", b"base, ")
        stage = VfsStage(tmp_path / "engine", server, append_bytes=1)
        file = stage.root().open("log", os.O_WRONLY)
        file.write(6, b"tail")
        file.close()
        stage.sync()
        stage.close()
        assert server.read("/log") == b"base, tail"

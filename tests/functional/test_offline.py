"""A mount that is made while the server is gone: the kernel's view of it, from the start of the process."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.drivers import OsDriver, read, tree, write
from tests.functional.stages import USER, MountStage
from tests.servers import BlackHole, StandIn

DEADLINE_S = 4.0
SLACK_S = 10.0
"""More than a busy machine takes for the rest of a request: the bound that is promised is far below what hangs."""
CACHED, UNCACHED = b"read before" * 1000, b"never read" * 1000


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        there = standin.account(USER)
        there.write("/folder/cached", CACHED)
        there.write("/folder/uncached", UNCACHED)
        there.write("/folder/old", b"old")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    """Mounted anew, with the server gone, after a first life that has seen a folder and read a file."""
    made = MountStage(tmp_path / "home", server, settings=f"request_deadline_s = {DEADLINE_S}\n")
    try:
        here = OsDriver(made.mount_point)
        assert here.names("folder") == ["cached", "old", "uncached"]
        assert read(here, "folder/cached") == CACHED
        made.cloudfs("unmount", "a")
        server.stop()
        made.mount()
        yield made
    finally:
        made.close()


def fails_in_time(here: OsDriver, path: str) -> int | None:
    """Read, which has to fail; return with which errno."""
    began = time.monotonic()
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the caller looks at its errno
        read(here, path)
    assert time.monotonic() - began < DEADLINE_S + SLACK_S
    return caught.value.errno


@pytest.mark.expect_log("was not answered within", optional=True)
def test_without_a_server_all_works_but_reading_what_is_not_here(stage: MountStage, server: StandIn) -> None:
    here = OsDriver(stage.mount_point)
    assert here.names("folder") == ["cached", "old", "uncached"]
    assert here.size("folder/uncached") == len(UNCACHED)
    assert read(here, "folder/cached") == CACHED
    assert fails_in_time(here, "folder/uncached") == errno.EHOSTUNREACH

    write(here, "folder/new", b"new")
    with (stage.mount_point / "folder/cached").open("ab") as file:
        file.write(b" and more")
        os.fsync(file.fileno())
    here.mkdir("made")
    here.rename("folder/old", "made/moved")
    with pytest.raises(FileNotFoundError):
        os.stat(stage.mount_point / "folder/old")
    assert read(here, "folder/cached") == CACHED + b" and more"
    assert here.names("made") == ["moved"]

    server.start()
    silent = server.faults.add(BlackHole(), method="GET", path="/files/.*/uncached", times=None)
    stage.sync()
    assert fails_in_time(here, "folder/uncached") in {errno.ETIMEDOUT, errno.EHOSTUNREACH}
    assert silent.hits
    server.faults.remove(silent)
    assert read(here, "folder/uncached") == UNCACHED
    assert tree(here) == server.account(USER).tree()

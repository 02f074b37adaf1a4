"""Without a server: from the start of the process, in the kernel's view; and with one that comes and goes."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.vfs.records import RenameMode
from tests.functional.drivers import OsDriver, read, tree, write
from tests.functional.stages import USER, MountStage, VfsStage
from tests.servers import Account, BlackHole, StandIn

DEADLINE_S = 4.0
STAMP_NS = 1_500_000_000 * 10**9
SLACK_S = 10.0
"""More than a busy machine takes for the rest of a request: the bound that is promised is far below what hangs."""
CHANGED = ("appended", "saved", "cut", "emptied", "removed", "one", "other", "stamped", "both", "still")
"""Files whose bytes are not here when they are changed."""
CACHED, UNCACHED = b"read before" * 1000, b"never read" * 1000


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        there = standin.account(USER)
        there.write("/folder/cached", CACHED)
        there.write("/folder/uncached", UNCACHED)
        there.write("/folder/old", b"old")
        for name in CHANGED:
            there.write(f"/changed/{name}", f"{name}, never read".encode())
        there.mkdir("/changed/empty")
        yield standin


@pytest.fixture
def stage(tmp_path: Path, server: StandIn) -> Iterator[MountStage]:
    """Mounted anew, with the server gone, after a first life that has seen a folder and read a file."""
    settings = f"request_deadline_s = {DEADLINE_S}\nlisting_ttl_s = 0\n"
    made = MountStage(tmp_path / "home", server, settings=settings)
    try:
        here = OsDriver(made.mount_point)
        assert here.names("folder") == ["cached", "old", "uncached"]
        assert here.names("changed") == sorted([*CHANGED, "empty"])
        assert here.names("changed/empty") == []
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


def is_readable(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.read_bytes() == bytes(200_000)
    return False


def change_in_every_way(here: OsDriver) -> None:
    """Everything that changes something, done to what was seen and never read."""
    file = here.open("changed/appended", os.O_WRONLY | os.O_APPEND)
    file.write(here.size("changed/appended"), b", and more")
    file.fsync()
    file.close()
    write(here, "changed/new", b"saved anew")
    here.rename("changed/new", "changed/saved")
    here.truncate("changed/cut", 3)
    here.truncate("changed/emptied", 0)
    here.unlink("changed/removed")
    here.rmdir("changed/empty")
    here.rename("changed/one", "changed/other", RenameMode.EXCHANGE)
    here.utime("changed/stamped", STAMP_NS)
    write(here, "changed/both", b"ours")


def change_meanwhile(there: Account) -> None:
    """Another client's changes, which nobody here can know of."""
    there.write("/changed/theirs", b"theirs")
    there.write("/changed/both", b"theirs, of another size")
    there.move("/changed/still", "/changed/moved")


def check_changes(server: StandIn, tree: dict[str, bytes | None]) -> None:
    """All of both is there."""
    (copy,) = (path for path in tree if "conflicted copy" in path)
    assert tree.pop(copy) == b"ours"
    assert {path: data for path, data in tree.items() if path.startswith("changed/")} == {
        "changed/appended": b"appended, never read, and more",
        "changed/saved": b"saved anew",
        "changed/cut": b"cut",
        "changed/emptied": b"",
        "changed/one": b"other, never read",
        "changed/other": b"one, never read",
        "changed/stamped": b"stamped, never read",
        "changed/moved": b"still, never read",
        "changed/theirs": b"theirs",
        "changed/both": b"theirs, of another size",
    }
    assert server.account(USER).node("/changed/stamped").mtime == STAMP_NS // 10**9


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
    change_in_every_way(here)
    change_meanwhile(server.account(USER))

    server.start()
    silent = server.faults.add(BlackHole(), method="GET", path="/files/.*/uncached", times=None)
    stage.sync()
    assert fails_in_time(here, "folder/uncached") in {errno.ETIMEDOUT, errno.EHOSTUNREACH}
    assert silent.hits
    server.faults.remove(silent)
    assert read(here, "folder/uncached") == UNCACHED
    stage.wait(lambda: tree(here) == server.account(USER).tree())
    check_changes(server, server.account(USER).tree())


@pytest.mark.expect_log("was not answered within", optional=True)
def test_many_programs_before_a_silent_server_wait_no_longer_than_a_few(
    tmp_path: Path, server: StandIn
) -> None:
    """The kernel has no more than a dozen requests for read-ahead under way, two for each file here."""
    there = server.account(USER)
    for number in range(60):
        there.write(f"/many/{number}", bytes(200_000))
    stage = MountStage(tmp_path / "home", server, settings=f"request_deadline_s = {DEADLINE_S + 1}\n")
    try:
        folder = stage.mount_point / "many"
        assert len(os.listdir(folder)) == 60
        server.faults.add(BlackHole(), times=None)
        began = time.monotonic()
        readers = [
            subprocess.Popen(
                ["cat", "--", folder / str(number)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            for number in range(60)
        ]
        said = [reader.communicate()[1].decode() for reader in readers]
        assert all(reader.returncode for reader in readers)
        # One dozen after the other would take ten times as long.
        assert time.monotonic() - began < 3 * DEADLINE_S + SLACK_S
        assert sum(os.strerror(errno.EHOSTUNREACH) in line for line in said) >= 30
        server.faults.clear()
        stage.wait(lambda: is_readable(folder / "59"))
    finally:
        stage.close()


@pytest.mark.shared_engine
def test_a_link_that_comes_and_goes_in_the_midst_of_every_upload(tmp_path: Path, server: StandIn) -> None:
    stage = VfsStage(tmp_path / "engine", server)
    try:
        here, log = stage.root(), b""
        for number in range(3):
            # Carried out or not: nobody hears of it.
            upload = server.faults.add(BlackHole(after_execution=bool(number % 2)), method="PUT", times=1)
            log += b"line %d\n" % number
            write(here, "log", log)
            write(here, f"{number}", b"content %d" % number)
            assert upload.wait_hit()
            server.stop()
            assert read(here, "log") == log
            server.start()
        stage.sync()
        found = server.account(USER).tree()
        assert tree(here) == found
        expected = {f"{number}": b"content %d" % number for number in range(3)} | {"log": log}
        assert {
            path: data for path, data in found.items() if "/" not in path and data is not None
        } == expected
    finally:
        stage.close()

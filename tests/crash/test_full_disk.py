"""A full local disk: an answer for the write that does not fit, and for nothing else."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from cloudfs.errors import ExitCode, PosixError
from tests.crash.conftest import DISK_BYTES
from tests.functional.drivers import Driver, read, tree, write
from tests.functional.stages import USER, MountStage, VfsStage, wait_until
from tests.servers import Hold, StandIn

pytestmark = [
    pytest.mark.shared_engine,
    pytest.mark.expect_log(
        "no disk space can be put by|database|block cache|No space|not sent yet", optional=True
    ),
]

RESERVE = 4 * 1024 * 1024


@contextmanager
def mounted(home: Path, server: StandIn) -> Iterator[VfsStage]:
    stage = VfsStage(home, server, reserve_bytes=RESERVE)
    try:
        yield stage
    finally:
        stage.close()


def content(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def fits(action: Callable[[], None]) -> bool:
    """Do something that may fail with ENOSPC, and with nothing else."""
    try:
        action()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def fill(driver: Driver, size: int) -> dict[str, bytes | None]:
    """Write files until one does not fit; return those that were closed without an error."""
    kept: dict[str, bytes | None] = {}
    for number in range(10_000):
        name = f"{number:05}"
        if not fits(partial(write, driver, name, content(number, size))):
            driver.unlink(name)
            return kept
        kept[name] = content(number, size)
    raise AssertionError("the disk is never full")


def fill_the_rest(disk: Path) -> None:
    """Another program takes what is left, to the last byte."""
    with pytest.raises(OSError, match="No space"), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("size", [700_000, 60_000])
def test_what_was_closed_is_kept_and_goes_up_and_then_there_is_room_again(
    disk: Path, server: StandIn, size: int
) -> None:
    with mounted(disk, server) as stage:
        hold = server.faults.add(Hold(), method="PUT", times=None)
        kept = fill(stage.root(), size)
        assert len(kept) * size > 18_000_000
        fill_the_rest(disk)
        assert tree(stage.root()) == kept
        hold.release()
        stage.sync()
        assert server.account(USER).tree() == kept
        write(stage.root(), "new", b"n" * size)
        assert tree(stage.root()) == kept | {"new": b"n" * size}
        stage.sync()


def test_a_change_goes_up_that_is_filled_up_from_what_is_kept_free_of_the_disk(
    disk: Path, server: StandIn
) -> None:
    """Nothing else would ever give space back, where only such changes wait."""
    account = server.account(USER)
    content = bytearray(random.Random(1).randbytes(2_500_000))
    account.write("/file", bytes(content))
    with mounted(disk, server) as stage:
        root = stage.root()
        hold = server.faults.add(Hold(), method="GET", times=None)
        file = root.open("file", os.O_RDWR)
        file.write(1_000_000, b"changed")
        file.close()
        content[1_000_000:1_000_007] = b"changed"
        fill_the_rest(disk)
        # So much that it is enough for the file, and less than a program may use.
        ballast = disk / "ballast"
        os.truncate(ballast, ballast.stat().st_size - RESERVE + 200_000)
        assert not fits(partial(write, root, "other", b"x" * 300_000))
        root.unlink("other")
        hold.release()
        server.faults.clear()
        stage.sync()
        assert account.read("/file") == bytes(content)


def test_a_restart_on_a_full_disk_keeps_everything(disk: Path, server: StandIn) -> None:
    hold = server.faults.add(Hold(), method="PUT", times=None)
    with mounted(disk, server) as stage:
        kept = fill(stage.root(), 500_000)
        fill_the_rest(disk)
    # The database goes on in what it has; the block cache needs a little to begin at all.
    os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - 300_000)
    with mounted(disk, server) as stage:
        assert tree(stage.root()) == kept
        hold.release()
        stage.sync()
        assert server.account(USER).tree() == kept


@pytest.mark.mount
@pytest.mark.expect_log("cleared the mount of account a that a killed daemon left", optional=True)
@pytest.mark.expect_log("ERROR cloudfs.daemon: the daemon ended: no room for a block")
def test_a_mount_that_finds_no_room_to_begin_says_so(disk: Path, server: StandIn, tmp_path: Path) -> None:
    """A killed daemon's disk was filled to the last byte: a sentence with the next step, and all is there after it."""
    stage = MountStage(disk / "home", server)
    try:
        server.faults.add(Hold(), method="PUT", times=None)
        write(stage.driver("kept"), "file", b"not sent")
        stage.kill()
        fill_the_rest(disk)
        refused = stage.cloudfs("mount", "a", str(stage.mount_point), check=False)
        assert refused.returncode == ExitCode.NOT_DONE
        assert "disk is full" in refused.stderr
        assert "Free some space" in refused.stderr
        assert "Traceback" not in (disk / "home/state/a/daemon.log").read_text()
        (disk / "ballast").unlink()
        stage.mount()
        assert (stage.mount_point / "kept/file").read_bytes() == b"not sent"
        goes_on_with_a_full_disk(disk, stage)
        server.faults.clear()
        stage.sync()
        assert server.account(USER).tree() == {"kept": None, "kept/moved": b"not sent", "kept/new": b"new"}
    finally:
        server.faults.clear()
        (disk / "ballast").unlink(missing_ok=True)
        stage.close()
        kept = tmp_path / "kept/state/a"  # where the guard sees it: the disk is about to go
        kept.mkdir(parents=True)
        shutil.copy(disk / "home/state/a/daemon.log", kept)


def goes_on_with_a_full_disk(disk: Path, stage: MountStage) -> None:
    """A program gets ENOSPC for what does not fit, by write or close, and all else goes on."""
    folder = stage.mount_point / "kept"
    fill_the_rest(disk)
    with pytest.raises(OSError, match="No space"), (folder / "large").open("wb") as file:
        file.write(bytes(DISK_BYTES))
    (folder / "large").unlink(missing_ok=True)
    assert (folder / "file").read_bytes() == b"not sent"
    (folder / "file").rename(folder / "moved")
    assert sorted(os.listdir(folder)) == ["moved"]
    (disk / "ballast").unlink()
    (folder / "new").write_bytes(b"new")


def test_names_can_be_changed_on_a_full_disk(disk: Path, server: StandIn) -> None:
    with mounted(disk, server) as stage:
        driver = stage.root()
        hold = server.faults.add(Hold(), method="PUT", times=None)
        kept = fill(driver, 900_000)
        fill_the_rest(disk)
        driver.mkdir("folder")
        driver.rename("00000", "folder/moved")
        driver.unlink("00001")
        expected = kept | {"folder": None, "folder/moved": kept["00000"]}
        del expected["00000"], expected["00001"]
        assert tree(driver) == expected
        hold.release()
        stage.sync()
        assert server.account(USER).tree() == expected


def test_a_file_that_is_being_overwritten_keeps_what_was_closed_before(disk: Path, server: StandIn) -> None:
    """The disk is full in the middle of the new bytes: those that were taken are there, the others as before."""
    old = content(1, 12_000_000)
    server.account(USER).write("/file", old)
    with mounted(disk, server) as stage:
        hold = server.faults.add(Hold(), method="PUT", times=None)
        driver = stage.root()
        file = driver.open("file", os.O_WRONLY)
        file.write(0, b"w" * 65_536)
        at, new = 65_536, bytearray(b"w" * 65_536 + old[65_536:])
        fill(driver, 3_000_000)
        # The file that did not fit gives its space back a moment after it was removed.
        wait_until(lambda: fits(partial(file.write, 0, b"w" * 65_536)))
        while fits(partial(file.write, at, b"w" * 65_536)):
            new[at : at + 65_536] = b"w" * 65_536
            at += 65_536
        file.close()
        assert at > 65_536
        for name in driver.names():
            if name != "file":
                driver.unlink(name)
        assert read(driver, "file") == bytes(new)
        hold.release()
        stage.sync()
        assert server.account(USER).read("/file") == bytes(new)


def test_the_block_cache_gives_way_first(disk: Path, server: StandIn) -> None:
    server.account(USER).write("/large", content(2, 25_000_000))
    with mounted(disk, server) as stage:
        assert len(read(stage.root(), "large")) == 25_000_000
        stage.wait(lambda: stage.engine.blocks.statistics().bytes > 20_000_000)
        write(stage.root(), "new", content(3, 25_000_000))
        assert read(stage.root(), "new") == content(3, 25_000_000)
        stage.sync()


def test_a_file_that_cannot_be_changed_and_not_even_noted_as_it_was_is_one_file(
    tmp_path: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes the row of the new bytes, and then neither their file nor that the row goes again."""
    server.account(USER).write("/file", b"of the server")
    with mounted(tmp_path, server) as stage:
        database, staging = stage.engine.store.db, stage.engine.files._staging
        first = stage.root().open("file", os.O_RDWR)
        with monkeypatch.context() as patch:

            async def full(*_of: object) -> None:
                patch.setattr(database, "_commit", refuse)
                await trio.lowlevel.checkpoint()
                raise PosixError(errno.ENOSPC)

            def refuse() -> None:
                database._db.execute("ROLLBACK")
                raise PosixError(errno.ENOSPC, "the state database")

            patch.setattr(staging, "create", full)
            with pytest.raises(OSError, match="No space"):
                first.write(0, b"new")
            second = stage.root().open("file", os.O_RDWR)
        first.write(0, b"FIRST")
        second.write(8, b"SECOND")
        assert (first.read(0, 100), second.read(0, 100)) == (b"FIRSTe sSECOND", b"FIRSTe sSECOND")
        first.close()
        second.close()
        stage.sync()
        assert server.account(USER).read("/file") == b"FIRSTe sSECOND"

"""`df` shows the account's quota, and what is sure not to fit is refused (docs/SEMANTICS.md)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cloudfs.blocks.staging import Staging
from cloudfs.vfs.records import Space
from cloudfs.vfs.room import Room
from tests.functional.drivers import read, write
from tests.functional.stages import USER, MountStage, VfsStage
from tests.servers import Answer, CutResponse, StandIn


def raises(*codes: int) -> pytest.RaisesExc[OSError]:
    return pytest.raises(OSError, check=lambda error: error.errno in codes)


@pytest.mark.mount
@pytest.mark.shared_engine
def test_df_shows_the_quota(tmp_path: Path) -> None:
    with StandIn() as server:
        server.account(USER).set_quota(10_000_000)
        server.account(USER).write("/file", bytes(1_000_000))
        stage = MountStage(tmp_path / "home", server)
        try:
            stage.wait(lambda: os.statvfs(stage.mount_point).f_blocks < 1 << 30)
            space = os.statvfs(stage.mount_point)
            assert space.f_blocks * space.f_frsize == pytest.approx(10_000_000, abs=space.f_frsize)
            assert space.f_bavail * space.f_frsize == pytest.approx(9_000_000, abs=space.f_frsize)
            longest = "x" * space.f_namemax
            (stage.mount_point / longest).write_bytes(b"new")
            stage.sync()
            assert server.account(USER).read(f"/{longest}") == b"new"
            with raises(errno.ENAMETOOLONG):
                (stage.mount_point / f"{longest}x").write_bytes(b"new")
            os.rename(stage.mount_point / longest, stage.mount_point / ("x" * 250))
            stage.sync()
            assert server.account(USER).read("/" + "x" * 250) == b"new"
        finally:
            stage.close()


@pytest.mark.shared_engine
def test_what_is_sure_not_to_fit_is_refused_at_once(tmp_path: Path) -> None:
    with StandIn() as server:
        account = server.account(USER)
        account.set_quota(1_000_000)
        account.write("/old", bytes(600_000))
        account.mkdir("/shared")
        account.set_permissions("/shared", "SRGDNVCK")
        stage = VfsStage(tmp_path / "engine", server)
        try:
            here = stage.root()
            stage.wait(lambda: stage.engine.filesystem.space().free == 400_000)
            new = here.open("new", os.O_CREAT | os.O_WRONLY)
            new.write(0, bytes(400_000))
            with raises(errno.EDQUOT):
                new.write(400_000, b"x")
            with raises(errno.EDQUOT):
                here.truncate("new", 500_000)
            new.write(0, b"over what is there")
            new.close()
            old = here.open("old", os.O_RDWR)
            old.write(599_999, b"x")  # it has that much already: kept here, at least
            with raises(errno.EDQUOT):
                old.write(600_000, b"x")  # all of it anew, says a Nextcloud
            old.close()
            write(here, "shared/other", bytes(500_000))  # on its owner's account
            account.set_quota(None)
        finally:
            stage.close()


@pytest.mark.shared_engine
@pytest.mark.expect_log(r"/large: not sent yet: No space left on device: ")
def test_a_file_that_the_disk_has_no_room_for_does_not_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is fetched: what is edited elsewhere needs the room. It goes up once there is some."""
    large = os.urandom(9 << 20)
    with StandIn() as server:
        server.account(USER).write("/large", large)
        stage = VfsStage(tmp_path / "engine", server)
        try:
            monkeypatch.setattr(Staging, "free_bytes", lambda _: 5 << 20)
            edited = stage.root().open("large", os.O_RDWR)
            edited.write(0, b"edited")
            edited.close()
            assert [it.reason.partition(":")[0] for it in stage.send()] == ["No space left on device"]
            assert server.requests.count("GET", "/large") == 0
            monkeypatch.undo()
            stage.restart()
            stage.sync()
            assert server.account(USER).read("/large") == b"edited" + large[6:]
        finally:
            stage.close()


@pytest.mark.shared_engine
@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_copied_before_the_connection_broke_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restarted: bool
) -> None:
    """On a disk of 14 MiB, of which a file of 9 MiB takes 6 already: there is room for the rest."""
    large = os.urandom(9 << 20)
    with StandIn() as server:
        server.account(USER).write("/large", large)
        stage = VfsStage(tmp_path / "engine", server)
        try:
            monkeypatch.setattr(Staging, "free_bytes", lambda staging: (14 << 20) - staging.used_bytes())
            server.faults.add(CutResponse(6 << 20), method="GET", path="/large")
            away = server.faults.add(Answer(503), method="GET", path="/large", times=None)
            edited = stage.root().open("large", os.O_RDWR)
            edited.write(0, b"edited")
            edited.close()
            assert away.wait_hit()
            server.faults.remove(away)
            if restarted:
                stage.restart()
            stage.sync()
            assert server.account(USER).read("/large") == b"edited" + large[6:]
        finally:
            stage.close()


@pytest.mark.shared_engine
@pytest.mark.parametrize("sent", [True, False], ids=["sent", "not sent yet"])
@pytest.mark.parametrize("how", ["remove", "remove a folder", "cut", "take off"])
def test_room_that_was_made_here_can_be_used_at_once(tmp_path: Path, how: str, sent: bool) -> None:
    """Whatever the server told last: it may know of that only minutes later."""
    with StandIn() as server:
        account = server.account(USER)
        account.set_quota(1_000_000)
        account.mkdir("/folder")
        account.write("/folder/old", bytes(700_000))
        stage = VfsStage(tmp_path / "engine", server)
        try:
            here = stage.root()
            stage.wait(lambda: stage.engine.filesystem.space().free == 300_000)
            assert here.names("folder") == ["old"]
            with raises(errno.EDQUOT):
                write(here, "new", bytes(700_000))
            if how == "cut":
                here.truncate("folder/old", 1)
            elif how == "take off":
                here.rename("folder/old", "folder/.~lock.old#")
            else:
                here.unlink("folder/old")
            if how == "remove a folder":
                here.rmdir("folder")
            if sent:
                stage.sync()
            write(here, "new", bytes(700_000))
            if (
                how != "remove a folder" or not sent
            ):  # how large that was is known once the server was asked again
                with raises(errno.EDQUOT):
                    here.truncate("new", 1_000_001)
            if sent:
                stage.sync()
                assert account.read("/new") == bytes(700_000)
            account.set_quota(None)
        finally:
            stage.close()


@pytest.mark.shared_engine
def test_what_went_up_of_an_open_file_is_not_asked_for_twice(tmp_path: Path) -> None:
    with StandIn() as server:
        account = server.account(USER)
        account.set_quota(1_000_000)
        stage = VfsStage(tmp_path / "engine", server)
        try:
            here = stage.root()
            stage.wait(lambda: stage.engine.filesystem.space().free == 1_000_000)
            new = here.open("new", os.O_CREAT | os.O_WRONLY)
            new.write(0, bytes(600_000))
            stage.sync()
            stage.call(stage.engine.greet)
            assert stage.call_sync(stage.engine.filesystem.space).free == 400_000
            new.write(600_000, bytes(300_000))
            new.close()
            account.set_quota(None)
        finally:
            stage.close()


@pytest.mark.shared_engine
@pytest.mark.parametrize("held", [500_000, 600_000])
def test_a_larger_version_needs_room_for_all_of_it(tmp_path: Path, held: int) -> None:
    """Nextcloud compares the whole new size with what is free, whatever it replaces (protocol.md §6)."""
    with StandIn() as server:
        account = server.account(USER)
        account.set_quota(1_000_000)
        account.write("/old", bytes(held))
        stage = VfsStage(tmp_path / "engine", server)
        try:
            here = stage.root()
            free = 1_000_000 - held
            stage.wait(lambda: stage.engine.filesystem.space().free == free)
            with raises(errno.EDQUOT):
                here.truncate("old", max(free, held) + 1)
            here.truncate("old", free)
            stage.sync()
            assert account.read("/old") == bytes(free)
            account.set_quota(None)
        finally:
            stage.close()


def test_elsewhere_a_version_needs_room_for_what_it_is_larger_by() -> None:
    """Servers that are no Nextcloud tell nothing else."""
    room = Room(held_bytes=600_000, counts=True)
    assert not room.lacks(1_000_000, Space(total=1_000_000, free=400_000))
    assert room.lacks(1_000_001, Space(total=1_000_000, free=400_000)) == 1
    assert room.lacks(600_001, Space(total=1_000_000, free=400_000, whole=True)) == 200_001
    assert not room.lacks(600_000, Space(total=1_000_000, free=400_000, whole=True))


@pytest.mark.shared_engine
def test_a_size_that_the_disk_cannot_have_is_refused(tmp_path: Path) -> None:
    with StandIn() as server:
        stage = VfsStage(tmp_path / "engine", server)
        try:
            here = stage.root()
            write(here, "file", b"content")
            for size in (2**62, 2**63 - 1):
                with raises(errno.EFBIG):
                    here.truncate("file", size)
            assert read(here, "file") == b"content"
            assert here.size("file") == 7
        finally:
            stage.close()


@pytest.mark.shared_engine
def test_the_space_follows_what_is_done_here_and_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudfs.metadata.quota._PAUSE_S", 0.5)
    with StandIn() as server:
        account = server.account(USER)
        account.set_quota(1_000_000)
        account.write("/old", bytes(100_000))
        stage = VfsStage(tmp_path / "engine", server, listing_ttl_s=0.1)
        try:
            here = stage.root()

            def free() -> int:
                return stage.engine.filesystem.space().free

            stage.wait(lambda: free() == 900_000)
            write(here, "new", bytes(300_000))
            write(here, "old", bytes(50_000))
            stage.sync()
            assert stage.call_sync(free) == 650_000
            here.unlink("new")
            stage.sync()
            assert stage.call_sync(free) == 950_000
            account.write("/theirs", bytes(200_000))
            stage.look()
            stage.wait(lambda: free() == 750_000)
        finally:
            stage.close()

"""Programs that walk through folders of small files: few requests, no wrong bytes, little in vain (SEMANTICS.md)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.content.prefetch import PrefetchStatistics
from tests.functional.drivers import VfsDriver, read, write
from tests.functional.stages import USER, MountStage, VfsStage
from tests.servers import StandIn
from tests.servers.standin.faults import Action, Answer, CutResponse, Drop, Hold
from tests.servers.standin.log import Record

pytestmark = pytest.mark.shared_engine

FOLDERS, FILES, SIZE = 5, 100, 4096
CONTENTS = {
    f"small/d{folder}/f{number:03}.txt": os.urandom(SIZE)
    for folder in range(FOLDERS)
    for number in range(FILES)
}
LARGE = "small/d1/f050.large"
DATA = os.urandom(1_500_000)


def md5(data: bytes) -> str:
    return "MD5:" + hashlib.md5(data).hexdigest()  # noqa: S324  # some clients use it


def md5_of_name(name: str) -> str:
    return md5(name.encode())


def fill(server: StandIn, *, checksums: bool) -> None:
    for name, data in CONTENTS.items():
        server.account(USER).write(f"/{name}", data, checksum=md5(data) if checksums else None, mtime=10**9)
    server.account(USER).write(f"/{LARGE}", DATA)


@pytest.fixture(params=["with checksums", "without"])
def server(request: pytest.FixtureRequest) -> Iterator[StandIn]:
    with StandIn() as standin:
        fill(standin, checksums=request.param == "with checksums")
        yield standin


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things changes nothing."""
    monkeypatch.setattr("cloudfs.content.walking.PAUSE_S", 60.0)
    for name in ("_LEAST_PATIENCE_S", "_MOST_PATIENCE_S", "_ARCHIVE_S", "_LEFT_S"):
        monkeypatch.setattr(f"cloudfs.content.prefetch.{name}", 60.0)


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, patient: None) -> Iterator[VfsStage]:
    del patient
    made = VfsStage(tmp_path / "engine", server, listing_ttl_s=600)
    for folder in range(FOLDERS):
        assert len(made.root().names(f"small/d{folder}")) >= FILES
    server.requests.reset()
    yield made
    made.close()


def names(folder: int, numbers: range = range(FILES)) -> list[str]:
    return [f"small/d{folder}/f{number:03}.txt" for number in numbers]


def walk(driver: VfsDriver, folder: int, numbers: range = range(FILES)) -> None:
    for name in names(folder, numbers):
        assert read(driver, name) == CONTENTS[name]


def gets(server: StandIn, path: str = "/d./.*txt") -> int:
    return server.requests.count("GET", path)


def archives(server: StandIn) -> int:
    return server.requests.count("GET", "download.php")


def statistics(stage: VfsStage) -> PrefetchStatistics:
    return stage.call_sync(stage.engine.prefetcher.statistics)


def in_background(stage: VfsStage, name: str, expected: bytes) -> threading.Thread:
    """Read a file in another thread, which fails the test if it gets other bytes."""

    def look() -> None:
        assert read(stage.root(), name) == expected

    thread = threading.Thread(target=look)
    thread.start()
    return thread


def _is_archive(record: Record) -> bool:
    return "download.php" in record.path


def test_a_walk_takes_few_requests_and_wastes_nothing(stage: VfsStage, server: StandIn) -> None:
    for folder in range(FOLDERS):
        walk(stage.root(), folder)
    assert gets(server) <= 4
    assert archives(server) <= 6
    assert len([it for it in server.requests if it.method in {"GET", "PROPFIND"}]) <= 18
    told = statistics(stage)
    assert told.used_bytes >= SIZE * (FOLDERS * FILES - 4)
    assert (told.wasted_bytes, told.unread_bytes) == (0, 0)
    assert told.fetched_bytes == told.used_bytes


def test_one_file_or_two_cause_nothing(stage: VfsStage, server: StandIn) -> None:
    for folder in range(FOLDERS):
        walk(stage.root(), folder, range(10, 12))
    assert (gets(server), archives(server)) == (2 * FOLDERS, 0)
    assert statistics(stage).files == 0


def test_any_order_is_a_walk_too(stage: VfsStage, server: StandIn) -> None:
    for name in sorted(names(2), key=md5_of_name):
        assert read(stage.root(), name) == CONTENTS[name]
    assert gets(server) <= 25
    assert statistics(stage).wasted_bytes == 0


def test_a_few_files_of_a_folder_waste_little(stage: VfsStage) -> None:
    walk(stage.root(), 0, range(3))
    assert statistics(stage).fetched_bytes <= 20 * SIZE


def test_what_is_wasted_again_and_again_stops(
    stage: VfsStage, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that always looks into three files of a folder and goes on elsewhere."""
    monkeypatch.setattr("cloudfs.content.prefetch_budget.CREDIT_BYTES", 30 * SIZE)
    for folder in range(FOLDERS):
        walk(stage.root(), folder, range(3))
    told = statistics(stage)
    assert told.fetched_bytes <= 30 * SIZE
    assert archives(server) <= 2
    server.requests.reset()
    walk(stage.root(), 4, range(50, 60))
    assert gets(server) == 10


def test_a_reader_of_what_is_on_its_way_does_not_ask_for_it_again(stage: VfsStage, server: StandIn) -> None:
    rule = server.faults.add(Hold(), predicate=_is_archive)
    walk(stage.root(), 0, range(3))
    rule.wait_hit()
    reader = in_background(stage, *list(CONTENTS.items())[3])
    assert read(stage.root(), "small/d1/f007.txt") == CONTENTS["small/d1/f007.txt"], "others wait for nothing"
    assert read(stage.root(), LARGE) == DATA
    assert reader.is_alive()
    rule.release()
    reader.join(60)
    assert not reader.is_alive()
    assert gets(server, "/d0/.*txt") == 3


def test_nobody_waits_for_an_archive_for_ever(
    stage: VfsStage, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LEAST_PATIENCE_S", "_MOST_PATIENCE_S"):
        monkeypatch.setattr(f"cloudfs.content.prefetch.{name}", 0.05)
    rule = server.faults.add(Hold(), predicate=_is_archive)
    walk(stage.root(), 0)
    rule.release()


def test_an_archive_on_its_way_does_not_hold_up_the_end(
    tmp_path: Path, server: StandIn, patient: None
) -> None:
    del patient
    stage = VfsStage(tmp_path / "engine", server, listing_ttl_s=600)
    stage.root().names("small/d0")
    rule = server.faults.add(Hold(), predicate=_is_archive)
    walk(stage.root(), 0, range(3))
    rule.wait_hit()
    stage.close()
    rule.release()
    stage.reopen()
    walk(stage.root(), 0)
    stage.close()


def test_without_archives_files_come_one_by_one_and_once(stage: VfsStage, server: StandIn) -> None:
    server.site.archives = ""
    walk(stage.root(), 0, range(3))
    stage.wait(lambda: gets(server) == 23)
    for folder in range(FOLDERS):
        walk(stage.root(), folder)
    assert gets(server) == FOLDERS * FILES
    assert archives(server) <= 1, "it was asked for them once"
    assert statistics(stage).wasted_bytes == 0


@pytest.mark.parametrize(
    "action",
    [
        Answer(500, b"Allowed memory size exhausted"),
        Answer(502, b"<html>Bad Gateway</html>"),
        Answer(503, b"<html>Service Unavailable</html>"),
        Answer(200, b"<!DOCTYPE html><html>Error</html>", {"Content-Type": "text/html"}),
        Answer(404, b"<html>Not Found</html>"),
        Answer(414, b"<html>Request-URI Too Large</html>"),
        CutResponse(5000),
        Drop(),
    ],
    ids=["500", "502", "503", "page", "404", "414", "cut", "dropped"],
)
def test_whatever_becomes_of_archives_files_are_read(
    stage: VfsStage, server: StandIn, action: Action
) -> None:
    server.faults.add(action, predicate=_is_archive, times=None)
    walk(stage.root(), 0, range(30))
    asked = [it.path for it in server.requests.matching("GET", "/d0/.*txt")]
    assert len(asked) == len(set(asked)), "nothing is asked for twice"
    assert archives(server) <= 4, "not tried again and again"


@pytest.mark.expect_log("the block cache gave way")
def test_a_disk_without_room_for_blocks_is_no_failure(tmp_path: Path, server: StandIn, patient: None) -> None:
    """What the block cache does not keep is read by itself, and nothing more is fetched ahead to be thrown away."""
    del patient
    server.site.archives = ""
    stage = VfsStage(tmp_path / "engine", server, listing_ttl_s=600, cache_keep_free_bytes=1 << 60)
    walk(stage.root(), 0)
    stage.close()
    assert gets(server) <= FILES + 2


def test_offline_nothing_is_asked_for_and_what_was_brought_is_read(stage: VfsStage, server: StandIn) -> None:
    walk(stage.root(), 0, range(3))
    stage.wait(lambda: stage.engine.fetcher.statistics().archived_files == 20)
    server.stop()
    walk(stage.root(), 0, range(23))
    with pytest.raises(OSError):  # noqa: PT011  # which one depends on how the connection ends
        read(stage.root(), names(0)[60])
    server.start()


def test_what_is_changed_here_is_left_out(tmp_path: Path, server: StandIn, patient: None) -> None:
    del patient
    stage = VfsStage(tmp_path / "engine", server, listing_ttl_s=600, quiet_s=600)
    try:
        root = stage.root()
        root.names("small/d0")
        write(root, names(0)[7], b"mine")
        root.rename(names(0)[8], "small/d0/f008.new")
        server.requests.reset()
        for number in range(3):
            read(root, names(0)[number])
        stage.wait(lambda: stage.engine.fetcher.statistics().archived_files == 18)
        (asked,) = {it.target for it in server.requests.matching("GET", "download.php")}
        assert "f006.txt" in asked
        assert not any(name in asked for name in ("f007.txt", "f008", "f002.txt"))
        assert read(root, names(0)[7]) == b"mine"
        assert read(root, "small/d0/f008.new") == CONTENTS[names(0)[8]]
    finally:
        stage.close()


def test_another_clients_change_meanwhile_brings_no_wrong_bytes(stage: VfsStage, server: StandIn) -> None:
    """It falls between the making of the archive and the look at the folder afterwards, and before both."""
    account, now = server.account(USER), os.urandom(SIZE)
    rule = server.faults.add(Hold(), predicate=_is_archive)
    walk(stage.root(), 0, range(3))
    rule.wait_hit()
    account.write(f"/{names(0)[5]}", now, mtime=10**9 + 7)
    rule.release()
    with pytest.raises(OSError):  # noqa: PT011  # ESTALE: the version that was opened is gone
        read(stage.root(), names(0)[5])
    stage.look()
    assert read(stage.root(), names(0)[5]) == now
    for name in names(0):
        assert read(stage.root(), name) == (now if name == names(0)[5] else CONTENTS[name])


def test_a_folder_that_has_changed_is_listed_before_the_next_archive(
    stage: VfsStage, server: StandIn
) -> None:
    """Its ETag proves nothing any more, and we have not heard of that yet."""
    server.account(USER).write("/small/d0/new.txt", b"new")
    walk(stage.root(), 0)
    assert gets(server, "/d0/.*txt") <= 25


def test_a_listing_that_brings_another_version_meanwhile(stage: VfsStage, server: StandIn) -> None:
    """The archive has the new bytes, and the folder the ETag of its last listing: these are not the old version's."""
    account, now = server.account(USER), os.urandom(SIZE)
    old = stage.root().open(names(0)[5])
    rule = server.faults.add(Hold(), predicate=_is_archive)
    walk(stage.root(), 0, range(3))
    rule.wait_hit()
    account.write(f"/{names(0)[5]}", now, mtime=10**9 + 7)
    stage.look()
    rule.release()
    assert read(stage.root(), names(0)[5]) == now
    with pytest.raises(OSError):  # noqa: PT011  # ESTALE, and never the new bytes
        old.read(0, SIZE)
    old.close()


COMMANDS = {
    "grep": "grep -rc nothing-like-it small > list || true; test $(wc -l < list) = 501",
    "tar": "tar cf - small > all.tar; test $(tar tf all.tar | grep -c txt) = 500",
    "cp": "cp -r small out; diff -r out out && test $(ls out/* | grep -c txt) = 500",
    "python": 'python3 -c \'import pathlib; [it.read_bytes() for it in pathlib.Path("small").rglob("*.txt")]\'',
}
"""The first `small` stands for the folder in the mount."""


@pytest.mark.mount
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_real_programs_take_few_requests(tmp_path: Path, command: str) -> None:
    with StandIn() as server:
        fill(server, checksums=False)
        stage = MountStage(tmp_path / "home", server)
        try:
            work = tmp_path / "work"
            work.mkdir()
            command = command.replace("small", str(stage.mount_point / "small"), 1)
            server.requests.reset()
            subprocess.run(["bash", "-ec", command], cwd=work, check=True, timeout=120)
            assert len([it for it in server.requests if it.method == "GET"]) <= 30
        finally:
            stage.close()


def test_what_was_given_up_is_planned_again(
    stage: VfsStage, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a walk that waited for an archive of a slow server for so long that it seemed to have ended."""
    for name in ("_LEAST_PATIENCE_S", "_MOST_PATIENCE_S", "_ARCHIVE_S"):
        monkeypatch.setattr(f"cloudfs.content.prefetch.{name}", 0.05)
    monkeypatch.setattr("cloudfs.content.prefetch._LEFT_S", -1.0)
    rule = server.faults.add(Hold(), predicate=_is_archive)
    walk(stage.root(), 0, range(3))
    rule.wait_hit()
    stage.wait(lambda: stage.engine.prefetcher.statistics().unread_bytes == 0)
    rule.release()
    monkeypatch.setattr("cloudfs.content.prefetch._LEFT_S", 60.0)
    walk(stage.root(), 0, range(3, 4))
    stage.wait(lambda: gets(server, "/d0/.*txt") >= 20)


@pytest.mark.expect_log("the block cache gave way: no room for a block")
@pytest.mark.parametrize("archived", [True, False])
def test_a_cache_that_keeps_nothing_is_not_fetched_for(
    tmp_path: Path,
    server: StandIn,
    patient: None,
    monkeypatch: pytest.MonkeyPatch,
    archived: bool,
) -> None:
    """As on a disk that is nearly full: what is fetched ahead would be thrown away, and fetched again."""
    del patient
    monkeypatch.setattr("cloudfs.content.prefetch._OUTAGE_S", 600.0)
    if not archived:
        server.site.archives = ""
    stage = VfsStage(tmp_path / "engine", server, listing_ttl_s=600, cache_keep_free_bytes=1 << 60)
    folders = 2
    for folder in range(folders):
        stage.root().names(f"small/d{folder}")
    server.requests.reset()
    for folder in range(folders):
        walk(stage.root(), folder)
    stage.close()
    assert archives(server) <= 2
    assert gets(server) <= folders * FILES + 2

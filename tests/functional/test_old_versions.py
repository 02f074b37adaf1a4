"""Edits of files that another client replaces or moves before the bytes that they stand on were fetched."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.content import retrieval
from cloudfs.sync.troubles import Trouble
from tests.functional.drivers import VfsDriver, read, tree
from tests.functional.stages import USER, VfsStage, unhurried
from tests.servers import Account, CutResponse, Hold, Spoil, StandIn

pytestmark = pytest.mark.shared_engine

SMALL, LARGE, GROWING = 500_000, 3_000_000, 5_000_000
"""Of the first the base is fetched soon after the first write, of the second when it is sent; of the third not at all
where it only grew."""
AT = 200_000
OURS = b"ours" * 10
WRITTEN_S = 1_600_000_000
OLD_VERSION = r"/versions/.*/\d+$"


def content(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + b"z" * (size % 251)


def edited(size: int) -> bytes:
    old = content(size)
    return old[:AT] + OURS + old[AT + len(OURS) :]


def sha1(data: bytes) -> str:
    return f"SHA1:{hashlib.sha1(data, usedforsecurity=False).hexdigest()}"


@pytest.fixture
def there(server: StandIn) -> Account:
    """Another client."""
    return server.account(USER)


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, there: Account) -> Iterator[VfsStage]:
    for size in (SMALL, LARGE, GROWING):
        data = content(size)
        there.write(f"/{size}", data, mtime=WRITTEN_S, checksum=sha1(data))
    there.write("/plain", content(LARGE), mtime=WRITTEN_S)
    there.mkdir("/elsewhere")
    yield from unhurried(tmp_path / "engine", server)


@pytest.fixture
def here(stage: VfsStage) -> VfsDriver:
    driver = stage.root()
    for name in driver.names():
        driver.size(name)
    return driver


def edit(here: VfsDriver, name: str) -> None:
    file = here.open(name, os.O_WRONLY)
    file.write(AT, OURS)
    file.close()


def send(stage: VfsStage) -> list[Trouble]:
    """Send, look and send: what a conflict is made of may be found in either."""
    stage.send()
    stage.look()
    return stage.send()


def copies(there: Account, name: str) -> list[bytes | None]:
    return [data for path, data in there.tree().items() if path.startswith(f"{name} (conflicted copy")]


def test_what_is_replaced_while_it_is_fetched_becomes_a_whole_conflicted_copy(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    name = str(SMALL)
    fetch = server.faults.add(Hold(), method="GET", path=f"/files/.*/{name}")
    file = here.open(name, os.O_WRONLY)
    file.write(AT, OURS)
    assert fetch.wait_hit()
    there.write(f"/{name}", b"theirs")
    fetch.release()
    file.close()
    assert not send(stage)
    assert there.read(f"/{name}") == b"theirs"
    assert copies(there, name) == [edited(SMALL)]
    assert tree(here) == there.tree()


@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "seen"])
@pytest.mark.parametrize("often", [1, 3])
def test_what_was_replaced_before_it_is_sent_becomes_a_whole_conflicted_copy(
    stage: VfsStage, here: VfsDriver, there: Account, *, often: int, seen: bool
) -> None:
    name = str(LARGE)
    edit(here, name)
    for number in range(often):
        there.write(f"/{name}", b"theirs" * (number + 1), mtime=WRITTEN_S + 100 * (number + 1))
    if seen:
        stage.look()
    assert not send(stage)
    assert there.read(f"/{name}") == b"theirs" * often
    assert copies(there, name) == [edited(LARGE)]
    assert read(here, name) == b"theirs" * often


@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "seen"])
def test_what_only_grew_becomes_a_whole_conflicted_copy(
    stage: VfsStage, here: VfsDriver, there: Account, *, seen: bool
) -> None:
    """Its tail alone is sent first, and is refused: what it grew from is looked for by the other's id then."""
    name = str(GROWING)
    file = here.open(name, os.O_WRONLY)
    file.write(GROWING, OURS)
    file.close()
    there.write(f"/{name}", b"theirs")
    if seen:
        stage.look()
    assert not send(stage)
    assert there.read(f"/{name}") == b"theirs"
    assert copies(there, name) == [content(GROWING) + OURS]


def test_a_reply_that_breaks_is_asked_for_once_more(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    name = str(LARGE)
    edit(here, name)
    there.write(f"/{name}", b"theirs")
    cut = server.faults.add(CutResponse(1_500_000), method="GET", path=OLD_VERSION)
    assert not send(stage)
    assert cut.hits == 1
    assert copies(there, name) == [edited(LARGE)]


LOGGED = pytest.mark.expect_log("not sent yet: another client replaced the version")


def blocked(stage: VfsStage, there: Account, name: str) -> None:
    """Nothing of ours went up, and theirs is as it was."""
    (trouble,) = send(stage)
    assert "another client replaced the version" in trouble.reason
    assert there.read(f"/{name}") == b"theirs"
    assert copies(there, name) == []


def test_without_a_checksum_the_one_of_the_same_time_and_size_is_taken(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    read_end(here, "plain")
    edit(here, "plain")
    there.write("/plain", b"theirs")
    assert not send(stage)
    assert copies(there, "plain") == [edited(LARGE)]
    assert [it for it in server.requests if "/versions/" in it.path]


@LOGGED
def test_without_a_checksum_what_differs_from_a_block_that_is_here_is_not_believed(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    read_end(here, "plain")
    edit(here, "plain")
    there.write("/plain", b"theirs")
    spoilt = server.faults.add(Spoil(at=LARGE - 1), method="GET", path=OLD_VERSION, times=None)
    blocked(stage, there, "plain")
    assert spoilt.hits


@LOGGED
def test_without_a_checksum_what_may_have_had_a_twin_in_its_second_is_not_believed(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    """Nobody looked into the folder once that second was over."""
    there.write("/plain", content(LARGE)[::-1], mtime=int(time.time()))
    stage.look()
    edit(here, "plain")
    there.write("/plain", b"theirs", mtime=WRITTEN_S)
    blocked(stage, there, "plain")
    assert not [it for it in server.requests if "/versions/" in it.path]


@pytest.mark.parametrize("within", ["", "/inner/deep"], ids=["itself", "below it"])
def test_what_was_removed_with_its_folder_is_found_in_the_trash(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn, within: str
) -> None:
    name = put_in_folder(stage, here, there, within, checksum=sha1(content(LARGE)))
    for number in range(40):
        there.write(f"/other{number}/x", b"other")
        there.delete(f"/other{number}")
    edit(here, name)
    there.delete("/folder")
    assert not send(stage)
    assert there.tree()[name] == edited(LARGE)
    listed = [it for it in server.requests if "/trashbin/" in it.path and it.method == "PROPFIND"]
    assert len(listed) == 2 + within.count("/")


@LOGGED
def test_without_a_checksum_nothing_in_the_trash_is_believed(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    """It says neither when its content was written nor what it is."""
    name = put_in_folder(stage, here, there, "", checksum=None)
    edit(here, name)
    there.delete("/folder")
    (trouble,) = send(stage)
    assert "another client replaced the version" in trouble.reason
    assert not [it for it in server.requests if "/trashbin/" in it.path]


def read_end(here: VfsDriver, name: str) -> None:
    file = here.open(name)
    assert file.read(LARGE - 1000, 1000) == content(LARGE)[-1000:]
    file.close()


def put_in_folder(
    stage: VfsStage, here: VfsDriver, there: Account, within: str, *, checksum: str | None
) -> str:
    name = f"folder{within}/f"
    there.write(f"/{name}", content(LARGE), mtime=WRITTEN_S, checksum=checksum)
    stage.look()
    folder = ""
    for part in name.split("/")[:-1]:
        folder = f"{folder}/{part}".strip("/")
        here.names(folder)
    return name


@LOGGED
def test_what_is_too_large_to_be_fetched_at_once_is_not_looked_for(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "_MOST_BYTES", LARGE - 1)
    name = str(LARGE)
    edit(here, name)
    there.write(f"/{name}", b"theirs")
    blocked(stage, there, name)
    assert not [it for it in server.requests if "/versions/" in it.path]


@LOGGED
def test_an_old_version_that_does_not_fit_its_checksum_is_not_believed(
    stage: VfsStage, here: VfsDriver, there: Account, server: StandIn
) -> None:
    name = str(LARGE)
    edit(here, name)
    there.write(f"/{name}", b"theirs")
    spoilt = server.faults.add(Spoil(at=LARGE - 1), method="GET", path=OLD_VERSION, times=None)
    blocked(stage, there, name)
    assert spoilt.hits


@LOGGED
def test_a_twin_of_the_same_second_and_size_is_not_believed(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    name = str(LARGE)
    edit(here, name)
    there.write(f"/{name}", b"t" * LARGE, mtime=WRITTEN_S)
    there.write(f"/{name}", b"theirs")
    blocked(stage, there, name)


def test_an_edit_follows_a_file_that_another_client_moved(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    name = str(LARGE)
    edit(here, name)
    there.move(f"/{name}", "/elsewhere/moved")
    assert not send(stage)
    assert there.read("/elsewhere/moved") == edited(LARGE)
    assert not there.exists(f"/{name}")


@pytest.mark.parametrize("name", [str(LARGE), "plain"], ids=["with a checksum", "without"])
def test_an_edit_of_a_file_that_was_moved_to_a_folder_not_known_here_has_all_its_bytes(
    stage: VfsStage, here: VfsDriver, there: Account, name: str
) -> None:
    edit(here, name)
    there.mkdir("/new")
    there.move(f"/{name}", "/new/moved")
    assert not send(stage)
    assert edited(LARGE) in [data for path, data in there.tree().items() if path in {name, "new/moved"}]

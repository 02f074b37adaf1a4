"""Two changes of one thing: one test per row of the table in docs/SEMANTICS.md.

Nothing goes up by itself here (`quiet_s` is long): each test changes both sides, then sends, then looks.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudfs.types import ROOT
from tests.functional.drivers import VfsDriver, read, tree, write
from tests.functional.stages import USER, VfsStage, unhurried
from tests.servers import Account, StandIn

pytestmark = pytest.mark.shared_engine

COPY = re.compile(r" \(conflicted copy \d{4}-\d\d-\d\d \d{6}( \d+)?\)")


@pytest.fixture
def there(server: StandIn) -> Account:
    """Another client."""
    account = server.account(USER)
    for path, data in BASE.items():
        if data is not None:
            # In another second than the edits to come: within one, a Nextcloud's ETag does not change.
            account.write(f"/{path}", data, mtime=1_600_000_000)
    return account


@pytest.fixture
def stage(tmp_path: Path, server: StandIn, there: Account) -> Iterator[VfsStage]:
    del there
    yield from unhurried(tmp_path / "engine", server)


@pytest.fixture
def here(stage: VfsStage) -> VfsDriver:
    driver = stage.root()
    tree(driver)
    return driver


def settle(stage: VfsStage, here: VfsDriver, there: Account) -> dict[str, bytes | None]:
    """Send, look, and return what both sides show: it must be the same. Copies' dates are left out of names."""
    stage.sync()
    stage.look()
    stage.sync()
    assert tree(here) == there.tree()
    return {COPY.sub(" (copy)", path): data for path, data in there.tree().items()}


BASE: dict[str, bytes | None] = {
    "doc.txt": b"base",
    "folder": None,
    "folder/inside": b"inside",
    "folder/other": b"other",
}


def test_edit_and_edit(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "doc.txt", b"ours")
    there.write("/doc.txt", b"theirs")
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"theirs", "doc (copy).txt": b"ours"}
    assert len(stage.engine.store.conflicts()) == 1


def test_edit_and_edit_seen_before_it_is_sent(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "doc.txt", b"ours")
    there.write("/doc.txt", b"theirs")
    stage.look()
    assert read(here, "doc.txt") == b"ours"
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"theirs", "doc (copy).txt": b"ours"}


def test_the_same_edit_is_no_conflict(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "doc.txt", b"the same")
    there.write("/doc.txt", b"the same")
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"the same"}
    assert stage.engine.store.conflicts() == []


@pytest.mark.parametrize("seen", [False, True])
def test_edit_and_delete(stage: VfsStage, here: VfsDriver, there: Account, *, seen: bool) -> None:
    write(here, "doc.txt", b"ours")
    there.delete("/doc.txt")
    if seen:
        stage.look()
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"ours"}


@pytest.mark.parametrize("seen", [False, True])
def test_delete_and_edit(stage: VfsStage, here: VfsDriver, there: Account, *, seen: bool) -> None:
    here.unlink("doc.txt")
    there.write("/doc.txt", b"theirs, longer")
    if seen:
        stage.look()
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"theirs, longer"}


def write_with_checksum(stage: VfsStage, there: Account) -> None:
    """Have what is known of a file be provable, as where cloudfs or the desktop client sent it."""
    checksum = f"SHA1:{hashlib.sha1(b'base', usedforsecurity=False).hexdigest()}"
    there.write("/doc.txt", b"base", mtime=1_600_000_001, checksum=checksum)
    stage.look()


@pytest.mark.parametrize("seen", [False, True])
def test_edit_and_a_time_that_was_set(
    stage: VfsStage, here: VfsDriver, there: Account, *, seen: bool
) -> None:
    write_with_checksum(stage, there)
    write(here, "doc.txt", b"ours")
    there.touch("/doc.txt", 1_650_000_000)
    if seen:
        stage.look()
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"ours"}
    assert abs(there.node("/doc.txt").mtime - here.mtime_ns("doc.txt") // 10**9) <= 1
    assert stage.engine.store.conflicts() == []


@pytest.mark.parametrize("seen", [False, True])
def test_delete_and_a_time_that_was_set(
    stage: VfsStage, here: VfsDriver, there: Account, *, seen: bool
) -> None:
    write_with_checksum(stage, there)
    here.unlink("doc.txt")
    there.touch("/doc.txt", 1_650_000_000)
    if seen:
        stage.look()
    assert settle(stage, here, there) == {k: v for k, v in BASE.items() if k != "doc.txt"}


def test_delete_and_delete(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    here.unlink("doc.txt")
    there.delete("/doc.txt")
    assert settle(stage, here, there) == {k: v for k, v in BASE.items() if k != "doc.txt"}


def test_delete_a_folder_that_got_something_new(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    here.unlink("folder/inside")
    here.unlink("folder/other")
    here.rmdir("folder")
    there.write("/folder/new", b"new")
    there.write("/folder/other", b"other, changed")
    assert settle(stage, here, there) == {
        "doc.txt": b"base",
        "folder": None,
        "folder/new": b"new",
        "folder/other": b"other, changed",
    }


def test_create_and_create(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "new.txt", b"ours")
    there.write("/new.txt", b"theirs")
    assert settle(stage, here, there) == {**BASE, "new.txt": b"theirs", "new (copy).txt": b"ours"}


def test_two_folders_of_one_name_are_one(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    here.mkdir("new")
    write(here, "new/ours", b"1")
    there.write("/new/theirs", b"2")
    assert settle(stage, here, there) == {**BASE, "new": None, "new/ours": b"1", "new/theirs": b"2"}


def test_a_folder_here_and_a_file_there(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    here.mkdir("new")
    write(here, "new/ours", b"1")
    there.write("/new", b"a file")
    assert settle(stage, here, there) == {
        **BASE,
        "new": b"a file",
        "new (copy)": None,
        "new (copy)/ours": b"1",
    }


def test_a_file_here_and_a_folder_there(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "new", b"a file")
    there.write("/new/theirs", b"2")
    assert settle(stage, here, there) == {**BASE, "new (copy)": b"a file", "new": None, "new/theirs": b"2"}


def test_rename_to_a_name_that_is_taken(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    here.rename("doc.txt", "taken.txt")
    there.write("/taken.txt", b"theirs")
    expected = {k: v for k, v in BASE.items() if k != "doc.txt"}
    assert settle(stage, here, there) == {**expected, "taken.txt": b"theirs", "taken (copy).txt": b"base"}


def test_rename_and_delete(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    here.rename("doc.txt", "renamed.txt")
    there.delete("/doc.txt")
    assert settle(stage, here, there) == {k: v for k, v in BASE.items() if k != "doc.txt"}


def test_rename_and_edit(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    here.rename("doc.txt", "renamed.txt")
    there.write("/doc.txt", b"theirs, longer")
    expected = {k: v for k, v in BASE.items() if k != "doc.txt"}
    assert settle(stage, here, there) == {**expected, "renamed.txt": b"theirs, longer"}


def test_edit_in_a_folder_that_is_deleted(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    write(here, "folder/inside", b"ours")
    there.delete("/folder")
    assert settle(stage, here, there) == {"doc.txt": b"base", "folder": None, "folder/inside": b"ours"}


@pytest.mark.expect_log("another client replaced the version")
def test_an_edit_whose_base_is_gone_is_blocked_and_kept(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    there.write("/large", bytes(3_000_000), mtime=1_600_000_000)
    stage.look()
    file = here.open("large", os.O_RDWR)
    file.write(1_500_000, b"ours")
    file.close()
    there.write("/large", b"y" * 3_000_000)
    there.node("/large").versions.clear()  # thinned out, or not kept
    (trouble,) = stage.send()
    assert trouble.name == "large"
    assert "replaced" in trouble.reason
    file = here.open("large")
    assert file.read(1_500_000, 4) == b"ours"
    file.close()
    assert there.read("/large") == b"y" * 3_000_000
    # Saved as a whole, it goes up beside the server's.
    write(here, "large", b"ours, whole")
    assert settle(stage, here, there)["large (copy)"] == b"ours, whole"


def test_an_open_file_never_mixes_two_versions(stage: VfsStage, here: VfsDriver, there: Account) -> None:
    there.write("/large", b"1" * 8_000_000, mtime=1_600_000_000)
    stage.look()
    old = here.open("large")
    assert old.read(0, 1000) == b"1" * 1000
    there.write("/large", b"2" * 8_000_000)
    stage.look()
    for offset in range(0, 8_000_000, 999_999):
        try:
            assert set(old.read(offset, 1000)) == {ord("1")}
        except OSError as error:
            assert error.strerror == os.strerror(116)  # noqa: PT017  # ESTALE is the other right answer
    old.close()
    assert set(read(here, "large")) == {ord("2")}


def test_an_open_file_is_read_on_after_its_time_was_set(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    """Nextcloud gives the same bytes another ETag then; they are the same version all the same."""
    there.write("/large", b"1" * 8_000_000, mtime=1_600_000_000)
    stage.look()
    reader = here.open("large")
    assert reader.read(0, 1000) == b"1" * 1000
    here.utime("large", 1_500_000_000_000_000_000)
    stage.sync()
    assert reader.read(7_000_000, 1000) == b"1" * 1000
    again = here.open("large")
    assert again.read(5_000_000, 1000) == b"1" * 1000
    again.close()
    reader.close()


def test_a_save_by_rename_over_a_version_that_nobody_saw(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    """As sed -i does it, while another client's change comes in between its reading and its saving."""
    editing = here.open("doc.txt")
    assert editing.read(0, 100) == b"base"
    there.write("/doc.txt", b"theirs")
    stage.look()
    write(here, "doc.new", b"ours")
    editing.close()
    here.rename("doc.new", "doc.txt")
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"theirs", "doc (copy).txt": b"ours"}
    assert len(stage.engine.store.conflicts()) == 1


def test_a_save_by_rename_over_a_version_that_was_opened_replaces_it(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    editing = here.open("doc.txt")
    there.write("/doc.txt", b"theirs")
    stage.look()
    assert read(here, "doc.txt") == b"theirs"
    write(here, "doc.new", b"ours")
    editing.close()
    here.rename("doc.new", "doc.txt")
    assert settle(stage, here, there) == {**BASE, "doc.txt": b"ours"}


@pytest.mark.parametrize("held", [False, True], ids=["closed", "still open"])
def test_an_open_after_a_stale_read_gets_the_new_version(
    stage: VfsStage, here: VfsDriver, there: Account, *, held: bool
) -> None:
    """The folder was listed a moment ago, and is listed again because the read met another version."""
    there.write("/large", b"1" * 8_000_000, mtime=1_600_000_000)
    stage.look()
    old = here.open("large")
    ino = here.run(lambda fs: fs.lookup(ROOT, b"large")).ino
    there.write("/large", b"2" * 8_000_000)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        old.read(4_000_000, 1000)
    if not held:
        old.close()
    new = here.open("large")
    assert set(new.read(0, 8_000_000)) == {ord("2")}
    new.close()
    if held:
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            old.read(4_000_000, 1000)
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            here.run(lambda fs: fs.open(ino, os.O_RDONLY))
        old.close()


def test_a_name_too_long_for_a_new_file_is_saved_over_and_given(
    stage: VfsStage, here: VfsDriver, there: Account
) -> None:
    """A new file of such a name never arrives on Nextcloud; what is there, or comes by a rename, may have it."""
    long, longer = "n" * 240, "m" * 250
    there.write(f"/{long}", b"there", mtime=1_600_000_000)
    stage.look()
    tree(here)
    write(here, "new", b"ours")
    here.rename("new", long)
    here.mkdir(longer)
    assert settle(stage, here, there)[long] == b"ours"
    here.rename("doc.txt", "d" * 250)
    assert settle(stage, here, there)["d" * 250] == b"base"
    with pytest.raises(OSError, match="too long"):
        write(here, "f" * 228, b"")
    with pytest.raises(OSError, match="too long"):
        here.mkdir("g" * 251)
    write(here, "newer", b"")
    with pytest.raises(OSError, match="too long"):
        here.rename("newer", "h" * 228)

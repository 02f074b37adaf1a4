"""What every program expects of a file system (docs/SEMANTICS.md, "Calls")."""

from __future__ import annotations

import errno
import os
import random

import pytest

from cloudfs.vfs.records import RenameMode
from tests.functional.drivers import Driver, read, tree, write

pytestmark = pytest.mark.shared_engine

SIZES = [0, 1, 4096, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 3_500_001]


def raises(code: int) -> pytest.RaisesExc[OSError]:
    """Expect an error of exactly this errno."""
    return pytest.raises(OSError, check=lambda error: error.errno == code)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_reads_back_as_it_was_written(driver: Driver, size: int) -> None:
    data = random.Random(size).randbytes(size)
    write(driver, "file", data)
    assert driver.size("file") == size
    assert read(driver, "file") == data


def test_reads_at_any_offset(driver: Driver) -> None:
    data = random.Random(1).randbytes(2_500_000)
    write(driver, "file", data)
    file = driver.open("file")
    for offset, size in [
        (0, 1),
        (1_048_575, 2),
        (2_499_999, 10),
        (2_500_000, 1),
        (9_999_999, 5),
        (17, 2_000_000),
    ]:
        assert file.read(offset, size) == data[offset : offset + size]
    file.close()


def test_writes_in_any_order_and_with_holes(driver: Driver) -> None:
    file = driver.open("file", os.O_RDWR | os.O_CREAT)
    file.write(3_000_000, b"end")
    file.write(10, b"start")
    file.write(1_048_570, b"across a block")
    expected = bytearray(3_000_003)
    expected[3_000_000:], expected[10:15], expected[1_048_570:1_048_584] = b"end", b"start", b"across a block"
    assert file.read(0, 4_000_000) == bytes(expected)
    file.close()
    assert read(driver, "file") == bytes(expected)


def test_overwriting_the_middle_keeps_the_rest(driver: Driver) -> None:
    data = random.Random(2).randbytes(2_200_000)
    write(driver, "file", data)
    file = driver.open("file", os.O_RDWR)
    file.write(1_000_000, b"x" * 100_000)
    file.close()
    assert read(driver, "file") == data[:1_000_000] + b"x" * 100_000 + data[1_100_000:]


def test_truncate_cuts_and_extends_with_zeros(driver: Driver) -> None:
    write(driver, "file", b"0123456789")
    driver.truncate("file", 4)
    assert read(driver, "file") == b"0123"
    driver.truncate("file", 8)
    assert read(driver, "file") == b"0123\0\0\0\0"
    file = driver.open("file", os.O_RDWR)
    file.truncate(2)
    file.write(4, b"x")
    file.close()
    assert read(driver, "file") == b"01\0\0x"


def test_o_trunc_empties(driver: Driver) -> None:
    write(driver, "file", b"old content")
    driver.open("file", os.O_WRONLY | os.O_TRUNC).close()
    assert read(driver, "file") == b""


def test_o_excl_refuses_what_exists(driver: Driver) -> None:
    write(driver, "file", b"x")
    with raises(errno.EEXIST):
        driver.open("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def test_missing_names_are_missing(driver: Driver) -> None:
    with raises(errno.ENOENT):
        driver.size("nothing")
    with raises(errno.ENOENT):
        driver.unlink("nothing")
    with raises(errno.ENOENT):
        write(driver, "no-folder/file", b"")


def test_folders(driver: Driver) -> None:
    driver.mkdir("a")
    driver.mkdir("a/b")
    write(driver, "a/b/file", b"x")
    assert tree(driver) == {"a": None, "a/b": None, "a/b/file": b"x"}
    with raises(errno.EEXIST):
        driver.mkdir("a")
    with raises(errno.ENOTEMPTY):
        driver.rmdir("a")
    with raises(errno.ENOTDIR):
        driver.rmdir("a/b/file")
    with raises(errno.EISDIR):
        driver.unlink("a/b")
    driver.unlink("a/b/file")
    driver.rmdir("a/b")
    driver.rmdir("a")
    assert driver.names() == []


def test_rename_a_file(driver: Driver) -> None:
    write(driver, "old", b"content")
    ino = driver.ino("old")
    driver.rename("old", "new")
    assert tree(driver) == {"new": b"content"}
    assert driver.ino("new") == ino


def test_rename_over_a_file(driver: Driver) -> None:
    write(driver, "a", b"A")
    write(driver, "b", b"B")
    driver.rename("a", "b")
    assert tree(driver) == {"b": b"A"}


def test_rename_over_an_open_file_leaves_its_readers_their_content(driver: Driver) -> None:
    write(driver, "a", b"new")
    write(driver, "b", b"old content")
    file = driver.open("b")
    driver.rename("a", "b")
    assert file.read(0, 100) == b"old content"
    file.close()
    assert read(driver, "b") == b"new"


def test_rename_an_open_file_and_go_on_writing(driver: Driver) -> None:
    file = driver.open("a", os.O_RDWR | os.O_CREAT)
    file.write(0, b"before ")
    driver.rename("a", "b")
    file.write(7, b"after")
    file.close()
    assert tree(driver) == {"b": b"before after"}


def test_rename_onto_itself_changes_nothing(driver: Driver) -> None:
    write(driver, "a", b"x")
    driver.rename("a", "a")
    assert tree(driver) == {"a": b"x"}


def test_rename_folders(driver: Driver) -> None:
    driver.mkdir("a")
    driver.mkdir("a/b")
    write(driver, "a/b/file", b"x")
    driver.mkdir("empty")
    driver.rename("a", "empty")
    assert tree(driver) == {"empty": None, "empty/b": None, "empty/b/file": b"x"}
    with raises(errno.EINVAL):
        driver.rename("empty", "empty/b/inside")
    write(driver, "file", b"")
    with raises(errno.ENOTDIR):
        driver.rename("empty", "file")
    with raises(errno.EISDIR):
        driver.rename("file", "empty")
    driver.mkdir("other")
    with raises(errno.ENOTEMPTY):
        driver.rename("other", "empty")


def test_parent_and_child_change_places(driver: Driver) -> None:
    driver.mkdir("a")
    driver.mkdir("a/b")
    write(driver, "a/file", b"A")
    write(driver, "a/b/file", b"B")
    driver.rename("a/b", "b")
    driver.rename("a", "b/a")
    assert tree(driver) == {"b": None, "b/file": b"B", "b/a": None, "b/a/file": b"A"}


def test_rename_noreplace(driver: Driver) -> None:
    write(driver, "a", b"A")
    write(driver, "b", b"B")
    with raises(errno.EEXIST):
        driver.rename("a", "b", RenameMode.NO_REPLACE)
    driver.rename("a", "c", RenameMode.NO_REPLACE)
    assert tree(driver) == {"b": b"B", "c": b"A"}


def test_rename_exchange(driver: Driver) -> None:
    write(driver, "a", b"A")
    driver.mkdir("b")
    write(driver, "b/inside", b"B")
    driver.rename("a", "b", RenameMode.EXCHANGE)
    assert tree(driver) == {"a": None, "a/inside": b"B", "b": b"A"}
    with raises(errno.ENOENT):
        driver.rename("a", "nothing", RenameMode.EXCHANGE)


def test_a_ring_of_renames(driver: Driver) -> None:
    for name in "abc":
        write(driver, name, name.encode())
    driver.rename("a", "t")
    driver.rename("b", "a")
    driver.rename("c", "b")
    driver.rename("t", "c")
    assert tree(driver) == {"a": b"b", "b": b"c", "c": b"a"}


def test_an_unlinked_open_file_works_on(driver: Driver) -> None:
    write(driver, "file", b"0123456789")
    file = driver.open("file", os.O_RDWR)
    driver.unlink("file")
    assert driver.names() == []
    file.write(10, b"more")
    assert file.read(0, 100) == b"0123456789more"
    file.close()
    assert driver.names() == []


def test_a_name_can_be_used_again_at_once(driver: Driver) -> None:
    for kind in range(3):
        write(driver, "name", b"%d" % kind)
        driver.unlink("name")
        driver.mkdir("name")
        driver.rmdir("name")
    write(driver, "name", b"last")
    assert tree(driver) == {"name": b"last"}


def test_times_are_kept_to_the_nanosecond(driver: Driver) -> None:
    write(driver, "file", b"x")
    driver.mkdir("folder")
    driver.utime("file", 1_234_567_890_123_456_789)
    driver.utime("folder", 1_000_000_000_000_000_001)
    assert driver.mtime_ns("file") == 1_234_567_890_123_456_789
    assert driver.mtime_ns("folder") == 1_000_000_000_000_000_001


def test_writing_sets_the_time(driver: Driver) -> None:
    write(driver, "file", b"x")
    driver.utime("file", 1_000_000_000)
    file = driver.open("file", os.O_WRONLY)
    file.write(0, b"y")
    file.close()
    assert driver.mtime_ns("file") > 1_600_000_000_000_000_000


def test_modes_are_kept(driver: Driver) -> None:
    write(driver, "script", b"#!/bin/sh\n")
    driver.chmod("script", 0o755)
    assert driver.mode("script") == 0o755
    driver.chmod("script", 0o400)
    assert driver.mode("script") == 0o400


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        " leading",
        "trailing.",
        "#%?&+;:*<>\"'~=@,$!()[]{}^|`",
        "ünï çödé 🎉",
        "CON",
        ".hidden",
        "x" * 200,
    ],
)
def test_names(driver: Driver, name: str) -> None:
    write(driver, name, name.encode())
    assert tree(driver) == {name: name.encode()}


def test_a_name_longer_than_255_bytes_is_refused(driver: Driver) -> None:
    with raises(errno.ENAMETOOLONG):
        write(driver, "x" * 256, b"")
    with raises(errno.ENAMETOOLONG):
        driver.size("x" * 256)


def test_a_name_that_is_no_utf8_does_not_exist(driver: Driver) -> None:
    """Only its creation is refused (test_names.py): `rm -f` of it and the like end well."""
    name = os.fsdecode(b"bad\xff")
    write(driver, "file", b"")
    for use in (
        lambda: driver.size(name),
        lambda: driver.open(name),
        lambda: driver.unlink(name),
        lambda: driver.rmdir(name),
        lambda: driver.rename(name, "other"),
    ):
        with raises(errno.ENOENT):
            use()
    assert driver.names() == ["file"]


def test_two_handles_see_one_file(driver: Driver) -> None:
    write(driver, "file", b"aaaa")
    first, second = driver.open("file", os.O_RDWR), driver.open("file", os.O_RDWR)
    first.write(0, b"b")
    assert second.read(0, 10) == b"baaa"
    second.write(4, b"c")
    assert first.read(0, 10) == b"baaac"
    first.close()
    assert second.read(0, 10) == b"baaac"
    second.close()


def test_fsync(driver: Driver) -> None:
    file = driver.open("file", os.O_RDWR | os.O_CREAT)
    file.write(0, b"safe")
    file.fsync()
    file.close()
    assert read(driver, "file") == b"safe"


def test_many_files_in_one_folder(driver: Driver) -> None:
    for number in range(300):
        write(driver, f"file {number:04}", b"%d" % number)
    assert driver.names() == [f"file {number:04}" for number in range(300)]


def test_a_save_by_rename_shows_the_new_content(
    driver: Driver,
) -> None:
    write(driver, "doc", b"first")
    for turn in range(3):
        write(driver, ".doc.new", b"turn %d" % turn)
        driver.rename(".doc.new", "doc")
    assert tree(driver) == {"doc": b"turn 2"}


def test_o_trunc_cuts_what_is_opened_for_reading_only(driver: Driver) -> None:
    write(driver, "file", b"content")
    handle = driver.open("file", os.O_RDONLY | os.O_TRUNC)
    assert handle.read(0, 100) == b""
    handle.close()
    assert driver.size("file") == 0
    assert read(driver, "file") == b""

"""Dirty bytes: written means written, exactly, or an error that says why not."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudfs.blocks import dirtyfolder
from cloudfs.blocks.sealing import Cipher, Keys
from cloudfs.blocks.staging import Staging
from cloudfs.errors import LocalDamage, PosixError
from cloudfs.types import ContentVersion, Ino
from tests.blocks.conftest import ExpectLog

INO, VERSION = Ino(7), ContentVersion(3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "staging"


KEYS = Keys(bytes(range(32)), Cipher.AES)


@pytest.fixture(params=["plain", "sealed"])
def sealed(request: pytest.FixtureRequest) -> tuple[Keys, str] | None:
    return (KEYS, "0123456789abcdef") if request.param == "sealed" else None


@pytest.fixture
async def staging(folder: Path, sealed: tuple[Keys, str] | None) -> AsyncIterator[Staging]:
    staging = Staging(folder, max_open=3, sealed=sealed)
    yield staging
    await staging.aclose()


async def test_bytes_come_back_and_holes_are_zeros(staging: Staging) -> None:
    file = await staging.create(INO, VERSION)
    await file.pwrite(10_000_000, b"far out")
    await file.pwrite(3, b"abc")
    assert await file.pread(0, 8) == b"\0\0\0abc\0\0"
    assert await file.pread(10_000_000, 7) == b"far out"
    assert await file.pread(5, 0) == b""
    assert file.size == 10_000_007
    assert 0 < staging.used_bytes() < 150_000


async def test_reading_beyond_the_end_is_damage(staging: Staging) -> None:
    file = await staging.create(INO, VERSION)
    await file.pwrite(0, b"abc")
    for offset, size in ((0, 4), (3, 1), (100, 1)):
        with pytest.raises(LocalDamage, match="staging file"):
            await file.pread(offset, size)


async def test_truncate_cuts_and_grows(staging: Staging) -> None:
    file = await staging.create(INO, VERSION)
    await file.pwrite(0, b"abcdef")
    await file.truncate(2)
    await file.truncate(5)
    assert await file.pread(0, 5) == b"ab\0\0\0"


async def test_names_and_modes(staging: Staging, folder: Path) -> None:
    await staging.create(INO, VERSION)
    assert os.listdir(folder) == ["7.3"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "7.3").stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    await Staging(tmp_path / "open").aclose()
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


async def test_a_version_is_created_once(staging: Staging) -> None:
    file = await staging.create(INO, VERSION)
    await file.pwrite(0, b"precious")
    with pytest.raises(LocalDamage, match="exists already"):
        await staging.create(INO, VERSION)
    assert await (await staging.open(INO, VERSION)).pread(0, 8) == b"precious"


async def test_opening_what_is_not_there_is_damage(staging: Staging) -> None:
    with pytest.raises(LocalDamage):
        await staging.open(INO, VERSION)


async def test_links_and_folders_are_never_followed(
    staging: Staging, folder: Path, tmp_path: Path, expect_log: ExpectLog
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "7.3").symlink_to(tmp_path / "secret")
    (folder / "7.4").mkdir()
    os.mkfifo(folder / "7.5")
    for version in (3, 4, 5):
        with pytest.raises(LocalDamage):
            await staging.open(INO, ContentVersion(version))
        with pytest.raises(LocalDamage):
            await staging.create(INO, ContentVersion(version))
    expect_log("7.[345] is no staging file and is left alone")
    assert staging.scan() == []


async def test_scan_finds_all_and_reports_foreign_names(
    staging: Staging, folder: Path, expect_log: ExpectLog
) -> None:
    for ino, version in ((12, 1), (7, 3), (7, 2)):
        await staging.create(Ino(ino), ContentVersion(version))
    foreign = ["7", "7.", "07.1", "7.3~", "7.3.4", "-7.1", "\u0667.1", "notes.txt", "7.3\n"]
    for name in foreign:
        (folder / name).write_bytes(b"")
    expect_log("is no staging file and is left alone")
    assert staging.scan() == staging.scan() == [(7, 2), (7, 3), (12, 1)]
    assert all((folder / name).exists() for name in foreign)


async def test_delete_is_final_and_repeatable(staging: Staging) -> None:
    file = await staging.create(INO, VERSION)
    await file.pwrite(0, b"abc")
    await staging.delete(INO, VERSION)
    await staging.delete(INO, VERSION)
    assert staging.scan() == []
    with pytest.raises(LocalDamage):
        await file.pread(0, 3)
    with pytest.raises(PosixError):
        await file.pwrite(0, b"x")
    assert staging.scan() == [], "writing to a deleted file does not make it again"


async def test_everything_survives_the_process(folder: Path, sealed: tuple[Keys, str] | None) -> None:
    first = Staging(folder, sealed=sealed)
    await (await first.create(INO, VERSION)).pwrite(5, b"kept")
    await first.aclose()
    second = Staging(folder, sealed=sealed)
    assert second.scan() == [(INO, VERSION)]
    assert await (await second.open(INO, VERSION)).pread(5, 4) == b"kept"
    await second.aclose()


async def test_more_files_than_descriptors(staging: Staging) -> None:
    files = [await staging.create(Ino(ino), VERSION) for ino in range(20)]

    async def use(ino: int) -> None:
        for part in range(10):
            await files[ino].pwrite(part, bytes([ino]))
        assert await files[ino].pread(0, 10) == bytes([ino]) * 10

    async with trio.open_nursery() as nursery:
        for ino in range(20):
            nursery.start_soon(use, ino)
    assert len(os.listdir("/proc/self/fd")) < 60
    assert len(staging._folder._files) <= 3


async def test_two_objects_of_one_file_and_closing_one(staging: Staging) -> None:
    first = await staging.create(INO, VERSION)
    second = await staging.open(INO, VERSION)
    await first.pwrite(0, b"abc")
    await first.aclose()
    assert await second.pread(0, 3) == b"abc"
    await first.aclose()


async def test_the_folder_is_fsynced_once_for_a_new_name(
    staging: Staging, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    file = await staging.create(INO, VERSION)
    await file.sync()
    await file.sync()
    again = await staging.open(INO, VERSION)
    await again.sync()
    assert synced == [f"{folder}/7.3", str(folder), f"{folder}/7.3", f"{folder}/7.3", str(folder)]


async def test_a_failed_fsync_is_never_forgotten(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync the kernel takes the lost pages for clean: the next one would succeed."""
    file = await staging.create(INO, VERSION)
    other = await staging.create(Ino(8), VERSION)
    await file.pwrite(0, b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_with(errno.EIO))
        with pytest.raises(PosixError) as first:
            await file.sync()
    with pytest.raises(PosixError) as second:
        await file.sync()
    assert first.value.errno == second.value.errno == errno.EIO
    await other.sync()
    await staging.delete(INO, VERSION)


def failing_once(patch: pytest.MonkeyPatch, code: int, file: str | None = None) -> None:
    """A write-back has failed, and each who asks is told once: the file system as a whole, and an fsync of `file`."""
    untold = {"the file system", file}
    fsync = os.fsync

    def tell(what: str) -> None:
        if what in untold:
            untold.discard(what)
            raise OSError(code, os.strerror(code))

    def fsync_told(fd: int) -> None:
        tell(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    patch.setattr(os, "fsync", fsync_told)
    patch.setattr(dirtyfolder, "sync_file_system", lambda _: tell("the file system"))


MANY = [(Ino(ino), VERSION) for ino in range(7, 17)]


async def test_a_failed_write_back_is_not_forgotten_by_a_sync_of_many(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system tells of it once, and not whose bytes were lost: the files do. The others are on the disk."""
    for file in MANY:
        await staging.create(*file)
    failing_once(monkeypatch, errno.EIO, "7.3")
    for _ in range(2):
        assert {file: error.errno for file, error in (await staging.sync_many(MANY)).items()} == {
            MANY[0]: errno.EIO
        }
        assert [file for file in MANY if staging.is_lost(*file)] == MANY[:1]
    await staging.delete(*MANY[0])
    assert await staging.sync_many(MANY) == {}


async def test_another_programs_lost_bytes_are_not_taken_for_those_of_a_closed_file(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """syncfs tells of everybody's."""
    for file in MANY:
        await (await staging.create(*file)).pwrite(0, b"x")
    failing_once(monkeypatch, errno.ENOSPC)
    assert await staging.sync_many(MANY) == {}
    await (await staging.open(*MANY[0])).sync()


async def test_what_one_sync_of_many_is_told_another_one_counts_with(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it asks for files that the first one did not ask for."""
    more = [*MANY, *((Ino(ino), VERSION) for ino in range(20, 30))]
    for file in more:
        await staging.create(*file)
    failing_once(monkeypatch, errno.EIO, "7.3")
    assert await staging.sync_many(more[1:]) == {}
    assert list(await staging.sync_many(MANY)) == MANY[:1]


async def test_two_syncs_of_many_at_once_are_both_told(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask by one descriptor, and one of them takes what there is to be told."""
    for file in MANY:
        await (await staging.create(*file)).pwrite(0, b"x")
    failing_once(monkeypatch, errno.EIO, "7.3")
    tell, taken, go_on = dirtyfolder.sync_file_system, threading.Event(), threading.Event()

    def slowly(fd: int) -> None:
        try:
            tell(fd)
        finally:
            first = not taken.is_set()
            taken.set()
            if first:
                go_on.wait()

    async def second() -> None:
        await trio.to_thread.run_sync(taken.wait)
        told.append(await staging.sync_many(MANY))

    async def first() -> None:
        told.append(await staging.sync_many(MANY))

    monkeypatch.setattr(dirtyfolder, "sync_file_system", slowly)
    told: list[dict[tuple[Ino, ContentVersion], PosixError]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        nursery.start_soon(second)
        with trio.move_on_after(0.2):  # the second one is waiting, or has been told something wrong
            while not told:
                await trio.sleep(0.01)
        go_on.set()
    assert [list(failed) for failed in told] == [MANY[:1], MANY[:1]]


async def test_doubts_that_cannot_be_noted_are_noted_by_the_next_sync(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in MANY:
        await staging.create(*file)
    failing_once(monkeypatch, errno.EIO, "7.3")
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing_with(errno.EMFILE))
        with pytest.raises(PosixError):
            await staging.sync_many(MANY)
    assert list(await staging.sync_many(MANY)) == MANY[:1]


async def test_a_write_back_that_failed_after_room_was_made_is_told_by_each_sync(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells the next one who opens the file, once."""
    file = await staging.create(INO, VERSION)
    await file.pwrite(0, b"x")
    for ino in range(10, 20):
        await staging.create(Ino(ino), VERSION)
    failing_once(monkeypatch, errno.ENOSPC, "7.3")
    for _ in range(2):
        with pytest.raises(PosixError) as lost:
            await file.sync()
        assert lost.value.errno == errno.ENOSPC
    assert list(await staging.sync_many([(INO, VERSION)])) == [(INO, VERSION)]


async def test_a_file_is_synced_without_everybody_elses_bytes(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose descriptor was closed: another program may just be writing gigabytes."""
    file = await staging.create(INO, VERSION)
    await file.pwrite(0, b"x")
    for ino in range(10, 15):
        await staging.create(Ino(ino), VERSION)
    monkeypatch.setattr(dirtyfolder, "sync_file_system", failing_with(errno.EIO))
    await file.sync()


async def test_many_new_files_wait_for_no_disk(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than there are descriptors; `cp -r` of a folder waited for an fsync for each."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(dirtyfolder, "sync_file_system", synced.append)
    for ino in range(10, 30):
        await (await staging.create(Ino(ino), VERSION)).pwrite(0, b"x")
    assert await (await staging.open(Ino(10), VERSION)).pread(0, 1) == b"x"
    assert not synced


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (errno.ENOSPC, errno.ENOSPC),
        (errno.EDQUOT, errno.EDQUOT),
        (errno.EFBIG, errno.EFBIG),
        (errno.EIO, errno.EIO),
        (errno.EROFS, errno.EIO),
    ],
)
async def test_write_errors_keep_their_meaning(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, raised: int, told: int
) -> None:
    file = await staging.create(INO, VERSION)
    for name in ("pwrite", "ftruncate"):
        monkeypatch.setattr(os, name, failing_with(raised))
    for call in (file.pwrite(0, b"x"), file.truncate(5)):
        with pytest.raises(PosixError) as error:
            await call
        assert error.value.errno == told
        assert isinstance(error.value.__cause__, OSError)


async def test_short_writes_and_reads_are_continued(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pwrite, real_pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real_pwrite(fd, data[:3], offset))
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: real_pread(fd, min(size, 2), offset))
    file = await staging.create(INO, VERSION)
    await file.pwrite(4, b"0123456789")
    assert await file.pread(4, 10) == b"0123456789"


async def test_a_full_disk_says_so_and_keeps_earlier_bytes(
    small_disk: Path, sealed: tuple[Keys, str] | None
) -> None:
    staging = Staging(small_disk / "staging", sealed=sealed)
    file = await staging.create(INO, VERSION)
    kept = os.urandom(600_000)
    await file.pwrite(0, kept)
    with pytest.raises(PosixError) as full:
        await file.pwrite(600_000, bytes(600_000))
    assert full.value.errno == errno.ENOSPC
    assert await file.pread(0, 600_000) == kept
    await file.truncate(600_000)
    await file.pwrite(0, b"still writable")
    await file.sync()
    assert await file.pread(0, 14) == b"still writable"
    await staging.aclose()


async def test_what_does_not_fit_behind_the_end_changes_nothing_before_it(small_disk: Path) -> None:
    staging = Staging(small_disk / "staging")
    file = await staging.create(INO, VERSION)
    kept = os.urandom(600_000)
    await file.pwrite(0, kept)
    with pytest.raises(PosixError):
        await file.pwrite(300_000, bytes(900_000))
    assert await file.pread(0, 600_000) == kept
    await file.truncate(600_000)
    await file.pwrite(599_990, b"over the end")
    assert await file.pread(0, 600_002) == kept[:599_990] + b"over the end"
    await staging.aclose()


async def test_a_file_size_limit_is_too_big(staging: Staging) -> None:
    file = await staging.create(INO, VERSION)
    with pytest.raises(PosixError) as error:
        await file.pwrite(2**63 - 2, b"xyz")
    assert error.value.errno in {errno.EFBIG, errno.EIO}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 5000), st.binary(max_size=3000)),
            st.tuples(st.just("truncate"), st.integers(0, 8000), st.just(b"")),
            st.tuples(st.just("reopen"), st.just(0), st.just(b"")),
        ),
        max_size=12,
    )
)
def test_a_file_is_what_a_bytearray_is(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, int, bytes]]
) -> None:
    async def main() -> None:
        staging = Staging(tmp_path_factory.mktemp("staging"), max_open=1)
        model = bytearray()
        file = await staging.create(INO, VERSION)
        for action, number, data in plan:
            if action == "write":
                await file.pwrite(number, data)
                if data:
                    model.extend(bytes(max(0, number - len(model))))
                    model[number : number + len(data)] = data
            elif action == "truncate":
                await file.truncate(number)
                model = model[:number] + bytes(max(0, number - len(model)))
            else:
                await file.aclose()
                file = await staging.open(INO, VERSION)
            assert file.size == len(model)
            assert await file.pread(0, len(model)) == model
        await staging.aclose()

    trio.run(main)


def failing_with(code: int) -> Callable[..., None]:
    def fail(*_args: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail

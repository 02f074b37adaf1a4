"""Closed files are put on the disk soon after, and never less of them than a program was told is there."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from cloudfs.blocks.staging import Staging
from cloudfs.errors import PosixError
from cloudfs.types import ContentVersion, Ino
from tests.sync.mount import World, opened, tell


def test_what_a_program_syncs_meanwhile_stays_known_to_be_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own sync ends first: that of many files takes longer, and knows of less."""
    sync_many = Staging.sync_many

    async def story(world: World) -> None:
        async def slowly(
            staging: Staging, keys: list[tuple[Ino, ContentVersion]]
        ) -> dict[tuple[Ino, ContentVersion], PosixError]:
            monkeypatch.setattr(Staging, "sync_many", sync_many)
            failed = await sync_many(staging, keys)
            async with opened(world, "a") as handle:
                await world.write(handle, 3, b"two")
                await world.fs.fsync(handle, data_only=False)
            return failed

        monkeypatch.setattr(Staging, "sync_many", slowly)
        await world.save("a", b"one")
        await world.engine.files.hardening.harden()
        assert Staging.sync_many is sync_many
        (row,) = world.engine.store.staged_of((await world.lookup("a")).ino)
        assert row.size == len(b"onetwo")
        assert row.is_safe

    tell(tmp_path, story)


def fail_fsync(patch: pytest.MonkeyPatch, world: World, ino: Ino, code: int = errno.EIO) -> None:
    """The disk does not take the bytes of this inode."""
    fsync, staged = os.fsync, re.compile(re.escape(str(world.staging)) + rf"/{ino}[.]\d+")

    def fail(fd: int) -> None:
        if staged.fullmatch(str(Path(f"/proc/self/fd/{fd}").readlink())):
            raise OSError(code, os.strerror(code))
        fsync(fd)

    patch.setattr(os, "fsync", fail)


@pytest.mark.expect_log("a: the disk did not take all of its changes")
def test_a_file_that_the_disk_has_lost_holds_no_other_one_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that was closed with it, nor one that is to be deleted; and nothing is tried again and again for it."""

    async def story(world: World) -> None:
        store, hardening = world.engine.store, world.engine.files.hardening
        for name in ("a", "b", "gone"):
            await world.save(name, b"bytes")
        lost, kept = (await world.lookup("a")).ino, (await world.lookup("b")).ino
        gone = (await world.lookup("gone")).ino
        fail_fsync(monkeypatch, world, lost)
        await world.unlink("gone")
        await world.forget()
        await world.engine.files.disposal.bury()
        assert not list(world.staging.glob(f"{gone}.*"))
        for _ in range(2):
            await hardening.harden()
            assert [row.is_safe for ino in (lost, kept) for row in store.staged_of(ino)] == [False, True]
        assert await world.read_file("a") == b"bytes"
        with pytest.raises(PosixError):
            async with opened(world, "a") as handle:
                await world.fs.fsync(handle, data_only=False)

    tell(tmp_path, story)


def test_what_cannot_be_synced_yet_is_tried_again_and_the_rest_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World) -> None:
        store, hardening = world.engine.store, world.engine.files.hardening
        for name in ("a", "b"):
            await world.save(name, b"bytes")
        inos = [(await world.lookup(name)).ino for name in ("a", "b")]
        sync_many = Staging.sync_many

        async def fail_of_the_first(
            staging: Staging, keys: list[tuple[Ino, ContentVersion]]
        ) -> dict[tuple[Ino, ContentVersion], PosixError]:
            failed = {key: PosixError(errno.ENOSPC) for key in keys if key[0] == inos[0]}
            return failed | await sync_many(staging, [key for key in keys if key not in failed])

        monkeypatch.setattr(Staging, "sync_many", fail_of_the_first)
        with pytest.raises(PosixError):
            await hardening.harden()
        assert [row.is_safe for ino in inos for row in store.staged_of(ino)] == [False, True]
        monkeypatch.setattr(Staging, "sync_many", sync_many)
        await hardening.harden()
        assert [row.is_safe for ino in inos for row in store.staged_of(ino)] == [True, True]

    tell(tmp_path, story)

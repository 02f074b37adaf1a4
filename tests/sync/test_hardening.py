"""Closed files are put on the disk soon after, and never less of them than a program was told is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudfs.blocks.staging import Staging
from cloudfs.types import ContentVersion, Ino
from tests.sync.mount import World, opened, tell


def test_what_a_program_syncs_meanwhile_stays_known_to_be_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own sync ends first: that of many files takes longer, and knows of less."""
    sync_many = Staging.sync_many

    async def story(world: World) -> None:
        async def slowly(staging: Staging, keys: list[tuple[Ino, ContentVersion]]) -> None:
            monkeypatch.setattr(Staging, "sync_many", sync_many)
            await sync_many(staging, keys)
            async with opened(world, "a") as handle:
                await world.write(handle, 3, b"two")
                await world.fs.fsync(handle, data_only=False)

        monkeypatch.setattr(Staging, "sync_many", slowly)
        await world.save("a", b"one")
        await world.engine.files.hardening.harden()
        assert Staging.sync_many is sync_many
        (row,) = world.engine.store.staged_of((await world.lookup("a")).ino)
        assert row.size == len(b"onetwo")
        assert row.is_safe

    tell(tmp_path, story)

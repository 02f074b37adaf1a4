"""The cache of clean blocks: never wrong bytes, never an error, always within its limits."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.evictor import OVERHEAD_BYTES
from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.blocks.trouble import CacheTrouble
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino
from tests.blocks.conftest import STORE_ID, ExpectLog, MakeStore, value_paths, volume_folder

INO, VERSION = Ino(7), ContentVersion(3)
BIG = os.urandom(100_000)
SMALL = os.urandom(1000)
EACH = len(BIG) + OVERHEAD_BYTES


async def fill(store: BlockStore, count: int, data: bytes = BIG) -> None:
    for ino in range(1, count + 1):
        await store.put(Ino(ino), VERSION, 0, data)


def present(store: BlockStore, count: int = 20) -> list[int]:
    return [ino for ino in range(1, count + 1) if store.has(Ino(ino), VERSION, 0)]


# What goes in comes out.


@pytest.mark.parametrize("size", [1, 32 * 1024 - 1, 32 * 1024, BLOCK_SIZE])
async def test_blocks_come_back_as_they_went_in(make_store: MakeStore, size: int) -> None:
    store, data = await make_store(), os.urandom(size)
    assert not store.has(INO, VERSION, 5)
    assert await store.get(INO, VERSION, 5) is None
    await store.put(INO, VERSION, 5, data)
    assert store.has(INO, VERSION, 5)
    assert await store.get(INO, VERSION, 5) == data
    for other in ((INO, VERSION, 4), (INO, ContentVersion(4), 5), (Ino(8), VERSION, 5)):
        assert await store.get(*other) is None
    now = store.statistics()
    assert (now.blocks, now.bytes, now.hits, now.misses) == (1, size + OVERHEAD_BYTES, 1, 4)


@pytest.mark.parametrize("size", [0, BLOCK_SIZE + 1])
async def test_blocks_have_one_byte_to_a_whole_block(make_store: MakeStore, size: int) -> None:
    with pytest.raises(ValueError, match="block of"):
        await (await make_store()).put(INO, VERSION, 0, bytes(size))


async def test_missing_keeps_the_order_asked_for(make_store: MakeStore) -> None:
    store = await make_store()
    for block in (1, 2, 900):
        await store.put(INO, VERSION, block, SMALL)
    assert store.missing(INO, VERSION, range(5)) == [0, 3, 4]
    assert store.missing(INO, VERSION, [900, 0, 2]) == [0]
    assert store.missing(INO, VERSION, []) == []


async def test_lookups_have_no_checkpoint(make_store: MakeStore) -> None:
    store = await make_store()
    with trio.testing.assert_no_checkpoints():
        store.has(INO, VERSION, 0)
        store.missing(INO, VERSION, range(9))
        store.statistics()
    with trio.testing.assert_checkpoints():
        await store.get(INO, VERSION, 0)


async def test_the_same_block_again_costs_no_write(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store()
    await store.put(INO, VERSION, 0, BIG)
    (file,) = value_paths(tmp_path)
    before = file.stat()
    await store.put(INO, VERSION, 0, BIG)
    assert file.stat() == before
    assert store.statistics().blocks == 1


async def test_another_content_under_a_key_replaces_the_first(make_store: MakeStore) -> None:
    store = await make_store()
    for data in (BIG, SMALL, BIG[::-1]):
        await store.put(INO, VERSION, 0, data)
        assert await store.get(INO, VERSION, 0) == data
        assert store.statistics().bytes == len(data) + OVERHEAD_BYTES


async def test_drop_takes_one_version_only(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store()
    for block in range(150):
        await store.put(INO, VERSION, block, SMALL)
    await store.put(INO, ContentVersion(4), 0, BIG)
    await store.put(Ino(8), VERSION, 0, BIG)
    await store.drop(INO, VERSION)
    assert store.missing(INO, VERSION, range(150)) == list(range(150))
    assert store.statistics().blocks == len(value_paths(tmp_path)) == 2


async def test_many_at_once(make_store: MakeStore) -> None:
    store = await make_store(limit_bytes=6 * EACH)

    async def use(ino: int) -> None:
        await store.put(Ino(ino), VERSION, 0, bytes([ino]) * len(BIG))
        assert await store.get(Ino(ino), VERSION, 0) in {None, bytes([ino]) * len(BIG)}
        assert store.statistics().bytes <= 6 * EACH

    async with trio.open_nursery() as nursery:
        for ino in range(1, 31):
            nursery.start_soon(use, ino)
    assert store.statistics().blocks == 6


async def test_blocks_that_come_together_all_come_back(make_store: MakeStore) -> None:
    store = await make_store()
    blocks = [
        (Ino(ino), VERSION, 0, bytes([ino]) * size) for ino, size in enumerate([1, 100_000, BLOCK_SIZE], 1)
    ]
    await store.put(Ino(1), VERSION, 0, b"\1")  # one of them is there already
    await store.put_many(blocks)
    await store.put_many([])
    for ino, version, index, data in blocks:
        assert await store.get(ino, version, index) == data
    size = sum(len(data) + OVERHEAD_BYTES for *_, data in blocks)
    assert (store.statistics().blocks, store.statistics().bytes) == (3, size)


async def test_more_blocks_at_once_than_there_is_room_for(make_store: MakeStore) -> None:
    store = await make_store(limit_bytes=3 * EACH)
    await store.put_many([(Ino(ino), VERSION, 0, BIG) for ino in range(1, 9)])
    assert present(store) == [6, 7, 8]
    assert store.statistics().bytes <= 3 * EACH


# Never wrong bytes.


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(bytes(len(BIG))),
        lambda file: os.truncate(file, 4096),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(BIG[:-1] + bytes([BIG[-1] ^ 1])),
        lambda file: file.write_bytes(BIG + b"more"),
        lambda file: file.unlink(),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["zeros", "short", "empty", "one bit", "long", "gone", "a folder"],
)
async def test_a_value_that_is_not_what_was_stored_is_dropped(
    make_store: MakeStore, tmp_path: Path, expect_log: ExpectLog, damage: Callable[[Path], object]
) -> None:
    """What power loss can do to a value file that was never fsynced, and what a bad disk can."""
    expect_log("block 0 of inode 7 was not what was stored")
    store = await make_store()
    await store.put(INO, VERSION, 0, BIG)
    (file,) = value_paths(tmp_path)
    damage(file)
    assert await store.get(INO, VERSION, 0) is None
    assert not store.has(INO, VERSION, 0)
    assert store.statistics().bytes == 0
    if file.is_dir():
        file.rmdir()
    await store.put(INO, VERSION, 0, BIG)
    assert await store.get(INO, VERSION, 0) == BIG


class Evil:
    """Unpickling this writes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path, str]]:
        return Path.write_text, (self.proof, "unpickled")


async def test_a_planted_pickle_is_a_miss_and_deleted(
    make_store: MakeStore, tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("was not what was stored")
    store = await make_store()
    await store.put(INO, VERSION, 0, SMALL)
    edit(tmp_path, "cache.db", "UPDATE Cache SET mode = 4, value = ?", pickle.dumps(Evil(tmp_path / "proof")))
    assert await store.get(INO, VERSION, 0) is None
    assert not (tmp_path / "proof").exists()
    assert rows(tmp_path, "cache.db", "SELECT count(*) FROM Cache") == [(0,)]


async def test_lack_of_descriptors_costs_no_block(
    make_store: MakeStore, expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("gave way: a block could not be read")
    store = await make_store()
    await store.put(INO, VERSION, 0, BIG)

    def no_more_files(*_args: object, **_options: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", no_more_files)
        assert await store.get(INO, VERSION, 0) is None
    assert await store.get(INO, VERSION, 0) == BIG


# Limits.


async def test_the_least_recently_used_goes_first(make_store: MakeStore) -> None:
    store = await make_store(limit_bytes=4 * EACH)
    await fill(store, 4)
    await store.get(Ino(1), VERSION, 0)
    await store.put(Ino(5), VERSION, 0, BIG)
    await store.put(Ino(6), VERSION, 0, BIG)
    assert present(store) == [1, 4, 5, 6]


async def test_recency_survives_a_restart(make_store: MakeStore) -> None:
    store = await make_store()
    await fill(store, 4)
    await store.get(Ino(2), VERSION, 0)
    await store.get(Ino(1), VERSION, 0)
    await store.aclose()
    store = await make_store(limit_bytes=4 * EACH)
    assert await store.get(Ino(1), VERSION, 0) == BIG
    await store.put(Ino(5), VERSION, 0, BIG)
    await store.put(Ino(6), VERSION, 0, BIG)
    assert present(store) == [1, 2, 5, 6]


async def test_a_get_writes_nothing(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store()
    await fill(store, 3)
    folder = volume_folder(tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.db*")}
    for _ in range(50):
        await store.get(Ino(1), VERSION, 0)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.db*")} == before


async def test_a_lowered_limit_is_reached_step_by_step(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    expect_log("no room for a block")
    monkeypatch.setattr("cloudfs.blocks.blockstore._PART_BYTES", 3 * EACH)
    store = await make_store()
    await fill(store, 10)
    await store.aclose()
    store = await make_store(limit_bytes=4 * EACH)
    await store.put(Ino(11), VERSION, 0, BIG)
    assert present(store) == [4, 5, 6, 7, 8, 9, 10]
    await store.put(Ino(11), VERSION, 0, BIG)
    await store.put(Ino(11), VERSION, 0, BIG)
    assert present(store) == [8, 9, 10, 11]


async def test_a_block_larger_than_the_limit_is_not_kept(
    make_store: MakeStore, expect_log: ExpectLog
) -> None:
    expect_log("no room for a block")
    store = await make_store(limit_bytes=len(BIG))
    await store.put(INO, VERSION, 0, BIG)
    assert store.statistics().blocks == 0


async def test_exempt_blocks_stay_and_may_exceed_the_limit(
    make_store: MakeStore, expect_log: ExpectLog
) -> None:
    expect_log("no room for a block")
    pinned: set[int] = {1, 2}
    store = await make_store(limit_bytes=3 * EACH, exempt=lambda ino, _: ino in pinned)
    await fill(store, 5)
    assert present(store) == [1, 2, 5]
    pinned |= {5, 6, 7}
    await fill(store, 7)
    assert present(store) == [1, 2, 5, 6, 7], "what is pinned comes in, what is not finds no room"
    pinned.clear()
    await store.put(Ino(8), VERSION, 0, BIG)
    assert store.statistics().bytes <= 3 * EACH
    assert store.has(Ino(8), VERSION, 0)


async def test_of_an_exempt_file_only_the_version_that_counts_stays(make_store: MakeStore) -> None:
    store = await make_store(limit_bytes=3 * EACH, exempt=lambda _, version: version == 2)
    for version in (1, 2, 3):
        await store.put(INO, ContentVersion(version), 0, BIG)
    await fill(store, 2)
    assert [version for version in (1, 2, 3) if store.has(INO, ContentVersion(version), 0)] == [2]


async def test_what_is_exempt_leaves_all_others_the_room_that_they_had(make_store: MakeStore) -> None:
    exempt_bytes = 0
    store = await make_store(
        limit_bytes=3 * EACH, exempt=lambda ino, _: ino <= 10, exempt_bytes=lambda: exempt_bytes
    )
    for ino in range(1, 11):
        exempt_bytes += EACH
        await store.put(Ino(ino), VERSION, 0, BIG)
    for ino in range(11, 20):
        await store.put(Ino(ino), VERSION, 0, BIG)
    assert present(store) == [*range(1, 11), 17, 18, 19]


async def test_room_is_what_the_guard_leaves_and_what_can_be_evicted(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store(
        keep_free_bytes=10**6, exempt=lambda ino, _: ino <= 2, exempt_bytes=lambda: 2 * EACH
    )
    monkeypatch.setattr("cloudfs.blocks.volume.Volume.free_bytes", lambda _volume: 10**8)
    await fill(store, 2)
    assert await store.room_bytes() == 10**8 - 10**6
    await store.put(Ino(3), VERSION, 0, BIG)
    assert await store.room_bytes() == 10**8 - 10**6 + EACH
    monkeypatch.setattr("cloudfs.blocks.volume.Volume.free_bytes", lambda _volume: 0)
    assert await store.room_bytes() == EACH - 10**6


async def test_the_search_for_victims_among_exempt_blocks_is_bounded(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    expect_log("no room for a block")
    monkeypatch.setattr("cloudfs.blocks.evictor._BATCH", 2)
    monkeypatch.setattr("cloudfs.blocks.evictor._MOST_BATCHES", 2)
    asked: list[int] = []

    def exempt(ino: Ino, _version: ContentVersion) -> bool:
        asked.append(ino)
        return ino <= 5

    store = await make_store(limit_bytes=6 * EACH, exempt=exempt)
    await fill(store, 6)
    await store.put(Ino(7), VERSION, 0, BIG)
    assert asked == [1, 2, 3, 4, 7], "four looked at, and whether the new one is exempt"
    await store.put(Ino(7), VERSION, 0, BIG)
    assert present(store) == [1, 2, 3, 4, 5, 7]


async def test_the_keep_free_guard_gives_way_to_other_programs(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    store = await make_store(keep_free_bytes=10**6)
    free_bytes = 10**8
    monkeypatch.setattr("cloudfs.blocks.volume.Volume.free_bytes", lambda _volume: free_bytes)
    await fill(store, 8)
    free_bytes = 10**6 - 1
    expect_log("no room for a block")
    await store.put(Ino(9), VERSION, 0, BIG)
    assert present(store) == [5, 6, 7, 8], "it made room, but the disk did not get emptier"
    free_bytes = 10**8
    await store.put(Ino(9), VERSION, 0, BIG)
    assert present(store) == [5, 6, 7, 8, 9]


async def test_a_full_disk_is_no_error_and_costs_only_old_blocks(
    make_store: MakeStore, small_disk: Path, expect_log: ExpectLog
) -> None:
    expect_log("no room for a block", optional=True)
    store = await make_store(cache=small_disk / "cache")
    for ino in range(1, 40):
        await store.put(Ino(ino), VERSION, 0, BIG)
        for old in present(store, 40):
            assert await store.get(Ino(old), VERSION, 0) == BIG
    assert 0 < store.statistics().blocks < 10
    assert present(store, 40)[-1] >= 38, "it goes on with new blocks"
    left = {BlockKey.of_file_name(f"{path.parent.name}/{path.name}") for path in value_paths(small_disk)}
    assert left == {BlockKey(Ino(ino), VERSION, 0) for ino in present(store, 40)}, "and leaves no orphans"


async def test_a_full_disk_and_small_blocks(
    make_store: MakeStore, small_disk: Path, expect_log: ExpectLog
) -> None:
    """Here it is SQLite that meets the end of the disk."""
    expect_log("no room for a block", optional=True)
    store = await make_store(cache=small_disk / "cache")
    for ino in range(1, 400):
        await store.put(Ino(ino), VERSION, 0, SMALL * 10)
    for ino in present(store, 400):
        assert await store.get(Ino(ino), VERSION, 0) == SMALL * 10
    assert store.statistics().blocks > 0


# The background.


async def test_run_evicts_ahead_of_need(make_store: MakeStore) -> None:
    store = await make_store(limit_bytes=100 * (len(SMALL) + OVERHEAD_BYTES))
    await fill(store, 100, SMALL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await until(lambda: store.statistics().blocks == 95)
        assert present(store, 100) == list(range(6, 101))
        nursery.cancel_scope.cancel()


async def test_run_brings_the_disk_back_to_the_guard(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store(keep_free_bytes=1000)
    await fill(store, 10)

    def free_bytes(_volume: object) -> int:
        # What is evicted becomes free: however often `run` looks, it stops at the guard.
        return 1000 - 4 * EACH + (10 - store.statistics().blocks) * EACH

    monkeypatch.setattr("cloudfs.blocks.volume.Volume.free_bytes", free_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        store._wake.set()
        await until(lambda: store.statistics().blocks == 6)
        nursery.cancel_scope.cancel()
    assert present(store) == [5, 6, 7, 8, 9, 10]


async def test_run_writes_recency_down(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store()
    await fill(store, 2, SMALL)
    (before,) = rows(tmp_path, "index.db", "SELECT used FROM blocks WHERE ino = 1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await store.get(Ino(1), VERSION, 0)
        store._wake.set()
        await until(lambda: rows(tmp_path, "index.db", "SELECT used FROM blocks WHERE ino = 1")[0] > before)
        nursery.cancel_scope.cancel()


async def test_what_a_killed_process_left_is_swept_away(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store()
    await fill(store, 4)
    await store.put(Ino(5), VERSION, 0, SMALL)
    # Killed after removing rows and before removing values:
    edit(tmp_path, "index.db", "DELETE FROM blocks WHERE ino IN (1, 2, 5)")
    # and after writing a value file before any row:
    orphan = volume_folder(tmp_path / "cache") / BlockKey(Ino(99), VERSION, 0).file_name()
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(BIG)
    foreign = orphan.with_name("a file of somebody else")
    foreign.write_bytes(b"")
    store = await make_store()
    assert present(store) == [3, 4]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await until(lambda: rows(tmp_path, "cache.db", "SELECT count(*) FROM Cache") == [(2,)])
        nursery.cancel_scope.cancel()
    assert len(value_paths(tmp_path)) == 2
    assert foreign.exists()
    assert await store.get(Ino(3), VERSION, 0) == BIG


async def test_an_interrupted_sweep_is_done_next_time(make_store: MakeStore) -> None:
    store = await make_store()
    await fill(store, 1)
    (await make_store())._closed = True  # killed
    store = await make_store()
    await store.aclose()
    assert not (await make_store())._volume.index.was_closed


async def test_an_orderly_end_needs_no_sweep(make_store: MakeStore) -> None:
    store = await make_store()
    await store.aclose()
    assert (await make_store())._volume.index.was_closed


async def test_blocks_of_another_metadata_database_are_deleted(make_store: MakeStore, tmp_path: Path) -> None:
    store = await make_store()
    await fill(store, 3)
    await store.aclose()
    bystander = tmp_path / "cache" / "precious"
    bystander.mkdir()
    store = await make_store(store_id="other")
    assert present(store) == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await until(lambda: not list((tmp_path / "cache").glob(f"blocks-{STORE_ID}-*")))
        nursery.cancel_scope.cancel()
    assert bystander.exists()


@pytest.mark.parametrize("store_id", ["", "../up", "a-b", "a" * 65, "ä"])
async def test_store_ids_are_plain_names(make_store: MakeStore, store_id: str) -> None:
    with pytest.raises(ValueError, match="store id"):
        await make_store(store_id=store_id)


# Damage.


@pytest.mark.parametrize("name", ["cache.db", "index.db"])
async def test_a_database_that_is_none_is_replaced_at_start(
    make_store: MakeStore, tmp_path: Path, expect_log: ExpectLog, name: str
) -> None:
    expect_log("is damaged and starts again empty")
    store = await make_store()
    await fill(store, 3)
    await store.aclose()
    (volume_folder(tmp_path / "cache") / name).write_bytes(b"no database at all" * 1000)
    store = await make_store()
    assert present(store) == []
    await fill(store, 3)
    assert present(store) == [1, 2, 3]


@pytest.mark.parametrize(("name", "table"), [("cache.db", "Cache"), ("index.db", "blocks")])
async def test_a_database_that_breaks_in_use_is_replaced(
    make_store: MakeStore, tmp_path: Path, expect_log: ExpectLog, name: str, table: str
) -> None:
    expect_log("gave way")
    expect_log("damaged and starts again empty")
    store = await make_store()
    await fill(store, 3)
    edit(tmp_path, name, f"DROP TABLE {table}")  # names of this file
    assert await store.get(Ino(1), VERSION, 0) is None
    await store.put(Ino(1), VERSION, 0, BIG)
    assert present(store) == [1]
    assert await store.get(Ino(1), VERSION, 0) == BIG


async def test_a_database_is_not_replaced_again_and_again(
    make_store: MakeStore, expect_log: ExpectLog, tmp_path: Path, autojump_clock: MockClock
) -> None:
    expect_log("damaged|gave way")
    store = await make_store()

    async def spoil() -> None:
        edit(tmp_path, "index.db", "DROP TABLE blocks", store._volume.folder)
        assert not store.has(INO, VERSION, 0)
        await store.put(INO, VERSION, 0, BIG)

    await spoil()
    assert store.has(INO, VERSION, 0)
    await spoil()
    assert not store.has(INO, VERSION, 0), "too soon"
    await trio.sleep(61)
    await store.put(INO, VERSION, 0, BIG)
    assert store.has(INO, VERSION, 0)
    assert autojump_clock.rate == 0


async def test_a_cache_folder_deleted_in_use_is_made_again(
    make_store: MakeStore, tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("was not what was stored|gave way|starts again empty")
    store = await make_store()
    await fill(store, 3)
    shutil.rmtree(tmp_path / "cache")
    assert await store.get(Ino(1), VERSION, 0) is None
    for _ in range(2):
        await store.put(Ino(9), VERSION, 0, BIG)
    assert await store.get(Ino(9), VERSION, 0) == BIG
    assert volume_folder(tmp_path / "cache").is_dir()


async def test_a_folder_that_cannot_be_used_is_an_error_at_start(
    make_store: MakeStore, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(CacheTrouble):
        await make_store()


async def test_complaints_are_seldom(
    make_store: MakeStore,
    expect_log: ExpectLog,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expect_log("gave way")
    store = await make_store(limit_bytes=1)
    for _ in range(50):
        await store.put(INO, VERSION, 0, SMALL)
    await trio.sleep(61)
    await store.put(INO, VERSION, 0, SMALL)
    assert [record.args and record.args[-1] for record in caplog.records] == [0, 49]  # type: ignore[index]
    assert autojump_clock.rate == 0


async def test_after_closing_everything_is_a_miss(make_store: MakeStore) -> None:
    store = await make_store()
    await fill(store, 1)
    await store.aclose()
    await store.aclose()
    assert not store.has(Ino(1), VERSION, 0)
    assert store.missing(Ino(1), VERSION, [0, 1]) == [0, 1]
    assert await store.get(Ino(1), VERSION, 0) is None
    await store.put(Ino(2), VERSION, 0, BIG)
    await store.drop(Ino(1), VERSION)


async def test_closing_waits_for_a_put_and_ends_run(make_store: MakeStore) -> None:
    store = await make_store()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.put, INO, VERSION, 0, BIG)
        nursery.start_soon(store.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await store.aclose()
    store = await make_store()
    assert store._volume.index.was_closed


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task does in threads."""
    with trio.fail_after(20):
        while not condition():
            await in_a_moment()


async def in_a_moment() -> None:
    await trio.to_thread.run_sync(int)


def edit(tmp_path: Path, name: str, statement: str, *parameters: object) -> None:
    """Change a database of the cache behind the store's back."""
    folder, values = _split(tmp_path, parameters)
    with sqlite3.connect(folder / name) as database:
        database.execute(statement, values)
    database.close()


def rows(tmp_path: Path, name: str, statement: str) -> list[tuple[int, ...]]:
    database = sqlite3.connect(volume_folder(tmp_path / "cache") / name)
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


def _split(tmp_path: Path, parameters: tuple[object, ...]) -> tuple[Path, tuple[object, ...]]:
    if parameters and isinstance(parameters[0], Path):
        return parameters[0], parameters[1:]
    return volume_folder(tmp_path / "cache"), parameters

"""Reading when the network, the server or the reader does something else than planned."""

from __future__ import annotations

import errno
import gc
import math
import traceback
from collections.abc import Callable

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cloudfs.content.fetch import FetchConfig, Fetcher, Source
from cloudfs.content.transfer import Transfer
from cloudfs.errors import (
    Changed,
    Locked,
    NotFound,
    PosixError,
    ServerFault,
    StorageAway,
    Unavailable,
    Unreachable,
)
from cloudfs.types import Ino, RemotePath
from tests.content.conftest import Fetching
from tests.content.fakes import KIB, MIB, Fault, World, some_bytes

ExpectLog = Callable[..., None]


async def read_all(fetcher: Fetcher, source: Source) -> bytes:
    pattern = fetcher.pattern()
    step = 128 * KIB
    return b"".join(
        [
            await fetcher.read(source, at, min(at + step, source.size), pattern)
            for at in range(0, source.size, step)
        ]
    )


@pytest.mark.parametrize("fault", [Fault.cut(300 * KIB), Fault.reset(300 * KIB), Fault.reset(0)])
async def test_a_broken_stream_goes_on_where_it_stopped(
    world: World, fetching: Fetching, fault: Fault
) -> None:
    data = some_bytes(8 * MIB)
    source = world.file(data)
    world.remote.faults = [fault, None, fault]
    async with fetching(world) as fetcher:
        assert await read_all(fetcher, source) == data
        assert fetcher.statistics().resumes == 2
    assert world.remote.sent_bytes == len(data)


async def test_a_server_that_never_gets_further_is_reported(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(1 * MIB))
    world.remote.faults = [Fault.reset(0)] * 10
    async with fetching(world) as fetcher:
        with pytest.raises(Unreachable):
            await fetcher.read(source, 0, 10)
        assert len(world.remote.requests) == 2


async def test_a_server_that_cuts_every_reply_is_reported(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(1 * MIB))
    world.remote.faults = [Fault.cut(1000)] * 100
    async with fetching(world) as fetcher:
        with pytest.raises(Exception, match="ended early"):
            await fetcher.read(source, 0, 128 * KIB)
        assert len(world.remote.requests) < 12


async def test_what_failed_for_good_keeps_no_chunk(world: World, fetching: Fetching) -> None:
    """Its error knew the frames that the last chunk was in, and they the transfer: up to 1 MiB until gc came round."""
    source = world.file(some_bytes(1 * MIB))
    world.remote.faults = [Fault.cut(100 * KIB)] * 100
    failed: list[Transfer] = []
    async with fetching(world) as fetcher:
        with pytest.raises(Exception, match="ended early"):
            await fetcher.read(source, 0, 1 * MIB)
        failed = [it for it in gc.get_objects() if isinstance(it, Transfer) and it.error is not None]
        frames = [
            frame for it in failed if it.error for frame, _ in traceback.walk_tb(it.error.__traceback__)
        ]
    assert frames
    assert not any("chunk" in frame.f_locals for frame in frames)


async def test_maintenance_is_not_asked_again(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(1 * MIB))
    world.remote.faults = [Fault(0, lambda: Unavailable("maintenance", status=503))] * 3
    async with fetching(world) as fetcher:
        with pytest.raises(Unavailable):
            await fetcher.read(source, 0, 10)
    assert len(world.remote.requests) == 1


def away() -> StorageAway:
    return StorageAway("the storage that it lies in is not available on the server", status=503)


async def test_one_process_of_the_server_that_cannot_open_it_is_not_the_last_word(
    world: World, fetching: Fetching
) -> None:
    """It knew a file where a folder is now; the others do not."""
    data = some_bytes(1 * MIB)
    source = world.file(data)
    world.remote.faults = [Fault(0, away)] * 3
    async with fetching(world) as fetcher:
        assert await read_all(fetcher, source) == data


async def test_a_storage_that_is_away_is_reported_within_two_seconds(
    world: World, fetching: Fetching
) -> None:
    source = world.file(some_bytes(1 * MIB))
    world.remote.faults = [Fault(0, away)] * 100
    began = trio.current_time()
    async with fetching(world) as fetcher:
        with pytest.raises(StorageAway):
            await fetcher.read(source, 0, 10)
    assert trio.current_time() - began < 2
    assert len(world.remote.requests) == 4


def in_use() -> Locked:
    return Locked("it is in use on the server", status=423)


async def test_who_reads_what_another_client_is_writing_waits_for_it(
    world: World, fetching: Fetching
) -> None:
    """Large files are locked for seconds while the server puts them together (protocol.md §14)."""
    data = some_bytes(1 * MIB)
    source = world.file(data)
    world.remote.faults = [Fault(0, in_use)] * 4
    async with fetching(world) as fetcher:
        assert await read_all(fetcher, source) == data


async def test_a_file_that_stays_in_use_is_reported_in_time(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(1 * MIB))
    world.remote.faults = [Fault(0, in_use)] * 1000
    began = trio.current_time()
    async with fetching(world) as fetcher:
        with pytest.raises(Locked):
            await fetcher.read(source, 0, 10)
    assert 8 < trio.current_time() - began < 14
    assert len(world.remote.requests) < 40


async def test_every_reader_of_a_failed_request_is_told(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(1 * MIB))
    world.remote.faults = [Fault(0, lambda: ServerFault("broken", status=400))]
    failed = []

    async def read(fetcher: Fetcher) -> None:
        with pytest.raises(ServerFault) as caught:
            await fetcher.read(source, 0, 10)
        failed.append(caught.value)

    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(read, fetcher)
    assert len(failed) == 3
    assert len({id(error) for error in failed}) == 3


async def test_another_version_is_never_mixed_in(world: World, fetching: Fetching) -> None:
    """The handle serves what it has of its version and gets ESTALE for the rest; a new one reads the new version."""
    old, new = some_bytes(20 * MIB, 1), some_bytes(20 * MIB, 2)
    source = world.file(old)
    async with fetching(world) as fetcher:
        assert await fetcher.read(source, 0, 100) == old[:100]
        await trio.sleep(3)
        newer = world.file(new)
        assert await fetcher.read(source, 200, 300) == old[200:300]
        with pytest.raises(Changed) as caught:
            await fetcher.read(source, 10 * MIB, 10 * MIB + 100)
        assert caught.value.errno == errno.ESTALE
        assert await fetcher.read(newer, 10 * MIB, 10 * MIB + 100) == new[10 * MIB : 10 * MIB + 100]


async def test_a_file_that_is_gone_is_stale(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(1 * MIB))
    world.remote.files.clear()
    async with fetching(world) as fetcher:
        with pytest.raises(Changed) as caught:
            await fetcher.read(source, 0, 10)
        assert isinstance(caught.value.__cause__, Changed)
        assert isinstance(caught.value.__cause__.__cause__, NotFound)
        assert len(world.remote.requests) == 1


async def test_a_file_that_we_moved_meanwhile_is_found(world: World, fetching: Fetching) -> None:
    data = some_bytes(1 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:

        async def move() -> None:
            await trio.sleep(0.001)  # while the request is on its way
            world.paths[Ino(7)] = RemotePath("/new")
            world.remote.files[RemotePath("/new")] = world.remote.files.pop(RemotePath("/7"))

        nursery.start_soon(move)
        assert await fetcher.read(source, 0, 10) == data[:10]
    assert [request.path for request in world.remote.requests] == ["/7", "/new"]


async def test_a_file_whose_time_we_set_meanwhile_is_read_on(world: World, fetching: Fetching) -> None:
    data = some_bytes(2 * MIB)
    source = world.file(data)
    renamed = msgspec.structs.replace(source.remote, etag="of the new time")
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:

        async def set_time() -> None:
            await trio.sleep(0.001)  # while the request is on its way
            world.names[source] = renamed
            world.remote.files[RemotePath("/7")] = renamed, data

        nursery.start_soon(set_time)
        assert await fetcher.read(source, 0, 10) == data[:10]
        assert await fetcher.read(source, MIB, MIB + 10) == data[MIB : MIB + 10]


async def test_a_cancelled_reader_takes_nothing_from_others(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(1 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:

        async def impatient() -> None:
            await trio.sleep(0.3)
            with trio.move_on_after(0.1):
                await fetcher.read(source, 500 * KIB, 501 * KIB)
                raise AssertionError

        async def patient() -> None:
            assert await fetcher.read(source, 0, MIB) == data

        nursery.start_soon(patient)
        nursery.start_soon(impatient)
    assert len(world.remote.requests) == 1


async def test_a_nearly_finished_block_is_kept_for_the_next_reader(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 512 * KIB
    data = some_bytes(1 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        with trio.move_on_after(0.5):
            await fetcher.read(source, 0, MIB)
        await trio.sleep(3)
        assert await fetcher.read(source, 0, MIB) == data
    assert len(world.remote.requests) == 1


async def test_silence_ends_with_the_reader(world: World, fetching: Fetching) -> None:
    """A reader's deadline is its own; the request it leaves behind is closed."""
    source = world.file(some_bytes(20 * MIB))
    world.remote.faults = [Fault.silence(50 * KIB)] * 2
    async with fetching(world) as fetcher:
        with trio.move_on_after(15) as limit:
            await fetcher.read(source, 0, 128 * KIB)
        assert limit.cancelled_caught
        await trio.sleep(6)
        assert world.remote.open_requests == []
        assert await fetcher.read(source, 0, 10) == some_bytes(20 * MIB)[:10]


async def test_quiesce_returns_when_connections_are_closed(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    world.remote.closing_s = 0.3
    data = some_bytes(8 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:

        async def read() -> None:
            assert await read_all(fetcher, source) == data

        nursery.start_soon(read)
        await trio.sleep(2)
        assert world.remote.open_requests
        open_before = world.remote.open_requests
        await fetcher.quiesce(source.ino)
        assert not any(request.open for request in open_before)


async def test_a_paused_file_is_left_alone_and_its_readers_wait(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(3 * MIB)
    source = world.file(data)
    other = world.file(data, 8)
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:

        async def read() -> None:
            assert await read_all(fetcher, source) == data

        nursery.start_soon(read)
        await trio.sleep(1)
        async with fetcher.paused(source.ino):
            async with fetcher.paused(source.ino):
                assert world.remote.open_requests == []
            await trio.sleep(5)
            assert world.remote.open_requests == []
            # What is cached, and other files, are read meanwhile.
            assert await fetcher.read(source, 0, 10) == data[:10]
            assert await fetcher.read(other, 0, 10) == data[:10]


async def test_a_long_pause_ends_in_ebusy(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(MIB))
    async with fetching(world) as fetcher, fetcher.paused(source.ino):
        begun_s = trio.current_time()
        with pytest.raises(Locked) as caught:
            await fetcher.read(source, 0, 10)
        assert caught.value.errno == errno.EBUSY
        assert trio.current_time() - begun_s == pytest.approx(10)
    assert world.remote.requests == []


async def test_reads_never_deadlock_on_memory(world: World, fetching: Fetching) -> None:
    """A ceiling of two blocks, a slow disk, more readers than blocks fit: slow, but all right and never more."""
    world.blocks.put_s = 0.05
    data = some_bytes(6 * MIB)
    sources = [world.file(data, ino) for ino in range(7, 15)]
    done = []

    async def read(fetcher: Fetcher, source: Source) -> None:
        assert await read_all(fetcher, source) == data
        done.append(source)

    async with fetching(world, ceiling_bytes=2 * MIB) as fetcher:
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                for source in sources:
                    nursery.start_soon(read, fetcher, source)
        assert fetcher.statistics().memory_peak_bytes <= 2 * MIB + 4 * MIB
    assert len(done) == 8


async def test_memory_that_others_hold_does_not_stop_a_reader(world: World, fetching: Fetching) -> None:
    """An upload that hangs may keep its buffers as long as it likes."""
    data = some_bytes(6 * MIB)
    source = world.file(data)
    async with fetching(world, ceiling_bytes=4 * MIB) as fetcher:
        assert fetcher._budget.take_nowait(4 * MIB, urgent=True)
        with trio.fail_after(60):
            assert await read_all(fetcher, source) == data
        fetcher._budget.give_back(4 * MIB)


async def test_a_file_paused_while_its_reader_waits_for_a_turn(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(1 * MIB)
    busy, source = world.file(data, 8), world.file(data)
    async with fetching(world, config=FetchConfig(transfers=1)) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.read, busy, 0, MIB)
        await trio.sleep(0.1)
        nursery.start_soon(fetcher.read, source, 0, 10)
        await trio.sleep(0.1)
        async with fetcher.paused(source.ino):
            await trio.sleep(5)
            assert len(world.remote.requests) == 1
    assert len(world.remote.requests) == 2


async def test_a_slow_disk_slows_the_stream_within_the_ceiling(world: World, fetching: Fetching) -> None:
    world.blocks.put_s = 0.1
    data = some_bytes(40 * MIB)
    source = world.file(data)
    async with fetching(world, ceiling_bytes=8 * MIB) as fetcher:
        assert await read_all(fetcher, source) == data
        assert fetcher.statistics().memory_peak_bytes <= 8 * MIB
    assert len(world.blocks.blocks) == 40


async def test_chunks_come_in_order_and_are_not_kept(world: World, fetching: Fetching) -> None:
    data = some_bytes(12 * MIB)
    source = world.file(data)
    world.blocks.blocks[source.ino, source.version, 3] = data[3 * MIB : 4 * MIB]
    world.remote.faults = [Fault.cut(100 * KIB)]
    async with fetching(world, ceiling_bytes=2 * MIB) as fetcher:
        parts = [part async for part in fetcher.chunks(source, 1000, 11 * MIB + 7)]
        assert b"".join(parts) == data[1000 : 11 * MIB + 7]
        assert max(map(len, parts)) <= MIB
    assert len(world.blocks.blocks) == 1
    assert world.remote.sent_bytes == 10 * MIB + 7 - 1000


async def test_chunks_go_at_the_pace_of_the_consumer(world: World, fetching: Fetching) -> None:
    data = some_bytes(4 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        got = b""
        async for part in fetcher.chunks(source, 0, len(data)):
            got += part
            assert world.remote.sent_bytes <= len(got) + 2 * world.remote.chunk_bytes
            await trio.sleep(2)
        assert got == data
    assert len(world.remote.requests) <= 4 * MIB // (64 * KIB) // 7


async def test_chunks_go_on_after_a_pause(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(4 * MIB)
    source = world.file(data)
    got = []

    async def consume(fetcher: Fetcher) -> None:
        got.extend([part async for part in fetcher.chunks(source, 0, len(data))])

    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(consume, fetcher)
        await trio.sleep(1)
        async with fetcher.paused(source.ino):
            await trio.sleep(2)
    assert b"".join(got) == data


async def test_chunks_left_early_close_the_request(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(8 * MIB))
    async with fetching(world) as fetcher:
        chunks = fetcher.chunks(source, 0, source.size)
        async for _ in chunks:
            break
        await chunks.aclose()
        await trio.sleep(0.1)
        assert world.remote.open_requests == []


async def test_chunks_tell_of_errors(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(8 * MIB))
    world.file(some_bytes(8 * MIB, 2))
    async with fetching(world) as fetcher:
        with pytest.raises(Changed):
            await anext(fetcher.chunks(source, 0, source.size))


async def test_prefetch_brings_every_block_within_the_ceiling(world: World, fetching: Fetching) -> None:
    data = some_bytes(30 * MIB + 9)
    source = world.file(data)
    world.blocks.put_s = 0.02
    world.remote.faults = [None, Fault.reset(3 * MIB)]
    async with fetching(world, ceiling_bytes=8 * MIB) as fetcher:
        assert (
            await fetcher.read(source, 5 * MIB + 800 * KIB, 6 * MIB + 5)
            == data[5 * MIB + 800 * KIB : 6 * MIB + 5]
        )
        await fetcher.prefetch_whole(source)
        assert fetcher.statistics().memory_peak_bytes <= 8 * MIB
        assert world.blocks.missing(source.ino, source.version, range(31)) == []
        asked = len(world.remote.requests)
        await fetcher.prefetch_whole(source)
        assert len(world.remote.requests) == asked
    assert b"".join(world.blocks.blocks[source.ino, source.version, index] for index in range(31)) == data


async def test_prefetch_says_when_the_cache_is_too_small(world: World, fetching: Fetching) -> None:
    world.blocks.limit = 4
    source = world.file(some_bytes(8 * MIB))
    async with fetching(world) as fetcher:
        with pytest.raises(PosixError) as caught:
            await fetcher.prefetch_whole(source)
        assert caught.value.errno == errno.ENOSPC


async def test_prefetch_gives_way_to_readers(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(20 * MIB)
    sources = [world.file(data, ino) for ino in range(7, 12)]
    config = FetchConfig(transfers=2, background_transfers=2)
    async with fetching(world, config=config) as fetcher, trio.open_nursery() as nursery:
        for source in sources[:4]:
            nursery.start_soon(fetcher.prefetch_whole, source)
        await trio.sleep(3)
        begun_s = trio.current_time()
        assert await fetcher.read(sources[4], 0, 4096) == data[:4096]
        assert trio.current_time() - begun_s < 0.3


async def test_an_unexpected_error_reaches_the_reader(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(MIB))
    world.paths.clear()  # locate() raises KeyError
    async with fetching(world) as fetcher:
        with pytest.raises(KeyError):
            await fetcher.read(source, 0, 10)


async def test_an_unexpected_error_of_read_ahead_is_logged(
    world: World, fetching: Fetching, expect_log: ExpectLog
) -> None:
    expect_log("read-ahead of inode 7 failed")
    data = some_bytes(20 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        pattern = fetcher.pattern()
        await fetcher.read(source, 0, 128 * KIB, pattern)
        del world.paths[source.ino]
        assert await fetcher.read(source, 128 * KIB, 256 * KIB, pattern) == data[128 * KIB : 256 * KIB]


async def test_shutting_down_wakes_every_reader(world: World, fetching: Fetching) -> None:
    """Readers that live outside the fetcher's nursery must not hang when it is cancelled."""
    world.remote.bytes_per_s = 1
    source = world.file(some_bytes(MIB))
    failures = []

    async def read(fetcher: Fetcher) -> None:
        try:
            await fetcher.read(source, 0, 10)
        except Exception as error:  # noqa: BLE001  # whichever it is
            failures.append(error)

    async with trio.open_nursery() as outer, fetching(world) as fetcher:
        outer.start_soon(read, fetcher)
        await trio.sleep(1)
        fetcher._nursery.cancel_scope.cancel()
        await trio.sleep(1)
    assert len(failures) == 1


async def test_a_transfer_knows_how_far_is_near() -> None:
    source = World().file(some_bytes(64 * MIB))
    transfer = Transfer(source, 0, source.size, FetchConfig(), lambda: None)
    assert transfer.reaches_soon(MIB)
    assert not transfer.reaches_soon(2 * MIB)
    transfer.answered()
    await trio.sleep(1)
    transfer.advance(50 * MIB, lambda _start, _stop: None)
    assert transfer.reaches_soon(51 * MIB)
    assert not transfer.reaches_soon(53 * MIB)


async def test_a_transfer_that_is_far_ahead_waits_for_its_reader() -> None:
    source = World().file(some_bytes(64 * MIB))
    transfer = Transfer(source, 0, source.size, FetchConfig(), lambda: None)
    transfer.advance(20 * MIB, lambda _start, _stop: None)
    assert not transfer.is_far_ahead(16 * MIB)  # nobody reads: there is nobody to wait for
    at = [MIB]
    transfer.reader_offset = lambda: at[0]
    assert transfer.is_far_ahead(16 * MIB)
    began_s = trio.current_time()
    await transfer.wait_for_reader(16 * MIB, 0.02)
    assert trio.current_time() - began_s == pytest.approx(0.02)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transfer.wait_for_reader, 16 * MIB, math.inf)
        for offset in (2 * MIB, 4 * MIB):
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            at[0] = offset
            transfer.touch()
    assert trio.current_time() - began_s == pytest.approx(0.02)

"""Reading: the right bytes, few requests, and as early as possible."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import trio
import trio.testing

from cloudfs.content.fetch import Fetcher, ReadPattern, Source
from cloudfs.errors import PosixError
from tests.content.conftest import Fetching
from tests.content.fakes import KIB, MIB, World, some_bytes

KERNEL_READ = 128 * KIB


async def read_through(
    fetcher: Fetcher, source: Source, start: int = 0, stop: int | None = None, pause_s: float = 0.0
) -> bytes:
    """Read like a program does, by kernel requests one after the other."""
    pattern = fetcher.pattern()
    parts = []
    end = source.size if stop is None else stop
    for offset in range(start, end, KERNEL_READ):
        parts.append(await fetcher.read(source, offset, min(offset + KERNEL_READ, end), pattern))
        await trio.sleep(pause_s)
    return b"".join(parts)


async def test_a_small_file_comes_whole_in_one_request(world: World, fetching: Fetching) -> None:
    data = some_bytes(3 * MIB + 5)
    source = world.file(data)
    async with fetching(world) as fetcher:
        assert await fetcher.read(source, 0, 4096, fetcher.pattern()) == data[:4096]
        assert world.remote.spans == [(0, len(data))]
    assert len(world.blocks.blocks) == 4


async def test_no_bytes_need_no_request(world: World, fetching: Fetching) -> None:
    source = world.file(b"")
    async with fetching(world) as fetcher:
        assert await fetcher.read(source, 0, 0) == b""
    assert world.remote.requests == []


async def test_a_far_read_waits_for_its_own_bytes_only(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(20 * MIB)
    source = world.file(data)
    at = 10 * MIB + 700 * KIB + 77
    async with fetching(world) as fetcher:
        begun_s = trio.current_time()
        assert await fetcher.read(source, at, at + 4096, fetcher.pattern()) == data[at : at + 4096]
        assert world.remote.sent_bytes <= 256 * KIB
        assert trio.current_time() - begun_s < 0.3
    # Then the rest of that block comes, and nothing else, so that it is cached as a whole.
    assert sorted(world.remote.spans) == [(10 * MIB, 10 * MIB + 640 * KIB), (10 * MIB + 640 * KIB, 11 * MIB)]
    assert world.blocks.blocks[source.ino, source.version, 10] == data[10 * MIB : 11 * MIB]


async def test_what_was_read_is_read_again_without_the_server(world: World, fetching: Fetching) -> None:
    data = some_bytes(6 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source) == data
    asked = len(world.remote.requests)
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source) == data
        # One load per block, not one per kernel request.
        assert world.blocks.gets == 6
    assert len(world.remote.requests) == asked


async def test_a_sequential_read_needs_few_requests(world: World, fetching: Fetching) -> None:
    data = some_bytes(96 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        begun_s = trio.current_time()
        assert await read_through(fetcher, source) == data
        elapsed_s = trio.current_time() - begun_s
        # Every block once, in windows that grow, each asked for before the reader runs dry; the first two at once.
        assert sorted(world.remote.spans) == [
            (0, MIB),
            (1 * MIB, 5 * MIB),
            (5 * MIB, 21 * MIB),
            (21 * MIB, 85 * MIB),
            (85 * MIB, 96 * MIB),
        ]
        assert elapsed_s < 1.1 * (96 / 100) + 0.05
    assert len(world.blocks.blocks) == 96


async def test_jumps_of_256_kib_bring_a_block_each(world: World, fetching: Fetching) -> None:
    """Page faults, where the kernel reads that far ahead; what is waited for comes first."""
    source = world.file(some_bytes(96 * MIB))
    async with fetching(world) as fetcher:
        pattern = fetcher.pattern()
        for at in (50 * MIB + 700 * KIB, 80 * MIB + 4 * KIB, 20 * MIB + 60 * KIB):
            await fetcher.read(source, at, at + 256 * KIB, pattern)
            assert world.remote.spans[-1] == (at, at - at % MIB + MIB)
            await trio.sleep(3)
        assert world.remote.sent_bytes == 3 * MIB
        pattern.release()


async def test_the_first_windows_are_asked_for_together(world: World, fetching: Fetching) -> None:
    """Each answer takes longer to begin than a first window lasts: the reader waits for one of them only."""
    world.remote.latency_s = 10.0
    data = some_bytes(40 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        pattern = fetcher.pattern()
        begun_s = trio.current_time()
        assert await fetcher.read(source, 0, 256 * KIB, pattern) == data[: 256 * KIB]
        assert trio.current_time() - begun_s < 11
        assert world.remote.spans == [(0, 4 * MIB), (4 * MIB, 20 * MIB)]  # what is waited for goes first
        pattern.release()


async def test_looking_at_the_start_of_a_large_file_fetches_one_block(
    world: World, fetching: Fetching
) -> None:
    data = some_bytes(20 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        pattern = fetcher.pattern()
        assert await fetcher.read(source, 0, 16 * KIB, pattern) == data[: 16 * KIB]
        assert await fetcher.read(source, 16 * KIB, 64 * KIB, pattern) == data[16 * KIB : 64 * KIB]
    assert world.remote.spans == [(0, MIB)]


async def test_who_only_looks_at_the_heads_of_files_gets_no_more(world: World, fetching: Fetching) -> None:
    """The kernel asks so for the first 64 KiB. The first file is fetched as for anybody else."""
    files = [(data := some_bytes(2 * MIB), world.file(data, ino=n)) for n in range(1, 11)]
    async with fetching(world) as fetcher:
        for data, source in files:
            pattern = fetcher.pattern()
            for start, stop in ((0, 16), (16, 48), (48, 112)):
                got = await fetcher.read(source, start * KIB, stop * KIB, pattern)
                assert got == data[start * KIB : stop * KIB]
            await close_while_the_kernel_guesses(fetcher, source, pattern, 112 * KIB, 240 * KIB)
    assert world.remote.spans == [(0, 2 * MIB), *[(0, 112 * KIB)] * 9]


async def close_while_the_kernel_guesses(
    fetcher: Fetcher, source: Source, pattern: ReadPattern, start: int, stop: int
) -> None:
    async def guess() -> None:
        with suppress(PosixError):
            assert len(await fetcher.read(source, start, stop, pattern)) == stop - start

    async with trio.open_nursery() as nursery:
        nursery.start_soon(guess)
        await trio.testing.wait_all_tasks_blocked()
        pattern.close()
    pattern.release()


async def test_what_the_kernel_guessed_and_a_program_wants_comes_all_the_same(
    world: World, fetching: Fetching
) -> None:
    """After a moment while it is open, and at once when the kernel asks again because the guess had failed."""
    files = [(data := some_bytes(2 * MIB), world.file(data, ino=n)) for n in range(1, 5)]
    async with fetching(world) as fetcher:
        for data, source in files[:3]:
            pattern = fetcher.pattern()
            for start, stop in ((0, 16), (16, 48), (48, 112), (112, 240)):
                got = await fetcher.read(source, start * KIB, stop * KIB, pattern)
                assert got == data[start * KIB : stop * KIB]
            pattern.release()
        # Waited for in the second file, and so part of the head from the third on.
        assert world.remote.spans[1:] == [(0, 112 * KIB), (64 * KIB, 256 * KIB), (0, 240 * KIB)]
        data, source = files[3]
        pattern = fetcher.pattern()
        await fetcher.read(source, 0, 16 * KIB, pattern)
        pattern.close()
        began = trio.current_time()
        assert await fetcher.read(source, 0, 256 * KIB, pattern) == data[: 256 * KIB]
        assert trio.current_time() - began < 0.09
        pattern.release()


async def test_who_goes_on_after_heads_gets_all(world: World, fetching: Fetching) -> None:
    """It costs one request; the next file is read as if there had been no heads."""
    first, second, third = (world.file(some_bytes(3 * MIB), ino=n) for n in (1, 2, 3))
    async with fetching(world) as fetcher:
        pattern = fetcher.pattern()
        await fetcher.read(first, 0, 16 * KIB, pattern)
        pattern.release()
        world.remote.requests.clear()
        for source in (second, third):
            data = await read_through(fetcher, source)
            assert len(data) == 3 * MIB
    assert world.remote.spans == [(0, 64 * KIB), (64 * KIB, 256 * KIB), (256 * KIB, 3 * MIB), (0, 3 * MIB)]


async def test_many_readers_of_one_block_share_one_request(world: World, fetching: Fetching) -> None:
    data = some_bytes(20 * MIB)
    source = world.file(data)
    got: list[bytes] = []

    async def read(fetcher: Fetcher, start: int) -> None:
        got.append(bytes(await fetcher.read(source, start, start + 1000, fetcher.pattern())))

    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(read, fetcher, 5 * MIB + number * 1000)
    assert sorted(got) == sorted(data[5 * MIB + n * 1000 : 5 * MIB + n * 1000 + 1000] for n in range(20))
    assert len(world.remote.requests) == 1


async def test_two_sequential_readers_share_the_stream(world: World, fetching: Fetching) -> None:
    data = some_bytes(32 * MIB)
    source = world.file(data)

    async def read(fetcher: Fetcher) -> None:
        assert await read_through(fetcher, source) == data

    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(read, fetcher)
        nursery.start_soon(read, fetcher)
    assert world.remote.sent_bytes == len(data)


async def test_a_request_that_nobody_reads_is_stopped(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    source = world.file(some_bytes(60 * MIB))
    async with fetching(world) as fetcher:
        await read_through(fetcher, source, 0, 4 * MIB)
        left_s = trio.current_time()
        await trio.sleep(30)
        closed_s = [request.closed_at_s for request in world.remote.requests]
        assert all(at_s is not None and at_s <= left_s + 1.05 for at_s in closed_s)


async def test_release_stops_a_request_at_once(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    source = world.file(some_bytes(60 * MIB))
    async with fetching(world) as fetcher:
        pattern = fetcher.pattern()
        for offset in range(0, 2 * MIB, KERNEL_READ):
            await fetcher.read(source, offset, offset + KERNEL_READ, pattern)
        assert world.remote.open_requests
        pattern.release()
        await trio.sleep(0.01)
        assert world.remote.open_requests == []


async def test_a_slow_reader_keeps_its_read_ahead(world: World, fetching: Fetching) -> None:
    """A film: 1 MiB a second. Each request is over quickly: no lock is held while the reader is busy."""
    data = some_bytes(24 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source, pause_s=0.125) == data
    assert world.remote.sent_bytes == len(data)
    assert len(world.remote.requests) <= 5


async def test_who_begins_at_the_end_and_goes_on_from_the_head_gets_little_until_then(
    world: World, fetching: Fetching
) -> None:
    """Films that have their index at the end, and archives: the tail is read, then the head, and then all in order."""
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(24 * MIB + 1000)
    source = world.file(data)
    async with fetching(world) as fetcher:
        pattern = fetcher.pattern()

        async def read(start: int, stop: int) -> int:
            """Return how much came until the program had its bytes."""
            before = world.remote.sent_bytes
            assert await fetcher.read(source, start, stop, pattern) == data[start:stop]
            return world.remote.sent_bytes - before

        size = len(data)
        assert await read(size - 22, size) <= 256 * KIB  # an archive's last record
        assert await read(size - 64 * KIB, size - 22) <= 256 * KIB
        await trio.sleep(2)  # the rest of those blocks comes, and no more
        assert world.remote.sent_bytes == MIB + 1000
        assert await read(0, 32 * KIB) <= 256 * KIB
        await trio.sleep(2)
        assert world.remote.sent_bytes == 2 * MIB + 1000
        asked = len(world.remote.requests)
        for start in range(32 * KIB, size, KERNEL_READ):
            await read(start, min(start + KERNEL_READ, size))
    assert world.remote.sent_bytes == size  # nothing came twice
    assert asked <= 5
    assert len(world.remote.requests) - asked <= 4


async def test_a_reader_far_away_does_not_wait_for_a_stream(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 2 * MIB
    data = some_bytes(64 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(read_through, fetcher, source, 0, 8 * MIB)
        await trio.sleep(1.5)
        begun_s = trio.current_time()
        at = 11 * MIB
        assert (
            await fetcher.read(source, at, at + KERNEL_READ, fetcher.pattern()) == data[at : at + KERNEL_READ]
        )
        assert trio.current_time() - begun_s < 0.2


async def test_waiting_readers_go_before_read_ahead(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 1 * MIB
    data = some_bytes(40 * MIB)
    sources = [world.file(data, ino) for ino in range(7, 17)]
    async with fetching(world) as fetcher:
        async with trio.open_nursery() as nursery:
            for source in sources[:5]:
                nursery.start_soon(read_through, fetcher, source, 0, 3 * MIB)
            await trio.sleep(2)
            begun_s = trio.current_time()
            for source in sources[5:]:
                assert await fetcher.read(source, 0, 4096, fetcher.pattern()) == data[:4096]
            # Each waits for one turn of somebody else at most.
            assert trio.current_time() - begun_s < 5 * 2.5
        assert world.remote.most_open <= 4


async def test_blocks_that_cannot_be_read_are_fetched(world: World, fetching: Fetching) -> None:
    data = some_bytes(8 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        await read_through(fetcher, source)
    world.blocks.damaged = {(source.ino, source.version, index) for index in (0, 3, 4)}
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source) == data
    assert not world.blocks.damaged


async def test_a_partly_cached_file_is_fetched_in_its_gaps_only(world: World, fetching: Fetching) -> None:
    data = some_bytes(16 * MIB)
    source = world.file(data)
    for index in (2, 3, 7):
        world.blocks.blocks[source.ino, source.version, index] = data[index * MIB : (index + 1) * MIB]
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source) == data
    assert world.remote.sent_bytes == 13 * MIB


async def test_a_cache_that_fails_costs_speed_only(
    world: World, fetching: Fetching, expect_log: object
) -> None:
    assert callable(expect_log)
    expect_log("could not be cached")
    world.blocks.fail_puts = True
    data = some_bytes(24 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source) == data
        await trio.sleep(1)
        assert fetcher.statistics().store_failures == 24


async def test_blocks_that_come_one_by_one_are_kept_together(world: World, fetching: Fetching) -> None:
    """A transaction costs the CPU of three blocks, and a quick disk is done with each before the next comes."""
    source = world.file(data := some_bytes(48 * MIB))
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source) == data
        await trio.sleep(1)
        assert world.blocks.puts == 48
        assert world.blocks.transactions <= 16


async def test_who_waits_for_blocks_to_be_kept_waits_for_no_others(world: World, fetching: Fetching) -> None:
    source = world.file(some_bytes(3 * MIB))
    world.remote.bytes_per_s, world.remote.latency_s = 10**12, 0.0
    async with fetching(world) as fetcher:
        began = trio.current_time()
        await fetcher.prefetch_whole(source)
        assert trio.current_time() - began < 0.01


async def test_a_read_needs_no_pattern(world: World, fetching: Fetching) -> None:
    data = some_bytes(5 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        for start, stop in [(0, 10), (MIB - 5, MIB + 5), (5 * MIB - 1, 5 * MIB), (0, 5 * MIB)]:
            assert await fetcher.read(source, start, stop) == data[start:stop]


async def test_a_quick_line_does_not_outrun_its_reader(world: World, fetching: Fetching) -> None:
    """Blocks that left memory before they were read would come back from disk: 1.2 ms each."""
    world.remote.bytes_per_s = 2000 * MIB
    data = some_bytes(96 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher:
        assert await read_through(fetcher, source, pause_s=0.0005) == data
        assert fetcher.statistics().from_disk_bytes == 0
        assert fetcher.statistics().memory_peak_bytes <= 48 * MIB


async def test_memory_goes_back_once_nobody_reads(world: World, fetching: Fetching) -> None:
    data = some_bytes(8 * MIB)
    source = world.file(data)
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.run)
        for _ in range(4):
            assert await fetcher.read(source, 0, MIB) == data[:MIB]
            await trio.sleep(6)
        assert fetcher.statistics().memory_used_bytes > 0
        await trio.sleep(20)
        assert fetcher.statistics().memory_used_bytes == 0
        assert await fetcher.read(source, 0, MIB) == data[:MIB]
        nursery.cancel_scope.cancel()


async def test_what_has_time_stops_at_the_next_block_while_a_reader_waits_and_goes_on_afterwards(
    world: World, fetching: Fetching
) -> None:
    world.remote.bytes_per_s = 4 * MIB
    slow, quick = world.file(some_bytes(40 * MIB)), world.file(some_bytes(12 * MIB), ino=8)
    turns: list[float] = []

    async with fetching(world) as fetcher:

        async def turn() -> None:
            while fetcher.idle_s() < 1.0:
                await trio.sleep(0.1)
            turns.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetcher.prefetch_whole, slow, turn)
            await trio.sleep(2.1)
            first = world.remote.requests[0]
            assert (first.path, first.open) == (world.locate(slow).path, True)
            read_at = trio.current_time()
            await read_through(fetcher, quick)
            assert fetcher.idle_s() < 0.1
            over_at = trio.current_time()
            assert first.closed_at_s is not None
            assert first.closed_at_s < read_at + 0.6, "a block of 1 MiB takes a quarter of a second"
        assert turns[1] >= over_at + 1.0
        assert len(world.remote.requests) < 12
        assert fetcher.missing_bytes(slow) == 0
    spans = sorted(
        (it.start, it.start + it.sent_bytes) for it in world.remote.requests if it.path == first.path
    )
    assert all(stop == start for (_, stop), (start, _) in pairwise(spans)), "nothing came twice"


async def test_what_has_time_and_is_read_itself_does_not_stop(world: World, fetching: Fetching) -> None:
    world.remote.bytes_per_s = 4 * MIB
    data = some_bytes(12 * MIB)
    source = world.file(data)

    async def turn() -> None:
        await trio.sleep(60)

    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(fetcher.prefetch_whole, source, turn)
        await trio.sleep(60.5)
        assert await read_through(fetcher, source) == data
    assert len(world.remote.requests) == 1


async def test_what_is_in_memory_and_was_dropped_from_the_cache_is_kept_again(
    world: World, fetching: Fetching
) -> None:
    data = some_bytes(3 * MIB + 5)
    source = world.file(data)
    async with fetching(world) as fetcher:
        await fetcher.prefetch_whole(source)
        await world.blocks.drop(source.ino, source.version)
        assert fetcher.missing_bytes(source) == len(data)
        await fetcher.prefetch_whole(source)
        assert fetcher.missing_bytes(source) == 0
    assert len(world.remote.requests) == 1

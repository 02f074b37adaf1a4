"""A server that takes requests and answers none, met by many programs that the kernel lets ask a few at a time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cloudfs.content.fetch import Fetcher, Source
from cloudfs.errors import Unreachable
from tests.content.conftest import Fetching
from tests.content.fakes import KIB, Fault, World, some_bytes

READ_S = 7.5
"""What a read may take at the mount (`fuse.boundary`)."""
DOZEN = 12
SIZE = 200 * KIB


async def read_as_the_kernel(fetcher: Fetcher, source: Source) -> bytes | None:
    """Read ahead and, where that fails, once more, as the kernel does; None: both failed."""
    for _ in range(2):
        with trio.move_on_after(READ_S):
            try:
                return bytes(await fetcher.read(source, 0, source.size))
            except Unreachable:
                pass
    return None


async def read_in_dozens(fetcher: Fetcher, sources: list[Source]) -> list[bytes | None]:
    """Read all, no more than a dozen at a time; return what each got."""
    got: dict[Source, bytes | None] = {}
    free = trio.Semaphore(DOZEN)

    async def read_one(source: Source) -> None:
        async with free:
            got[source] = await read_as_the_kernel(fetcher, source)

    async with trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(read_one, source)
    return [got[source] for source in sources]


def many(world: World, count: int) -> list[Source]:
    return [world.file(some_bytes(SIZE, seed=ino), ino=ino) for ino in range(10, 10 + count)]


async def test_two_hundred_programs_wait_no_longer_than_the_first_dozen(
    world: World, fetching: Fetching
) -> None:
    sources = many(world, 200)
    world.remote.faults = [Fault.silence(0)] * 500
    async with fetching(world) as fetcher:
        began = trio.current_time()
        assert await read_in_dozens(fetcher, sources) == [None] * 200
        # The first and their second try, and one that tried when they were refused already.
        assert trio.current_time() - began <= 4 * READ_S
        world.remote.faults = []


async def test_the_first_answer_lets_everybody_in(world: World, fetching: Fetching) -> None:
    sources = many(world, 40)
    world.remote.faults = [Fault.silence(0)] * 500
    async with fetching(world) as fetcher:
        await read_in_dozens(fetcher, sources[:DOZEN])
        assert fetcher._silence.presumed
        world.remote.faults = []
        await trio.sleep(6)  # what was asked in vain has ended
        contents = [world.remote.files[world.paths[it.ino]][1] for it in sources[DOZEN:]]
        assert await read_in_dozens(fetcher, sources[DOZEN:]) == contents
        assert not fetcher._silence.presumed


async def test_a_slow_server_is_no_silent_one(world: World, fetching: Fetching) -> None:
    """It needs longer for each file than a read may wait; whoever asks again gets it."""
    world.remote.latency_s = READ_S + 1
    sources = many(world, 3)
    async with fetching(world) as fetcher:
        for source in sources:
            data = await read_as_the_kernel(fetcher, source)
            while data is None:
                await trio.sleep(1)
                data = await read_as_the_kernel(fetcher, source)
            assert data == world.remote.files[world.paths[source.ino]][1]


async def test_what_comes_to_others_is_no_silence(world: World, fetching: Fetching) -> None:
    slow, quick = many(world, 2)
    world.remote.faults = [Fault.silence(0)]
    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        nursery.start_soon(read_as_the_kernel, fetcher, slow)
        await wait_all_tasks_blocked()
        await trio.sleep(READ_S / 2)
        assert await fetcher.read(quick, 0, 10)
        await trio.sleep(READ_S)
        assert not fetcher._silence.presumed


async def test_another_network_begins_anew(world: World, fetching: Fetching) -> None:
    (source, other) = many(world, 2)
    world.remote.faults = [Fault.silence(0)] * 20
    async with fetching(world) as fetcher:
        assert await read_as_the_kernel(fetcher, source) is None
        with pytest.raises(Unreachable):
            await fetcher.read(other, 0, 10)
        world.remote.faults = []
        fetcher._silence.forget()
        assert await fetcher.read(other, 0, 10)

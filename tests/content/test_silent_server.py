"""A server that takes requests and answers none, met by many programs that the kernel lets ask a few at a time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cloudfs.content.fetch import Fetcher, Source
from cloudfs.errors import RemoteError
from cloudfs.remote.silence import Silence
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
            except RemoteError:
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
    world.remote.faults = [Fault.silence(0)] * 900
    async with fetching(world) as fetcher:
        began = trio.current_time()
        assert await read_in_dozens(fetcher, sources) == [None] * 200
        # The first and their second try, and twice a moment for each further dozen.
        assert trio.current_time() - began <= 2 * READ_S + 2 * 10
        world.remote.faults = []


async def test_the_first_answer_lets_everybody_in(world: World, fetching: Fetching) -> None:
    silence = Silence()
    sources = many(world, 40)
    world.remote.faults = [Fault.silence(0)] * 500
    async with fetching(world, silence=silence) as fetcher:
        await read_in_dozens(fetcher, sources[:DOZEN])
        assert silence.presumed
        world.remote.faults = []
        await trio.sleep(1.1)  # what was asked for in vain has been given up
        contents = [world.remote.files[world.paths[it.ino]][1] for it in sources[DOZEN:]]
        assert await read_in_dozens(fetcher, sources[DOZEN:]) == contents
        assert not silence.presumed


async def test_a_slow_server_is_no_silent_one(world: World, fetching: Fetching) -> None:
    """It needs longer for each file than one request of the kernel may wait."""
    world.remote.latency_s = READ_S + 1
    sources = many(world, 4)
    got: dict[Source, bytes | None] = {}

    async def program(source: Source, after_s: float) -> None:
        await trio.sleep(after_s)
        got[source] = await read_as_the_kernel(fetcher, source)

    async with fetching(world) as fetcher, trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(program, source, 0 if source is sources[0] else READ_S + 0.1)
    assert all(got[source] == world.remote.files[world.paths[source.ino]][1] for source in sources)


async def test_one_file_of_which_nothing_comes_takes_nothing_from_the_others(
    world: World, fetching: Fetching
) -> None:
    """One storage below a Nextcloud may be dead, or one file be locked for minutes."""
    dead, *others = many(world, 20)
    async with fetching(world) as fetcher:
        for other in others:
            world.remote.faults = [Fault.silence(0)] * 2
            assert await read_as_the_kernel(fetcher, dead) is None
            world.remote.faults = []
            assert await read_as_the_kernel(fetcher, other) is not None


async def test_our_own_upload_of_a_file_is_no_silence_of_the_server(world: World, fetching: Fetching) -> None:
    changed, other = many(world, 2)
    async with fetching(world) as fetcher, fetcher.paused(changed.ino), trio.open_nursery() as nursery:
        for _ in range(DOZEN):
            nursery.start_soon(read_as_the_kernel, fetcher, changed)
        await trio.sleep(2 * READ_S)
        assert await read_as_the_kernel(fetcher, other) is not None


async def test_what_comes_to_others_is_no_silence(world: World, fetching: Fetching) -> None:
    silence = Silence()
    *slow, quick = many(world, DOZEN + 1)
    world.remote.faults = [Fault.silence(0)] * 4
    async with fetching(world, silence=silence) as fetcher, trio.open_nursery() as nursery:
        for source in slow:
            nursery.start_soon(read_as_the_kernel, fetcher, source)
        await wait_all_tasks_blocked()
        await trio.sleep(READ_S - 1)
        silence.heard()
        await trio.sleep(1.5)
        assert not silence.presumed
        assert await read_as_the_kernel(fetcher, quick) is not None


def is_silent(silence: Silence) -> bool:
    return silence.presumed


@pytest.mark.parametrize("first_byte_s", [1.5, 4.0, 7.0])
async def test_a_server_that_is_slow_after_a_silence_is_heard_again(
    world: World, fetching: Fetching, first_byte_s: float
) -> None:
    silence = Silence()
    sources = many(world, 120)
    world.remote.faults = [Fault.silence(0)] * 24
    async with fetching(world, silence=silence) as fetcher:
        await read_in_dozens(fetcher, sources[:24])
        assert is_silent(silence)
        world.remote.faults = []
        world.remote.latency_s = first_byte_s
        for _ in range(20):  # as a program that copies one file after the other, and tries anew
            if await read_as_the_kernel(fetcher, sources[24]) is not None:
                break
            await trio.sleep(0.5)
        assert not is_silent(silence)
        assert None not in await read_in_dozens(fetcher, sources[25:29])

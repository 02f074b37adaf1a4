"""Any readers, any faults, any timing: the right bytes or an error, and nothing left behind."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from cloudfs.content.fetch import FetchConfig, Fetcher, Source
from cloudfs.errors import ChecksumMismatch, PosixError, RemoteError
from tests.content.conftest import open_fetcher
from tests.content.fakes import KIB, MIB, Fault, World, some_bytes

SIZE = 9 * MIB + 12345
MOST_S = 300.0
"""No reader may take longer, whatever goes wrong: there are at most some tens of faults of 10 s."""

offsets = st.one_of(st.integers(0, SIZE - 1), st.integers(0, 9).map(lambda index: index * MIB))
lengths = st.sampled_from([1, 4096, 128 * KIB, 300 * KIB, 3 * MIB])
pauses = st.sampled_from([0.0, 0.0, 0.01, 0.3, 2.0])

faults = st.one_of(
    st.none(),
    st.integers(0, 3 * MIB).map(Fault.cut),
    st.integers(0, 3 * MIB).map(Fault.reset),
    st.sampled_from([0, 100 * KIB, MIB]).map(Fault.silence),
)

jump = st.tuples(st.just("jump"), offsets, lengths, pauses)
run = st.tuples(st.just("run"), offsets, st.sampled_from([MIB, 5 * MIB]), pauses)
hasty = st.tuples(st.just("hasty"), offsets, lengths, st.sampled_from([0.0, 0.001, 0.03, 0.5]))
copy = st.tuples(st.just("copy"), offsets, lengths, pauses)
hydrate = st.tuples(st.just("hydrate"), st.just(0), st.just(1), pauses)
pause = st.tuples(st.just("pause"), st.just(0), st.just(1), st.sampled_from([0.0, 0.1, 3.0, 12.0]))
Step = tuple[str, int, int, float]
readers = st.lists(
    st.lists(st.one_of(jump, run, run, hasty, copy, hydrate, pause), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


class Reader:
    """One program: does its steps and compares all it gets with the bytes of its version."""

    def __init__(self, world: World, fetcher: Fetcher, source: Source, data: bytes) -> None:
        self.world = world
        self.fetcher = fetcher
        self.source = source
        self.data = data
        self.pattern = fetcher.pattern()

    async def live(self, steps: list[Step]) -> None:
        doings = {name: getattr(self, name) for name in ("jump", "run", "hasty", "copy", "hydrate", "pause")}
        for name, offset, length, wait_s in steps:
            start = offset % self.source.size
            await self._do(doings[name], start, min(start + length, self.source.size), wait_s)
        self.pattern.release()

    async def _do(self, do: Callable[..., object], start: int, stop: int, wait_s: float) -> None:
        try:
            with trio.fail_after(MOST_S):
                await do(start, stop, wait_s)  # type: ignore[misc]  # one of ours
        except (RemoteError, ChecksumMismatch):
            pass
        except PosixError as error:
            if error.errno != errno.EAGAIN and self.world.blocks.limit > 9:
                raise

    async def jump(self, start: int, stop: int, wait_s: float) -> None:
        assert await self.fetcher.read(self.source, start, stop, self.pattern) == self.data[start:stop]
        await trio.sleep(wait_s)

    async def run(self, start: int, stop: int, wait_s: float) -> None:
        for at in range(start, stop, 128 * KIB):
            await self.jump(at, min(at + 128 * KIB, stop), wait_s / 8)

    async def hasty(self, start: int, stop: int, wait_s: float) -> None:
        with trio.move_on_after(wait_s):
            await self.jump(start, stop, 0)

    async def copy(self, start: int, stop: int, wait_s: float) -> None:
        at = start
        async for part in self.fetcher.chunks(self.source, start, stop):
            assert part == self.data[at : at + len(part)]
            at += len(part)
            await trio.sleep(wait_s / 20)
        assert at == stop

    async def hydrate(self, _start: int, _stop: int, _wait_s: float) -> None:
        await self.fetcher.prefetch_whole(self.source)

    async def pause(self, _start: int, _stop: int, wait_s: float) -> None:
        async with self.fetcher.paused(self.source.ino):
            mine = RemotePaths(self.world, self.source)
            assert mine.open == 0
            await trio.sleep(wait_s)
            assert mine.open == 0


class RemotePaths:
    """Counts the open requests for one file."""

    def __init__(self, world: World, source: Source) -> None:
        self._world = world
        self._path = world.locate(source).path

    @property
    def open(self) -> int:
        return sum(request.path == self._path for request in self._world.remote.open_requests)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    readers=readers,
    faults=st.lists(faults, max_size=12),
    changes=st.booleans(),
    bytes_per_s=st.sampled_from([MIB // 2, 5 * MIB, 200 * MIB]),
    put_s=st.sampled_from([0.0, 0.004, 0.2]),
    cache_blocks=st.sampled_from([3, 10**6]),
    ceiling_mib=st.sampled_from([2, 8, 64]),
    transfers=st.sampled_from([1, 2, 4]),
    files=st.sampled_from([1, 3]),
    chunk_bytes=st.sampled_from([64 * KIB, 1000 * KIB, MIB]),
)
def test_readers_get_right_bytes_or_an_error(
    readers: list[list[Step]],
    faults: list[Fault | None],
    changes: bool,
    bytes_per_s: int,
    put_s: float,
    cache_blocks: int,
    ceiling_mib: int,
    transfers: int,
    files: int,
    chunk_bytes: int,
) -> None:
    world = World()
    world.remote.bytes_per_s, world.remote.chunk_bytes = bytes_per_s, chunk_bytes
    world.remote.faults = list(faults)
    world.blocks.put_s, world.blocks.limit = put_s, cache_blocks
    config = FetchConfig(transfers=transfers, background_transfers=max(1, transfers // 2))

    async def main() -> None:
        data = some_bytes(SIZE)
        sources = [world.file(data, ino) for ino in range(7, 7 + files)]
        async with open_fetcher(world, ceiling_bytes=ceiling_mib * MIB, config=config) as fetcher:
            async with trio.open_nursery() as nursery:
                for number, steps in enumerate(readers):
                    reader = Reader(world, fetcher, sources[number % files], data)
                    nursery.start_soon(reader.live, steps)
                if changes:
                    await trio.sleep(1)
                    world.file(some_bytes(SIZE, 2), 7)
            assert fetcher.statistics().memory_peak_bytes <= (ceiling_mib + transfers) * MIB

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.expect_log("/[78]: ", optional=True)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    readers=readers,
    faults=st.lists(faults, max_size=8),
    flips=st.lists(st.sampled_from([0, 0, 1, 2]), max_size=6),
    bytes_per_s=st.sampled_from([50 * KIB, MIB, 200 * MIB]),
    cache_blocks=st.sampled_from([1, 10**6]),
    ceiling_mib=st.sampled_from([2, 64]),
    size=st.sampled_from([1, 5000, 700 * KIB, MIB]),
    chunk_bytes=st.sampled_from([1000, 64 * KIB, MIB]),
)
def test_no_wrong_byte_of_a_small_file_is_ever_served(
    readers: list[list[Step]],
    faults: list[Fault | None],
    flips: list[int],
    bytes_per_s: int,
    cache_blocks: int,
    ceiling_mib: int,
    size: int,
    chunk_bytes: int,
) -> None:
    """But one that comes twice the same: so no two bytes are changed alike here in a row."""
    world = World()
    world.remote.bytes_per_s, world.remote.chunk_bytes = bytes_per_s, max(chunk_bytes, size // 50)
    world.remote.faults = list(faults)
    world.remote.flips = [flip and flip + 2 * number for number, flip in enumerate(flips)]
    world.blocks.limit = cache_blocks

    async def main() -> None:
        data = some_bytes(size)
        digest = "SHA1:" + hashlib.sha1(data).hexdigest()  # noqa: S324  # what Nextcloud's clients use
        sources = [world.file(data, ino, digest) for ino in (7, 8)]
        async with open_fetcher(world, ceiling_bytes=ceiling_mib * MIB) as fetcher:
            async with trio.open_nursery() as nursery:
                for number, steps in enumerate(readers):
                    reader = Reader(world, fetcher, sources[number % 2], data)
                    nursery.start_soon(reader.live, steps)
            assert fetcher.statistics().memory_peak_bytes <= (ceiling_mib + 4) * MIB

    trio.run(main, clock=MockClock(autojump_threshold=0))

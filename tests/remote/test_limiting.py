"""Token buckets, in virtual time: the rate over time, who goes first, and what changes at once."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio

from cloudfs.remote.limiting import Bucket, Meter, Rank, Traffic, asking, asking_as, patience
from tests.content.conftest import run_in_virtual_time

MIB = 1024 * 1024
KB = 1000


virtual = pytest.mark.trio(run=run_in_virtual_time)


def always(rank: Rank) -> Callable[[], Rank]:
    return lambda: rank


READER, BACKGROUND = always(Rank.READER), always(Rank.BACKGROUND)


async def move(bucket: Bucket, size: int, rank: Callable[[], Rank] = READER, at_once: int = MIB) -> float:
    """Move so many bytes; return when the last of them went."""
    while size:
        grant = await bucket.take(min(size, at_once), rank)
        assert 1 <= grant.most <= min(size, at_once)
        size -= grant.most
        bucket.settle(grant, grant.most)
    return trio.current_time()


def limited(rate: float) -> Bucket:
    bucket = Bucket()
    bucket.limit(rate)
    return bucket


@virtual
@pytest.mark.parametrize("rate", [8 * KB, 100 * KB, 2000 * KB, 50 * MIB])
@pytest.mark.parametrize("tasks", [1, 7])
async def test_the_rate_is_kept_over_time(rate: float, tasks: int) -> None:
    bucket, began = limited(rate), trio.current_time()
    size = int(rate * 60 / tasks)
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(move, bucket, size)
    assert trio.current_time() - began == pytest.approx(60, rel=0.03)


@virtual
async def test_timers_that_are_late_cost_nothing() -> None:
    bucket, began = limited(100 * KB), trio.current_time()
    left, chance = 3000 * KB, random.Random(1)
    while left:
        grant = await bucket.take(left, READER)
        left -= grant.most
        bucket.settle(grant, grant.most)
        await trio.sleep(chance.uniform(0, 0.06))  # whatever the line and the loop take
    assert trio.current_time() - began == pytest.approx(30, rel=0.03)


@virtual
async def test_what_rested_gets_no_more_than_half_a_second_at_once() -> None:
    bucket = limited(100 * KB)
    await trio.sleep(3600)
    began = trio.current_time()
    await move(bucket, 150 * KB)
    assert trio.current_time() - began == pytest.approx(1, rel=0.05)


@virtual
async def test_without_a_limit_nobody_waits() -> None:
    bucket = Bucket()
    grant = await bucket.take(10**12, READER)
    assert (grant.most, grant.taken) == (10**12, 0)
    # Limited meanwhile, it gives back nothing that was never taken.
    bucket.limit(1 * KB)
    bucket.settle(grant, 0)
    began = trio.current_time()
    await move(bucket, 10 * KB)
    assert trio.current_time() - began == pytest.approx(10, rel=0.05)


@virtual
async def test_readers_go_first() -> None:
    bucket, began = limited(100 * KB), trio.current_time()
    moved: list[float] = []

    async def read() -> None:
        await trio.sleep(5)
        moved.append(await move(bucket, 500 * KB) - began)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(move, bucket, 1000 * KB, BACKGROUND)
        nursery.start_soon(read)
    # Of the reader's 5 s, four that waited for two seconds each get a grant of 50 ms: a tenth at most.
    assert moved[0] == pytest.approx(10, abs=0.8)
    assert trio.current_time() - began == pytest.approx(45, rel=0.03)


@virtual
async def test_nobody_is_starved() -> None:
    """What is not urgent goes on, slowly, however much is urgent: a server gives up a connection that rests."""
    bucket = limited(100 * KB)
    gaps: list[float] = []

    async def background() -> None:
        while True:
            since = trio.current_time()
            grant = await bucket.take(MIB, BACKGROUND)
            bucket.settle(grant, grant.most)
            gaps.append(trio.current_time() - since)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(background)
        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(move, bucket, 2000 * KB)
        nursery.cancel_scope.cancel()
    assert len(gaps) >= 20
    assert max(gaps) < 3


@virtual
async def test_what_becomes_urgent_while_it_waits_goes_first() -> None:
    bucket, began = limited(100 * KB), trio.current_time()
    rank = Rank.BACKGROUND
    ended: list[float] = []

    async def later() -> None:
        ended.append(await move(bucket, 50 * KB, lambda: rank) - began)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(move, bucket, 2000 * KB, always(Rank.AHEAD))
        nursery.start_soon(later)
        await trio.sleep(1)
        rank = Rank.READER
    assert ended[0] < 2


@virtual
async def test_a_new_limit_holds_at_once_for_what_waits() -> None:
    bucket, began = limited(1 * KB), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move, bucket, 1000 * KB)
        await trio.sleep(10)
        bucket.limit(99 * KB)
    assert trio.current_time() - began == pytest.approx(20, abs=0.3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(move, bucket, 10**9)
        await trio.sleep(10)
        bucket.limit(None)
    assert trio.current_time() - began == pytest.approx(30, abs=0.3)


@virtual
async def test_a_new_limit_holds_at_once_for_what_runs() -> None:
    bucket, began = Bucket(), trio.current_time()

    async def run() -> None:
        for _ in range(100):
            await trio.sleep(0.1)
            await move(bucket, 100 * KB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.sleep(5.05)
        bucket.limit(10 * KB)
    # Fifty at the line's speed, and 5 MB at the new one.
    assert trio.current_time() - began == pytest.approx(505, rel=0.03)


@virtual
async def test_what_is_owed_is_little_at_a_higher_limit() -> None:
    bucket = limited(10 * KB)
    bucket.charge(10**9)
    bucket.limit(1000 * KB)
    began = trio.current_time()
    await move(bucket, 50 * KB)
    assert trio.current_time() - began < 2.2


@virtual
async def test_what_goes_without_asking_counts_but_holds_up_nobody_for_long() -> None:
    bucket, began = limited(100 * KB), trio.current_time()
    bucket.charge(100 * KB)
    await move(bucket, 100 * KB)
    assert trio.current_time() - began == pytest.approx(2, rel=0.05)
    bucket.charge(10**9)
    began = trio.current_time()
    await move(bucket, 5 * KB)
    assert trio.current_time() - began < 2.2


@virtual
async def test_cancelled_it_takes_nothing_and_gives_back_nothing_twice() -> None:
    """Many that give up at any moment, before, within and after their grants, change nothing of the rate."""
    bucket, chance, began = limited(100 * KB), random.Random(7), trio.current_time()
    moved = 0

    async def impatient() -> None:
        nonlocal moved
        for _ in range(300):
            with trio.move_on_after(chance.uniform(0, 0.4)):
                grant = await bucket.take(MIB, chance.choice([READER, BACKGROUND]))
                part = 0
                try:
                    await trio.sleep(chance.uniform(0, 0.2))
                    part = chance.randint(0, grant.most)
                finally:
                    bucket.settle(grant, part)
                    moved += part

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(impatient)
    assert bucket.waiting == 0
    # Never quicker than the limit; and what is left over is still there for who wants it.
    took_s = trio.current_time() - began
    assert moved <= 100 * KB * (took_s + 0.6)
    began = trio.current_time()
    await move(bucket, 1000 * KB)
    assert 9.4 <= trio.current_time() - began <= 10.6


@virtual
async def test_a_limit_below_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="no rate"):
        Bucket().limit(0)


@virtual
async def test_patience_does_not_count_what_limits_cost() -> None:
    bucket = limited(10 * KB)
    with patience(1.0) as scope:
        await move(bucket, 200 * KB)
        await trio.sleep(0.5)
    assert not scope.cancelled_caught
    with patience(1.0) as scope:
        await move(bucket, 200 * KB)
        await trio.sleep(1.1)
    assert scope.cancelled_caught
    bucket, began = limited(10 * KB), trio.current_time()
    with patience(10.0) as outer, patience(1.0) as inner:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(move, bucket, 100 * KB)
            nursery.start_soon(move, bucket, 100 * KB)
        await trio.sleep(5)
    assert inner.cancelled_caught
    assert not outer.cancelled_caught
    assert trio.current_time() - began == pytest.approx(21, abs=0.6)


@virtual
async def test_who_asks_goes_by_the_context() -> None:
    seen: list[Rank] = []

    async def ask() -> None:
        seen.append(asking()())

    with asking_as(BACKGROUND):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
    await ask()
    assert seen == [Rank.BACKGROUND, Rank.READER]


class Line:
    """A connection in memory, of a given speed."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self.longest_s = 0.0

    async def read(self, most: int) -> bytes:
        await trio.sleep(most / self._bytes_per_s)
        self.longest_s = max(self.longest_s, most / self._bytes_per_s)
        return bytes(most)

    async def write(self, part: memoryview) -> None:
        await self.read(len(part))


async def receive(meter: Meter, line: Line, size: int) -> float:
    while size:
        size -= len(await meter.receive(min(size, MIB), line.read))
    return trio.current_time()


@virtual
async def test_both_directions_of_an_account() -> None:
    traffic, line, began = Traffic(), Line(100 * MIB), trio.current_time()
    down, up = (Meter(traffic, receives=it, sends=not it) for it in (True, False))
    traffic.up.limit(100 * KB)
    traffic.down.limit(1000 * KB)
    ended: dict[str, float] = {}

    async def fetch() -> None:
        ended["down"] = await receive(down, line, 10_000 * KB) - began

    async def send() -> None:
        await up.send(memoryview(bytes(2000 * KB)), line.write)
        ended["up"] = trio.current_time() - began

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch)
        nursery.start_soon(send)
    assert ended == {"down": pytest.approx(10, rel=0.03), "up": pytest.approx(20, rel=0.03)}
    assert (traffic.received_bytes, traffic.sent_bytes) == (10_000 * KB, 2000 * KB)


@virtual
async def test_a_slow_line_is_not_slowed_further() -> None:
    traffic, line, began = Traffic(), Line(50 * KB), trio.current_time()
    traffic.down.limit(51 * KB)
    await receive(Meter(traffic, receives=True, sends=False), line, 1000 * KB)
    assert trio.current_time() - began == pytest.approx(20, rel=0.1)


@virtual
async def test_a_limit_of_the_background_leaves_readers_alone() -> None:
    traffic, line, began = Traffic(), Line(100 * MIB), trio.current_time()
    meter = Meter(traffic, receives=True, sends=False)
    traffic.down.limit(1000 * KB)
    traffic.background.limit(50 * KB)
    ended: dict[Rank, float] = {}

    async def fetch(rank: Rank, size: int) -> None:
        with asking_as(always(rank)):
            ended[rank] = await receive(meter, line, size) - began

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, Rank.BACKGROUND, 1000 * KB)
        nursery.start_soon(fetch, Rank.READER, 9500 * KB)
    assert ended[Rank.READER] == pytest.approx(10, rel=0.06)
    # Next to nothing while the reader takes all there is, and its own limit then.
    assert ended[Rank.BACKGROUND] == pytest.approx(29, rel=0.06)


@virtual
async def test_small_requests_do_not_wait() -> None:
    traffic, line, began = Traffic(), Line(100 * MIB), trio.current_time()
    small, large = (Meter(traffic, receives=it, sends=it) for it in (False, True))
    traffic.down.limit(10 * KB)
    traffic.up.limit(10 * KB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, large, line, 100 * KB)
        await trio.sleep(1)
        for _ in range(10):
            await small.send(memoryview(bytes(400)), line.write)
            await receive(small, line, 2 * KB)
        assert trio.current_time() - began < 1.1
    # They are made up for by the others.
    assert trio.current_time() - began == pytest.approx(12, rel=0.06)
    assert traffic.sent_bytes == 4000


@virtual
async def test_a_read_that_fails_gives_back_all_of_its_grant() -> None:
    traffic = Traffic()
    meter = Meter(traffic, receives=True, sends=False)
    traffic.down.limit(100 * KB)

    async def fail(most: int) -> bytes:
        raise OSError(most)

    began = trio.current_time()
    for _ in range(1000):
        with pytest.raises(OSError, match=r"\d"):
            await meter.receive(MIB, fail)
    assert trio.current_time() - began < 0.2
    await receive(meter, Line(100 * MIB), 1000 * KB)
    assert trio.current_time() - began == pytest.approx(10, rel=0.06)


@virtual
async def test_equals_share_it_evenly() -> None:
    bucket, ends = limited(100 * KB), list[float]()

    async def run() -> None:
        ends.append(await move(bucket, 100 * KB))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(run)
    assert min(ends) > 0.9 * max(ends)

"""Notes of when something happened last: the newest holds, and the oldest go."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock

from cloudfs.concurrency.times import Times


async def test_the_newest_note_holds(autojump_clock: MockClock) -> None:
    del autojump_clock
    times = Times[str](10)
    assert times.of("a") == -math.inf
    assert times.age_s("a") == math.inf
    times.note("a")
    noted_at = trio.current_time()
    await trio.sleep(5)
    assert times.of("a") == noted_at
    assert times.age_s("a") == 5
    times.note("a")
    assert times.age_s("a") == 0
    times.note("a", trio.current_time() + 60)
    assert times.age_s("a") == -60


async def test_of_too_many_those_noted_the_longest_ago_go(autojump_clock: MockClock) -> None:
    del autojump_clock
    times = Times[int](3)
    for key in (1, 2, 3, 1, 4):
        times.note(key)
    assert {key for key in range(5) if times.age_s(key) == 0} == {1, 3, 4}

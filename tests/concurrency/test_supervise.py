"""A worker is started again for ever, and only cancellation or its own end stops it."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from cloudfs.concurrency.backoff import Backoff
from cloudfs.concurrency.supervise import HEALTHY_S, attempt, supervise
from cloudfs.errors import PosixError, Unavailable

ExpectLog = Callable[..., None]


@pytest.fixture(name="_autojump")
def autojump(autojump_clock: MockClock) -> MockClock:
    """Let time jump; under this name a test may want it for its effect alone."""
    return autojump_clock


class Ceiling(random.Random):
    """Chance that always says the longest delay."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class Crashing:
    """A worker that lives `lives[n]` seconds the n-th time, then fails; after the last life it returns."""

    def __init__(self, lives: list[float], error: Exception | None = None) -> None:
        self.lives = lives
        self.error = error or ValueError("boom")
        self.starts_s: list[float] = []

    async def __call__(self) -> None:
        self.starts_s.append(trio.current_time())
        if len(self.starts_s) > len(self.lives):
            return
        await trio.sleep(self.lives[len(self.starts_s) - 1])
        raise self.error

    def pauses_s(self) -> list[float]:
        ends = [start + life for start, life in zip(self.starts_s, self.lives, strict=False)]
        return [round(start - end, 3) for start, end in zip(self.starts_s[1:], ends, strict=True)]


async def test_pauses_grow_to_the_cap_and_never_end(_autojump: MockClock, expect_log: ExpectLog) -> None:
    expect_log("worker upload crashed; it starts again")
    worker = Crashing([0.0] * 12)
    await supervise("upload", worker, chance=Ceiling(), backoff=Backoff(first_s=1, cap_s=60))
    assert worker.pauses_s() == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]


async def test_a_long_life_starts_the_count_again(_autojump: MockClock, expect_log: ExpectLog) -> None:
    expect_log("crashed")
    worker = Crashing([0, 0, 0, HEALTHY_S, 0])
    await supervise("w", worker, chance=Ceiling())
    assert worker.pauses_s() == [1, 2, 4, 1, 2]


async def test_the_server_may_ask_for_a_later_start(_autojump: MockClock, expect_log: ExpectLog) -> None:
    expect_log("crashed")
    worker = Crashing([0], Unavailable("maintenance", retry_after_s=120))
    await supervise("w", worker, chance=Ceiling())
    assert worker.pauses_s() == [121]


async def test_crashes_are_logged_with_their_traceback(
    _autojump: MockClock, expect_log: ExpectLog, caplog: pytest.LogCaptureFixture
) -> None:
    expect_log("crashed")
    await supervise("w", Crashing([0]), chance=Ceiling())
    record = caplog.records[0]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "boom"
    assert record.exc_info[2] is not None


async def test_a_crash_in_a_nursery_of_the_worker_is_a_crash(
    _autojump: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("crashed")
    inner = Crashing([0])

    async def worker() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner)

    await supervise("w", worker, chance=Ceiling())
    assert len(inner.starts_s) == 2


async def test_cancellation_passes_while_working_and_while_pausing(
    _autojump: MockClock, expect_log: ExpectLog
) -> None:
    expect_log("crashed")
    for lives in ([1000.0], [0.0]):
        worker = Crashing(lives)
        with trio.move_on_after(0.5) as scope:
            await supervise("w", worker, chance=Ceiling())
        assert scope.cancelled_caught
        assert len(worker.starts_s) == 1


async def test_a_crash_while_being_cancelled_is_logged_and_the_cancellation_wins(
    _autojump: MockClock,
    expect_log: ExpectLog,
) -> None:
    expect_log("crashed while it was stopped")

    async def sleeper() -> None:
        await trio.sleep_forever()

    async def fails_in_cleanup() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    async def worker() -> None:
        # A nursery inside shows both at once: the error of one task, the cancellation of the other.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper)
            nursery.start_soon(fails_in_cleanup)

    with trio.move_on_after(1) as scope:
        await supervise("w", worker, chance=Ceiling())
    assert scope.cancelled_caught


async def test_what_is_done_once_ends_nobody_else(_autojump: MockClock, expect_log: ExpectLog) -> None:
    expect_log("a look failed in an unexpected way")
    broken = Crashing([1.0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, "a look", broken)
        await trio.sleep(1000)
    assert len(broken.starts_s) == 1


async def test_what_is_done_once_can_be_cancelled(_autojump: MockClock) -> None:
    with trio.move_on_after(5) as scope:
        await attempt("a look", trio.sleep_forever)
    assert scope.cancelled_caught


async def test_a_full_disk_is_told_of_in_a_sentence(_autojump: MockClock, expect_log: ExpectLog) -> None:
    expect_log(
        "worker hydration stopped .No space left on device: the state database.; it starts again in 1.0 s$"
    )
    worker = Crashing([0.0], PosixError(errno.ENOSPC, "the state database"))
    await supervise("hydration", worker, chance=Ceiling(), backoff=Backoff(first_s=1, cap_s=60))
    assert worker.pauses_s() == [1]

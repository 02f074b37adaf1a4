"""Lanes of threads: limits, apart from each other, and what cancelling does."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cloudfs.concurrency.threads import (
    in_disk_thread,
    in_notify_thread,
    in_read_thread,
    in_sync_thread,
    thread_statistics,
)

Lane = Callable[[Callable[[], object]], Awaitable[object]]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing goes that is part of a circle."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("lane", [in_disk_thread, in_notify_thread, in_read_thread, in_sync_thread])
async def test_calls_run_off_the_loop_and_errors_come_back(lane: Lane) -> None:
    assert await lane(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await lane(lambda: 1 // 0)


class _Block:
    """Something large that a call is given."""


@pytest.mark.parametrize("lane", [in_disk_thread, in_notify_thread, in_read_thread, in_sync_thread])
async def test_what_failed_keeps_nothing_of_what_it_was_given(lane: Lane, no_collector: None) -> None:
    given = []

    async def give() -> None:
        block = _Block()
        given.append(weakref.ref(block))
        with pytest.raises(ZeroDivisionError):
            await lane(lambda: divmod(id(block), 0))

    await give()
    await in_disk_thread(int)  # the loop itself keeps what woke a task until it wakes another
    assert given[0]() is None


async def test_a_full_lane_does_not_hold_up_another() -> None:
    gate = threading.Event()

    async def wait_in_lane() -> None:
        await in_notify_thread(gate.wait)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(wait_in_lane)
        await wait_all_tasks_blocked()
        assert thread_statistics()["notify"] == (4, 6)
        assert await in_read_thread(int) == 0
        gate.set()
    assert thread_statistics()["notify"] == (0, 0)


@pytest.mark.parametrize(("lane", "name"), [(in_read_thread, "read"), (in_notify_thread, "notify")])
async def test_abandoned_calls_answer_at_once_and_still_count(lane: Lane, name: str) -> None:
    gate = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lane, gate.wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert thread_statistics()[name] == (1, 0)
    gate.set()
    with trio.fail_after(5):
        while thread_statistics()[name] != (0, 0):
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("lane", [in_disk_thread, in_sync_thread])
async def test_calls_with_an_effect_are_waited_for(lane: Lane) -> None:
    gate, done = threading.Event(), []

    def write() -> None:
        gate.wait()
        done.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lane, write)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        gate.set()
    assert done == [True]


async def test_a_cancelled_task_starts_no_thread() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await in_disk_thread(pytest.fail, "it ran")
    assert scope.cancelled_caught


def test_runs_share_no_limits() -> None:
    async def main() -> tuple[int, int]:
        await in_disk_thread(int)
        return thread_statistics()["disk"]

    assert trio.run(main) == trio.run(main) == (0, 0)

"""One lock per key: order, independence, and no trace of idle keys."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import Sequencer, wait_all_tasks_blocked

from cloudfs.concurrency.keylock import KeyedLock, KeyLockStatistics


async def test_tasks_get_one_key_in_the_order_they_asked() -> None:
    locks: KeyedLock[str] = KeyedLock()
    order: list[int] = []

    async def worker(number: int) -> None:
        async with locks("a"):
            order.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, locks("a"):
        for number in range(5):
            nursery.start_soon(worker, number)
            await wait_all_tasks_blocked()
        assert locks.statistics() == KeyLockStatistics(held=1, waiting=5)
    assert order == [0, 1, 2, 3, 4]
    assert locks.statistics() == KeyLockStatistics(held=0, waiting=0)


async def test_other_keys_do_not_wait() -> None:
    locks: KeyedLock[int] = KeyedLock()
    seq = Sequencer()

    async def holder() -> None:
        async with locks(1), seq(0):
            pass

    async def other() -> None:
        async with seq(1), locks(2):
            assert locks.locked(2)

    async with trio.open_nursery() as nursery, locks(3):
        nursery.start_soon(holder)
        nursery.start_soon(other)
        await wait_all_tasks_blocked()
    assert not locks.locked(2)


async def test_a_cancelled_waiter_leaves_no_trace_and_blocks_nobody() -> None:
    locks: KeyedLock[str] = KeyedLock()
    scope = trio.CancelScope()

    async def impatient() -> None:
        with scope:
            async with locks("a"):
                pytest.fail("it was cancelled while it waited")

    async with trio.open_nursery() as nursery, locks("a"):
        nursery.start_soon(impatient)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert locks.statistics() == KeyLockStatistics(held=1, waiting=0)
    async with locks("a"):
        assert locks.locked("a")
    assert not locks.locked("a")


async def test_an_error_inside_releases_the_key() -> None:
    locks: KeyedLock[str] = KeyedLock()
    with pytest.raises(KeyError):
        async with locks("a"):
            raise KeyError
    assert not locks.locked("a")


async def test_asking_again_for_a_held_key_is_an_error_and_no_deadlock() -> None:
    locks: KeyedLock[str] = KeyedLock()
    async with locks("a"):
        with pytest.raises(RuntimeError):
            async with locks("a"):
                pass
        assert locks.statistics() == KeyLockStatistics(held=1, waiting=0)


async def test_entering_is_a_checkpoint() -> None:
    locks: KeyedLock[str] = KeyedLock()
    with trio.testing.assert_checkpoints():
        async with locks("a"):
            pass


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=12))
def test_never_two_holders_and_nothing_left(plan: list[tuple[int, int, bool]]) -> None:
    """Whatever tasks hold, wait or are cancelled: a key has one holder, and the table ends empty."""
    locks: KeyedLock[int] = KeyedLock()
    holders: dict[int, int] = {}

    async def worker(key: int, steps: int, scope: trio.CancelScope) -> None:
        with scope:
            async with locks(key):
                assert holders.setdefault(key, 0) == 0
                holders[key] += 1
                try:
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                finally:
                    holders[key] -= 1

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for key, steps, cancelled in plan:
                scope = trio.CancelScope()
                nursery.start_soon(worker, key, steps, scope)
                await trio.lowlevel.checkpoint()
                if cancelled:
                    scope.cancel()

    trio.run(main)
    assert locks.statistics() == KeyLockStatistics(held=0, waiting=0)

"""Several things at once, each to its end; the failure of the first of them is the failure of all."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from cloudfs.concurrency.together import together
from cloudfs.errors import CloudfsError, PosixError, Unreachable


async def test_all_is_seen_through_and_the_first_failure_in_order_is_told(
    autojump_clock: MockClock,
) -> None:
    done: list[str] = []

    async def work(name: str, after_s: float, error: CloudfsError | None) -> None:
        await trio.sleep(after_s)
        done.append(name)
        if error is not None:
            raise error

    late, early = Unreachable("late", subject="/"), PosixError(errno.ENOSPC, "early")
    with pytest.raises(Unreachable, match="late"):
        await together(
            (
                lambda: work("a", 3, late),
                lambda: work("b", 1, early),
                lambda: work("c", 5, None),
            )
        )
    assert done == ["b", "a", "c"]


async def test_nothing_to_do_is_done(autojump_clock: MockClock) -> None:
    await together(())


async def test_a_bug_is_no_answer(autojump_clock: MockClock) -> None:
    async def breaks() -> None:
        raise RuntimeError("broken")

    async def goes_on() -> None:
        await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await together((goes_on, breaks))
    assert caught.group_contains(RuntimeError)

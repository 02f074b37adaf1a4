"""One running call per key: who shares, who is woken, who is cancelled."""

from __future__ import annotations

import errno
import traceback

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cloudfs.concurrency.singleflight import FlightAborted, FlightStatistics, SingleFlight, fresh_copy
from cloudfs.errors import PosixError, Unavailable


class Call:
    """A call that waits to be told how to end, and counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.go = trio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> str:
        self.started += 1
        try:
            await self.go.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return f"answer {self.started}"


async def test_one_call_answers_all_who_ask_meanwhile() -> None:
    call, answers = Call(), []

    async def ask() -> None:
        answers.append(await flight.run("k", call))

    async with trio.open_nursery() as nursery:
        flight: SingleFlight[str, str] = SingleFlight(nursery)
        for _ in range(3):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert flight.statistics() == FlightStatistics(running=1, waiting=3)
        call.go.set()
    assert answers == ["answer 1"] * 3
    assert call.started == 1


async def test_results_are_not_kept_and_keys_are_apart() -> None:
    call = Call()
    call.go.set()
    async with trio.open_nursery() as nursery:
        flight: SingleFlight[str, str] = SingleFlight(nursery)
        assert await flight.run("k", call) == "answer 1"
        assert await flight.run("k", call) == "answer 2"
        assert await flight.run("other", call) == "answer 3"
        assert not flight.running("k")


async def test_the_first_caller_cancelled_takes_nothing_from_the_others() -> None:
    call, answers, first = Call(), [], trio.CancelScope()

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            answers.append(await flight.run("k", call))

    async with trio.open_nursery() as nursery:
        flight: SingleFlight[str, str] = SingleFlight(nursery)
        nursery.start_soon(ask, first)
        await wait_all_tasks_blocked()
        nursery.start_soon(ask, trio.CancelScope())
        await wait_all_tasks_blocked()
        first.cancel()
        await wait_all_tasks_blocked()
        assert flight.statistics() == FlightStatistics(running=1, waiting=1)
        call.go.set()
    assert answers == ["answer 1"]
    assert call.cancelled == 0


async def test_the_last_waiter_gone_cancels_the_call_and_the_next_one_starts_anew() -> None:
    call, second = Call(), Call()
    second.go.set()
    async with trio.open_nursery() as nursery:
        flight: SingleFlight[str, str] = SingleFlight(nursery)
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_blocked, scope)
            await flight.run("k", call)
        # Before the cancelled call had a chance to end:
        assert call.cancelled == 0
        assert await flight.run("k", second) == "answer 1"
    assert call.cancelled == 1


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_failure_wakes_everybody_with_a_copy_of_their_own() -> None:
    call, errors = Call(), []
    call.error = Unavailable("maintenance", subject="cloud", status=503, retry_after_s=7)

    async def ask() -> None:
        try:
            await flight.run("k", call)
        except Unavailable as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        flight: SingleFlight[str, str] = SingleFlight(nursery)
        for _ in range(20):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        call.go.set()
    assert len({id(error) for error in errors}) == 20
    for error in errors:
        assert (error.status, error.retry_after_s, str(error)) == (503, 7, "cloud: maintenance")
        assert error.__cause__ is call.error
        assert len(traceback.extract_tb(error.__traceback__)) <= 3
    assert len(traceback.extract_tb(call.error.__traceback__)) <= 3


async def test_a_cancelled_nursery_wakes_waiters_elsewhere() -> None:
    call = Call()
    async with trio.open_nursery() as outer, trio.open_nursery() as carrier:
        flight: SingleFlight[str, str] = SingleFlight(carrier)
        outcome: list[Exception] = []

        async def ask() -> None:
            try:
                await flight.run("k", call)
            except FlightAborted as error:
                outcome.append(error)

        outer.start_soon(ask)
        await wait_all_tasks_blocked()
        carrier.cancel_scope.cancel()
    assert [type(error) for error in outcome] == [FlightAborted]


async def test_a_closed_nursery_is_an_error_and_leaves_no_flight() -> None:
    async with trio.open_nursery() as nursery:
        flight: SingleFlight[str, str] = SingleFlight(nursery)
    with pytest.raises(RuntimeError):
        await flight.run("k", Call())
    assert not flight.running("k")


def test_fresh_copies_keep_what_init_cannot_be_called_with_again() -> None:
    error = PosixError(errno.ENOSPC, "file")
    twin = fresh_copy(error)
    assert isinstance(twin, PosixError)
    assert (twin.errno, str(twin)) == (errno.ENOSPC, str(error))
    os_twin = fresh_copy(OSError(errno.EIO, "gone", "name"))
    assert isinstance(os_twin, OSError)
    assert (os_twin.errno, os_twin.filename) == (errno.EIO, "name")
    group = fresh_copy(ExceptionGroup("two", [ValueError(1), KeyError(2)]))
    assert isinstance(group, ExceptionGroup)
    assert len(group.exceptions) == 2

"""Runs one history in virtual time, the same way every time.

- trio's clock jumps: nothing here takes real time.
- Calls in threads run inline, at one moment between two checkpoints. With real threads the clock would jump while they
  work (trio takes a task that waits for a thread for an idle one), and their speed would decide about the schedule.
  A `slow_disk` makes some of them take virtual time, before or after that moment.
- The order in which trio runs tasks that are ready is drawn from a seed. INVARIANT: what a history does depends on the
  history and the seed alone, so a failure replays. (Only names of cache folders and the store's id are random.)
- cloudfs sees the virtual time in `time` and `datetime` too, so seconds collide as they do on a busy machine.
- No room is put by for the database beforehand (`store/room`): nothing of a history depends on it, and clearing 32 MB
  of memory for each start was a quarter of what a history costs.
- The garbage collector rests meanwhile: what it finalises, and when, would depend on what was played before.
"""

from __future__ import annotations

import datetime as dt
import gc
import itertools
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

import pytest
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT
from trio.testing import MockClock

import cloudfs.engine  # noqa: F401  # so that all of its modules are there to be given another clock
from cloudfs.store import room

__all__ = ["run_virtually"]

T = TypeVar("T")

EPOCH_S = 1_700_000_000
_SLOW_DISK = 0.02
"""How often a call in a thread takes time, where the disk is slow."""


class _Time:
    """Stands in for the module `time`: the virtual clock, never the same nanosecond twice."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)

    def monotonic(self) -> float:
        return trio.current_time()

    perf_counter = monotonic

    def clock_gettime(self, clock: int) -> float:
        return self.time() if clock == time.CLOCK_REALTIME else self.monotonic()

    def time_ns(self) -> int:
        return (EPOCH_S * 10**9) + int(trio.current_time() * 10**9) + next(self._ticks)

    def time(self) -> float:
        return self.time_ns() / 10**9

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class _Datetime(dt.datetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> _Datetime:
        return cls.fromtimestamp(EPOCH_S + int(trio.current_time()), tz or dt.UTC)


class _DatetimeModule:
    datetime = _Datetime

    def __getattr__(self, name: str) -> Any:
        return getattr(dt, name)


class _Random:
    """Stands in for the module `random`, with every generator seeded."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def Random(self) -> random.Random:  # noqa: N802  # the module's name for it
        return random.Random(self._chance.random())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chance, name)


class _Threads:
    """Stands in for `trio.to_thread.run_sync`."""

    def __init__(self, chance: random.Random, *, slow_disk: bool) -> None:
        self._chance = chance
        self._slow_disk = slow_disk

    async def run_sync(
        self,
        call: Callable[..., T],
        *args: Any,
        abandon_on_cancel: bool = False,
        limiter: object = None,
        **_: object,
    ) -> T:
        del limiter
        await self._pass(cancellable=True)
        result = call(*args)
        await self._pass(cancellable=abandon_on_cancel)
        return result

    async def _pass(self, *, cancellable: bool) -> None:
        if self._slow_disk and self._chance.random() < _SLOW_DISK:
            with trio.CancelScope(shield=not cancellable):
                await trio.sleep(self._chance.choice((0.001, 0.05, 1.5)))
        if cancellable:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()


def _jumping_clock() -> MockClock:
    """Return a clock that jumps whenever nothing is left to do.

    As it is, it asks the real clock each time, to multiply that by nothing, and trio's whole statistics for a jump.
    """
    clock = MockClock(autojump_threshold=0)

    def jump() -> None:
        seconds = GLOBAL_RUN_CONTEXT.runner.deadlines.next_deadline() - clock._virtual_base
        if 0 < seconds < math.inf:
            clock.jump(seconds)

    clock.current_time = lambda: clock._virtual_base  # type: ignore[method-assign]
    clock._autojump = jump  # type: ignore[method-assign]
    return clock


@contextmanager
def _no_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def run_virtually(
    history: Callable[[], Awaitable[T]],
    seed: int,
    *,
    slow_disk: bool = False,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """Run an async function to its end; `seed` decides the schedule."""
    clock = _Time()
    threads = _Threads(random.Random(seed), slow_disk=slow_disk)
    with _no_collection(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", threads.run_sync)
        patch.setattr(room, "_allocated", lambda _descriptor, _size: True)
        stand_ins = {time: clock, dt: _DatetimeModule(), random: _Random(seed)}
        for module, attribute, original in _borrowed():
            patch.setattr(module, attribute, stand_ins[original])
        # SOURCE: trio/_core/_run.py, as pytest-trio does it for Hypothesis.
        patch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr("trio._core._run._r", random.Random(seed))
        return trio.run(history, clock=_jumping_clock(), instruments=instruments)


@cache
def _borrowed() -> tuple[tuple[ModuleType, str, ModuleType], ...]:
    """Find where cloudfs uses a module that has a stand-in."""
    return tuple(
        (module, attribute, value)
        for name, module in sorted(sys.modules.items())
        if name.startswith("cloudfs.")
        for attribute, value in list(vars(module).items())
        if isinstance(value, ModuleType) and value in {time, dt, random}
    )

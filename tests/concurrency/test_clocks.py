"""Suspend and set clocks are noticed, and nothing else is taken for them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from cloudfs.concurrency.clocks import Jump, Reading, SystemClocks, jump_between, watch_clocks


@pytest.mark.parametrize(
    ("awake", "passed", "wall", "jump"),
    [
        (5.0, 5.0, 5.0, None),
        (5.0, 5.0, 5.9, None),  # corrected a little
        (5.0, 5.4, 5.4, None),
        (900.0, 900.0, 900.0, None),  # the process was stopped: trio's clock went on
        (5.0, 3605.0, 3605.0, Jump(3600.0, 0.0)),
        (5.0, 5.0, 3605.0, Jump(0.0, 3600.0)),
        (5.0, 5.0, -3595.0, Jump(0.0, -3600.0)),
        (5.0, 3605.0, 7205.0, Jump(3600.0, 3600.0)),
        (5.0, 3605.0, 5.0, Jump(3600.0, -3600.0)),
    ],
)
def test_what_a_jump_is(awake: float, passed: float, wall: float, jump: Jump | None) -> None:
    assert (
        jump_between(Reading(100.0, 200.0, 1e9), Reading(100.0 + awake, 200.0 + passed, 1e9 + wall)) == jump
    )


@dataclass
class PretendedClocks:
    """trio's virtual clock as CLOCK_MONOTONIC, and what was added to the others."""

    slept_s: float = 0.0
    stepped_s: float = 0.0

    def read(self) -> Reading:
        awake_s = trio.current_time()
        passed_s = awake_s + self.slept_s
        return Reading(awake_s, passed_s, 1e9 + passed_s + self.stepped_s)


def test_each_jump_is_told_of_once_and_soon() -> None:
    clocks, told = PretendedClocks(), list[tuple[float, Jump]]()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_clocks, clocks, lambda jump: told.append((trio.current_time(), jump)))
            await trio.sleep(100.5)
            assert told == []
            clocks.slept_s += 7200
            await trio.sleep(100)
            clocks.stepped_s -= 30
            await trio.sleep(100)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [jump for _, jump in told] == [Jump(7200.0, 0.0), Jump(0.0, -30.0)]
    assert told[0][0] - 100.5 <= 5
    assert told[1][0] - 200.5 <= 5


def test_the_machines_own_clocks_agree_about_no_time() -> None:
    clocks = SystemClocks()
    assert jump_between(clocks.read(), clocks.read()) is None

"""Which limits hold when: by the table, on a metered line, and after other rules."""

from __future__ import annotations

import datetime as dt

import pytest
import trio
from trio.testing import MockClock

from cloudfs import bandwidth
from cloudfs.bandwidth import Metered, Rules, parse_timetable
from cloudfs.errors import Unreachable
from cloudfs.remote.limiting import Traffic
from cloudfs.store.store import Store
from cloudfs.sync.pausing import Pause
from cloudfs.sync.throttling import Throttle

MONDAY = dt.datetime(2026, 11, 30)  # noqa: DTZ001  # tables go by the local time
KB = 1000


def rates(traffic: Traffic) -> tuple[float | None, float | None, float | None]:
    return traffic.up.rate, traffic.down.rate, traffic.background.rate


class Wall:
    """A wall clock that goes with trio's."""

    def __init__(self, hour: int) -> None:
        self._start = MONDAY + dt.timedelta(hours=hour) - dt.timedelta(seconds=trio.current_time())
        self.set_by = dt.timedelta()

    def __call__(self) -> dt.datetime:
        return self._start + self.set_by + dt.timedelta(seconds=trio.current_time())


async def test_a_table_is_followed(store: Store, autojump_clock: MockClock) -> None:
    del autojump_clock
    traffic, wall = Traffic(), Wall(7)
    rules = Rules(up=parse_timetable("08:00 100 kB/s 19:00 off"), down=parse_timetable("1 MB/s"))
    throttle = Throttle(traffic, Pause(store), rules, local_time=wall)
    assert rates(traffic) == (None, 1000 * KB, None)
    assert throttle.now.up_until == (MONDAY + dt.timedelta(hours=8)).timestamp()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(throttle.run)
        await trio.sleep(3600 - 1)
        assert rates(traffic)[0] is None
        await trio.sleep(1.1)
        assert rates(traffic)[0] == 100 * KB
        assert throttle.now.up_until == (MONDAY + dt.timedelta(hours=19)).timestamp()
        # The clock is set, or the machine slept: noticed within half a minute.
        wall.set_by = dt.timedelta(hours=12)
        await trio.sleep(31)
        assert rates(traffic)[0] is None
        nursery.cancel_scope.cancel()


async def test_nothing_is_limited_unless_told(store: Store) -> None:
    traffic = Traffic()
    throttle = Throttle(traffic, Pause(store), Rules())
    assert rates(traffic) == (None, None, None)
    assert throttle.now.up_until is None


async def test_on_a_metered_line_what_no_program_reads_rests(store: Store) -> None:
    ended = 0

    def end() -> None:
        nonlocal ended
        ended += 1

    pause = Pause(store, end)
    throttle = Throttle(Traffic(), pause, Rules())
    with pytest.raises(Unreachable), pause.fetching.breakable("/file"):
        throttle.tell_metered(True)
        await trio.sleep_forever()
    assert (pause.fetching.is_metered, pause.sending.is_on, pause.is_on) == (True, False, False)
    assert (throttle.now.metered, throttle.now.fetching_rests) == (True, True)
    # A person's pause is another reason.
    pause.begin()
    throttle.tell_metered(False)
    assert (pause.fetching.is_on, pause.fetching.is_metered, ended) == (True, False, 0)
    pause.end()
    assert (pause.fetching.is_on, pause.sending.is_on) == (False, False)
    assert ended == 2  # one for each kind of work


async def test_what_is_said_of_metered_lines(store: Store) -> None:
    traffic, pause = Traffic(), Pause(store)
    rules = Rules(
        up=parse_timetable("200 kB/s"),
        metered=Metered("limit", 50 * KB),
        metered_up=Metered("limit", 20 * KB),
    )
    throttle = Throttle(traffic, pause, rules)
    assert rates(traffic) == (200 * KB, None, None)
    throttle.tell_metered(True)
    assert rates(traffic) == (20 * KB, None, 50 * KB)
    assert not pause.fetching.is_on
    # A stricter table holds on.
    throttle.use(Rules(up=bandwidth.parse_timetable("10 kB/s"), metered_up=Metered("limit", 20 * KB)))
    assert rates(traffic)[0] == 10 * KB
    throttle.use(Rules(metered=Metered("ignore"), metered_up=Metered("pause")))
    assert rates(traffic) == (None, None, None)
    assert (pause.fetching.is_on, pause.sending.is_on) == (False, True)
    with pytest.raises(Unreachable) as refused, pause.sending.breakable("/file"):
        pytest.fail("it was begun")
    assert refused.value.unsent
    throttle.tell_metered(False)
    assert not pause.sending.is_on

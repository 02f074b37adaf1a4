"""What limits hold at this moment: by the account's rules, the time of the week, and whether the line is metered."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

import trio

from cloudfs.bandwidth import Limits, Metered, Rules
from cloudfs.remote.limiting import Traffic
from cloudfs.sync.pausing import METERED, Pause, Rest

__all__ = ["Throttle"]

_log = logging.getLogger(__name__)

_LOOK_S = 30.0
"""The clock may be set, and the machine sleep: a table is looked at as often as this."""


class Throttle:
    """Sets the limits of one account. `run` belongs in the owner's nursery; NO CHECKPOINT in all else."""

    def __init__(
        self,
        traffic: Traffic,
        pause: Pause,
        rules: Rules,
        *,
        local_time: Callable[[], dt.datetime] = dt.datetime.now,
    ) -> None:
        self._traffic = traffic
        self._pause = pause
        self._rules = rules
        self._local_time = local_time
        self._metered = False
        self.now = Limits()
        self._apply()

    async def run(self) -> None:
        """Follow the table, for ever."""
        while True:
            until = [it for it in (self.now.up_until, self.now.down_until) if it is not None]
            left_s = min(until, default=float("inf")) - self._local_time().timestamp()
            await trio.sleep(min(left_s + 0.01, _LOOK_S) if left_s > 0 else _LOOK_S)
            self._apply()

    def use(self, rules: Rules) -> None:
        """Go by other rules from now on."""
        self._rules = rules
        self._apply()

    def tell_metered(self, metered: bool) -> None:  # noqa: FBT001  # a callback
        """The line is metered from now on, or no longer."""
        self._metered = metered
        self._apply()

    def _apply(self) -> None:
        before, self.now = self.now, self._in_force()
        traffic, now = self._traffic, self.now
        for bucket, rate in (
            (traffic.up, now.up),
            (traffic.down, now.down),
            (traffic.background, now.background),
        ):
            if bucket.rate != rate:
                bucket.limit(rate)
        _rest(self._pause.fetching, now.fetching_rests)
        _rest(self._pause.sending, now.sending_rests)
        if before.metered != now.metered:
            _log.info("the connection is %s", "metered" if now.metered else "not metered any more")
        if (before.up, before.down) != (now.up, now.down):
            _log.info("limits: up %s, down %s", _said(now.up), _said(now.down))

    def _in_force(self) -> Limits:
        time, rules = self._local_time(), self._rules
        up, down = rules.up.at(time), rules.down.at(time)
        up_rate, up_until = up.rate, up.until
        most = _limit(rules.metered_up) if self._metered else None
        if most is not None and (up_rate is None or most < up_rate):
            up_rate, up_until = most, None
        return Limits(
            up=up_rate,
            up_until=None if up_until is None else up_until.timestamp(),
            down=down.rate,
            down_until=None if down.until is None else down.until.timestamp(),
            background=_limit(rules.metered) if self._metered else None,
            metered=self._metered,
            fetching_rests=self._metered and rules.metered.policy == "pause",
            sending_rests=self._metered and rules.metered_up.policy == "pause",
        )


def _limit(metered: Metered) -> float | None:
    return metered.rate if metered.policy == "limit" else None


def _rest(rest: Rest, wanted: bool) -> None:  # noqa: FBT001  # two states of one thing
    (rest.begin if wanted else rest.end)(METERED)


def _said(rate: float | None) -> str:
    return "as quick as the line" if rate is None else f"{rate / 1000:,.0f} kB/s"

"""A server that takes requests and answers none: found out by those who wait first, not by everybody in turn.

The kernel sends a mount's read-ahead in dozens (`max_background` of linux/fs/fuse/inode.c), and lets one program at a
time look names up in a folder. Were each to wait for its whole deadline, the last of 200 programs would wait for
minutes. So once programs have waited for a minute in all, while nothing whatsoever came from the server, those who
come then wait for a moment only, and the shorter the more there are.

Everything is sent all the same, and goes on for a moment when its program has given up. So a server that is well,
apart from some files or folders, or that is well again, shows it with the first answer; then all is as before.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import trio

from cloudfs.errors import RemoteError, Unreachable

__all__ = ["Silence"]

_log = logging.getLogger(__name__)

_BORNE_S = 60.0
"""Of all that wait together: eight reads, or four listings, in vain to the end."""
_MOMENT_S, _LEAST_S = 1.0, 0.2
_DOZEN = 12
_FORGOTTEN_S = 10.0
"""So long after anybody waited, what was known by it is old."""


class Silence:
    """Of one account. Made and used on the loop's thread."""

    def __init__(self) -> None:
        self._heard_at = -math.inf
        """trio time at which anything last came from the server."""
        self._in_vain_s = 0.0
        """So long programs have waited in all, since then."""
        self._in_vain_at = -math.inf
        """trio time at which one last gave up."""
        self._presumed_at = math.inf
        """trio time from which the server has been thought to be silent."""
        self._tries = 0
        """So many waited for a moment since."""

    @property
    def presumed(self) -> bool:
        """The server is thought to answer nothing."""
        return self._presumed_at < math.inf

    def heard(self) -> None:
        """Something came from the server, whatever it was. NO CHECKPOINT."""
        self._heard_at = trio.current_time()
        self.forget()

    def forget(self) -> None:
        """Presume nothing: the network is another one, or the machine has slept. NO CHECKPOINT."""
        self._in_vain_s, self._tries, self._presumed_at = 0.0, 0, math.inf

    @asynccontextmanager
    async def borne(self, subject: Callable[[], str], asked_at: float) -> AsyncGenerator[None, None]:
        """Be around a program's wait for the server; raises Unreachable, about what `subject` names, to end it.

        `asked_at`: trio time at which that was asked for which is waited for. What was on its way before the server was
        thought to be silent is waited for as ever. No checkpoint.
        """
        began = trio.current_time()
        if self.presumed and began - self._in_vain_at >= _FORGOTTEN_S:
            self.forget()
        for_a_moment = asked_at >= self._presumed_at
        patience_s = self._moment_s() if for_a_moment else math.inf
        self._tries += for_a_moment
        with trio.move_on_after(patience_s) as moment:
            try:
                yield
            except (trio.Cancelled, RemoteError):
                self._gave_up(began)
                raise
        if moment.cancelled_caught:
            raise Unreachable("the server has not answered for some time", subject=subject())

    def _moment_s(self) -> float:
        return max(_LEAST_S, _MOMENT_S * _DOZEN / (_DOZEN + self._tries))

    def _gave_up(self, began: float) -> None:
        """Somebody has waited in vain since then: no sign of anything, if something else came meanwhile."""
        now = trio.current_time()
        if self._heard_at > began:
            return
        self._in_vain_s += now - began
        self._in_vain_at = now
        if not self.presumed and self._in_vain_s >= _BORNE_S:
            _log.info("nothing comes from the server: programs that need it wait for a moment only")
            self._presumed_at = now

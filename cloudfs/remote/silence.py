"""A server that takes requests and answers none: found out by those who wait first, not by everybody in turn.

The kernel sends a mount's read-ahead in dozens (`max_background` of linux/fs/fuse/inode.c), and lets one program at a
time look names up in a folder. Were each to wait for its whole deadline, the last of 200 programs would wait for
minutes. So once somebody has waited in vain while nothing at all was heard of the server, one waiter at a time tries;
who comes while the try is young waits for what becomes of it, and everybody else is refused at once.

That is no more than a guess. A server that is merely slow answers the one that tries, and all is as it was.
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

_BORNE_S = 2.0
"""Whoever gives up sooner shows nothing."""
_YOUNG_S = 1.0
_REST_S = 2.0
"""Between one try and the next."""


class Silence:
    """Of one account. Made and used on the loop's thread."""

    def __init__(self) -> None:
        self._heard_at = -math.inf
        """trio time at which anything last came from the server."""
        self._broken: trio.Event | None = None
        """Set once something comes; None while the server is not thought to be silent."""
        self._tried_since: float | None = None
        """trio time from which somebody has been trying; None: nobody is."""
        self._rests_until = -math.inf

    @property
    def presumed(self) -> bool:
        """The server is thought to answer nothing."""
        return self._broken is not None

    def heard(self) -> None:
        """Something came from the server, whatever it was. NO CHECKPOINT."""
        self._heard_at = trio.current_time()
        self.forget()

    def forget(self) -> None:
        """Presume nothing any more: the network is another one, or the machine has slept. NO CHECKPOINT."""
        if self._broken is not None:
            self._broken.set()
            self._broken = None
            self._rests_until = -math.inf

    @asynccontextmanager
    async def borne(self, subject: Callable[[], str], *, joining: bool) -> AsyncGenerator[None, None]:
        """Be around a program's wait for the server; a checkpoint only while that is presumed to be silent.

        `joining`: it waits for what is under way already, and may do so. Raises Unreachable instead of letting
        another request begin that would most likely be in vain; it is about what `subject` names.
        """
        tries = not joining and await self._admit(subject)
        began = trio.current_time()
        try:
            yield
        except (trio.Cancelled, RemoteError):
            self._gave_up(began)
            raise
        finally:
            if tries:
                self._tried_since = None

    async def _admit(self, subject: Callable[[], str]) -> bool:
        """Return once a request may begin, and whether it is the one that tries."""
        broken = self._broken
        if broken is None:
            return False
        now = trio.current_time()
        if self._tried_since is None and now >= self._rests_until:
            self._tried_since = now
            return True
        if self._tried_since is not None:
            with trio.move_on_at(self._tried_since + _YOUNG_S):
                await broken.wait()
        if not broken.is_set():
            raise Unreachable("the server has not answered for some time", subject=subject())
        return False

    def _gave_up(self, began: float) -> None:
        """Somebody has waited in vain since then: no sign of anything, if something else came meanwhile."""
        now = trio.current_time()
        if self._heard_at >= began or now - began < _BORNE_S:
            return
        if self._broken is None:
            _log.info(
                "nothing has come from the server for %.0f s: what needs it is refused at once", now - began
            )
            self._broken = trio.Event()
        self._rests_until = now + _REST_S

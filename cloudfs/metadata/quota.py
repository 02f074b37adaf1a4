"""The account's free space, from memory: `df` and every file manager ask for it and must never wait.

What we send and remove ourselves is counted at once, and the server is asked soon after any change that is seen. An
account without a limit is asked about once a minute at most, and only when somebody looks.
"""

from __future__ import annotations

import logging
import math

import trio

from cloudfs.concurrency.supervise import attempt
from cloudfs.errors import RemoteError
from cloudfs.remote.protocol import Remote, Space

__all__ = ["Quota"]

_log = logging.getLogger(__name__)

_FRESH_S = 60.0
_PAUSE_S = 10.0
"""While an account changes all the time, it is asked about so seldom."""


class Quota:
    """Remembers the answer; asks again in the background when it may be another one, or is used and old."""

    def __init__(self, remote: Remote, nursery: trio.Nursery) -> None:
        self._remote = remote
        self._nursery = nursery
        self._space: Space | None = None
        self._asked_at = -_FRESH_S
        self._asks_soon = False
        self._freed_at = -math.inf
        self._told_as_of = -math.inf

    def space(self) -> Space | None:
        """Return the space last told, None while it is unknown or the account has no limit. Never waits."""
        if trio.current_time() - self._asked_at >= _FRESH_S:
            self._asked_at = trio.current_time()
            self._nursery.start_soon(attempt, "a question for the quota", self.ask)
        return self._space

    @property
    def last_told(self) -> Space | None:
        """The same, without asking anew: for what is shown again and again."""
        return self._space

    def spent(self, size_bytes: int | None) -> None:
        """The account holds so many bytes more than before, for all we know; None: it was changed somehow."""
        known = self._space
        if known is None:
            return
        if size_bytes:
            self._space = Space(max(known.free - size_bytes, 0), max(known.used + size_bytes, 0))
        if not self._asks_soon:
            self._asks_soon = True
            self._nursery.start_soon(attempt, "a question for the quota", self._ask_soon)

    def freed(self) -> None:
        """Something was removed of which nobody knows how large it was."""
        self._freed_at = trio.current_time()

    def is_sure(self) -> bool:
        """Tell whether no more can be free than what is shown: nothing of unknown size was removed since."""
        return self._freed_at < self._told_as_of

    async def _ask_soon(self) -> None:
        await trio.sleep_until(max(self._asked_at, trio.current_time() - _PAUSE_S / 2) + _PAUSE_S)
        self._asks_soon = False
        await self.ask()

    async def ask(self) -> None:
        """Ask the server now; without an answer the last one stays."""
        asked_at = self._asked_at = trio.current_time()
        try:
            self._space = await self._remote.space()
        except RemoteError as error:
            _log.debug("the quota is not known anew: %s", error)
        else:
            self._told_as_of = asked_at

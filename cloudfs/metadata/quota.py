"""The account's free space, from memory: `df` and every file manager ask for it and must never wait.

What we send and remove ourselves is counted at once, and the server is asked soon after any change that is seen. An
account without a limit is asked about once a minute at most, and only when somebody looks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import trio

from cloudfs.concurrency.supervise import attempt
from cloudfs.errors import RemoteError
from cloudfs.remote.protocol import Remote, Space, Unlimited

__all__ = ["Quota"]

_log = logging.getLogger(__name__)

_FRESH_S = 60.0
_PAUSE_S = 10.0
"""While an account changes all the time, it is asked about so seldom."""


class Quota:
    """Remembers the answer; asks again in the background when it may be another one, or is used and old.

    `grew` is called when an answer tells of more free space than the one before.
    """

    def __init__(
        self, remote: Remote, nursery: trio.Nursery, grew: Callable[[], None] = lambda: None
    ) -> None:
        self._remote = remote
        self._nursery = nursery
        self._grew = grew
        self._space: Space | None = None
        self._unlimited: Unlimited | None = None
        self._told: Space | None = None
        """As `_space`, without what was counted since."""
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

    @property
    def used_bytes(self) -> int | None:
        """Return what the account stores, limit or not, without asking anew; None: not known."""
        known = self._space or self._unlimited
        return None if known is None else known.used

    def spent(self, size_bytes: int | None) -> None:
        """The account holds so many bytes more than before, for all we know; None: it was changed somehow."""
        if self._unlimited is not None and size_bytes:
            self._unlimited = Unlimited(max(self._unlimited.used + size_bytes, 0))
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

    async def greet(self) -> None:
        """Ask the server that was just met, unless it has answered a moment ago: somebody looked at once."""
        if trio.current_time() - self._told_as_of >= _PAUSE_S:
            await self.ask()

    async def ask(self) -> None:
        """Ask the server now; without an answer the last one stays."""
        asked_at = self._asked_at = trio.current_time()
        try:
            answer = await self._remote.space()
        except RemoteError as error:
            _log.debug("the quota is not known anew: %s", error)
            return
        self._unlimited = answer if isinstance(answer, Unlimited) else None
        told = answer if isinstance(answer, Space) else None
        before, self._space, self._told = self._told, told, told
        self._told_as_of = asked_at
        if before is not None and (told is None or told.free > before.free):
            self._grew()

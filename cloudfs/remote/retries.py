"""Reads are tried again on temporary errors: a bounded number of times, within a bounded time."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from cloudfs.concurrency.backoff import Backoff
from cloudfs.errors import RemoteError, Unavailable, Unreachable
from cloudfs.remote.limiting import patience

__all__ = ["read"]

_LOG = logging.getLogger(__name__)
_TRIES = 3
_BACKOFF = Backoff(first_s=0.3, cap_s=2.0)
"""Locks on the server last tens of milliseconds (protocol.md §14); a longer trouble is not waited out here."""

_CHANCE = random.Random()  # noqa: S311  # spreads clients, guards nothing

T = TypeVar("T")


async def read(attempt: Callable[[], Awaitable[T]], subject: str, within_s: float) -> T:
    """Return the result of `attempt`, tried up to three times while its errors are temporary.

    All tries and pauses together end after `within_s` seconds with Unreachable, but for what limits cost. Throttling
    and maintenance (Unavailable) are passed on at once: asking again is what the server asked us not to do.
    """
    with patience(within_s):
        for number in range(_TRIES):
            try:
                return await attempt()
            except RemoteError as error:
                if not error.temporary or isinstance(error, Unavailable) or number == _TRIES - 1:
                    raise
                _LOG.debug("%s: try %d failed: %s", subject, number + 1, error)
                await trio.sleep(_BACKOFF.delay_s(number, _CHANCE, error.retry_after_s))
    raise Unreachable(f"no answer within {within_s:g} seconds", subject=subject)

"""What runs in the background and nobody waits for: a crash is logged whole, and ends nothing else.

A worker that is to run for ever is started again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import trio

from cloudfs.concurrency.backoff import Backoff
from cloudfs.errors import PosixError, RemoteError

__all__ = ["HEALTHY_S", "attempt", "supervise"]

_log = logging.getLogger(__name__)

HEALTHY_S = 60.0
"""A worker that ran this long had started well: its next crash counts as the first."""

_RESTARTS = Backoff(first_s=1.0, cap_s=60.0)


async def supervise(
    name: str,
    worker: Callable[[], Awaitable[object]],
    *,
    chance: random.Random,
    backoff: Backoff = _RESTARTS,
) -> None:
    """Run `worker` until it returns by itself; start it again after every crash, without end.

    A crash is any Exception: it is logged and never raised, with its traceback unless it is an answer of the local
    disk. Cancellation passes through at once, also when it arrives in one group with a crash. Giving up is no
    choice: a mount whose upload worker has died would look healthy and lose what the user believes is safe.
    """
    failures = 0
    while True:
        started_s = trio.current_time()
        crash = await _one_life(name, worker)
        if crash is None:
            return
        if trio.current_time() - started_s >= HEALTHY_S:
            failures = 0
        delay_s = backoff.delay_s(failures, chance, _asked_to_wait_s(crash))
        failures += 1
        if isinstance(crash, PosixError):  # a full disk: the sentence says it all
            _log.warning("worker %s stopped (%s); it starts again in %.1f s", name, crash, delay_s)
        else:
            _log.error("worker %s crashed; it starts again in %.1f s", name, delay_s, exc_info=crash)
        await trio.sleep(delay_s)


async def attempt(name: str, task: Callable[[], Awaitable[object]]) -> None:
    """Do something once that nobody waits for: a crash is logged with its traceback and never raised."""
    crash = await _one_life(name, task)
    if crash is not None:
        _log.error("%s failed in an unexpected way", name, exc_info=crash)


async def _one_life(name: str, worker: Callable[[], Awaitable[object]]) -> Exception | None:
    """Run the worker once; return its crash, None when it ended by itself."""
    try:
        await worker()
    except Exception as crash:  # noqa: BLE001  # the supervisor is where crashes end
        return crash
    except BaseExceptionGroup as group:
        crashes, others = group.split(Exception)
        if crashes is not None:
            _log.error("worker %s crashed while it was stopped", name, exc_info=crashes)
        # What remains is the cancellation alone, so that the scope it belongs to takes it in.
        raise (others or group) from None
    _log.debug("worker %s has ended", name)
    return None


def _asked_to_wait_s(crash: Exception) -> float | None:
    return crash.retry_after_s if isinstance(crash, RemoteError) else None

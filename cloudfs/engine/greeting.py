"""How a server is met: at the start, and whenever it may have become another one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from cloudfs.concurrency.supervise import attempt
from cloudfs.errors import RemoteError
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.quota import Quota
from cloudfs.remote.protocol import Remote
from cloudfs.sync.watching import Watcher
from cloudfs.types import ROOT

__all__ = ["Greeting", "greet_first", "introduce"]

_log = logging.getLogger(__name__)


@dataclass
class Greeting:
    """What came of the first question to the server."""

    done: trio.Event = field(default_factory=trio.Event)
    failure: str = ""
    """Why it does not help us, for people; "": it does."""

    def fail(self, error: RemoteError) -> None:
        """Note it."""
        self.failure = str(error)


def greet_first(nursery: trio.Nursery, greet: Callable[..., Awaitable[None]]) -> Greeting:
    """Begin with it."""
    greeting = Greeting()

    async def begin() -> None:
        await attempt("the first request", partial(greet, failed=greeting.fail))
        greeting.done.set()

    nursery.start_soon(begin)
    return greeting


async def introduce(
    remote: Remote,
    lister: Lister,
    watcher: Watcher,
    quota: Quota,
    *,
    failed: Callable[[RemoteError], None] = lambda _: None,
) -> None:
    """Learn in the background whether the server is there, lets us in, and what it can do now; then see the root."""
    try:
        await remote.connect()
    except RemoteError as error:
        _log.info("working from what is known: %s", error)
        failed(error)
    else:
        if not remote.features.deep_etags:
            lister.refresh_later(ROOT)
        elif not watcher.covers():
            watcher.wake()
        await quota.greet()

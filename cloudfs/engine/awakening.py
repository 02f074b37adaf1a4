"""What the machine does to an engine: it sleeps, has its clock set, and changes its network."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from cloudfs.concurrency.clocks import Jump
from cloudfs.concurrency.supervise import attempt
from cloudfs.engine.engine import Engine
from cloudfs.sync.connectivity import State

__all__ = ["jumped", "moved"]

_log = logging.getLogger(__name__)


def jumped(engine: Engine, reconnect: Callable[[], None], nursery: trio.Nursery, jump: Jump) -> None:
    """The machine woke up, or its clock was set: what was put off is due, what was fresh is old."""
    _log.info("the machine slept for %.0f s, its clock was set by %+.0f s", jump.slept_s, jump.stepped_s)
    engine.lister.distrust_ages()
    engine.watcher.distrust()
    if jump.slept_s:
        _try_all(engine, reconnect, nursery)
    else:
        engine.watcher.wake()


def moved(engine: Engine, reconnect: Callable[[], None], nursery: trio.Nursery) -> None:
    """The machine changed its network: connections lead nowhere, and what was put off may be possible now."""
    _log.info("the network has changed")
    engine.watcher.distrust()
    _try_all(engine, reconnect, nursery)


def _try_all(engine: Engine, reconnect: Callable[[], None], nursery: trio.Nursery) -> None:
    reconnect()
    engine.pusher.reconnect()
    if engine.connectivity.state is not State.NEEDS_LOGIN:
        engine.worker.try_all_now()
        nursery.start_soon(attempt, "the first request after a change", engine.greet)

"""Mounts an account, and serves the kernel and the control socket until there is a reason to end."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial

import trio

from cloudfs import config, systemd
from cloudfs.account.protocol import AtWork, Compose, Launch
from cloudfs.concurrency.supervise import supervise
from cloudfs.control import server
from cloudfs.daemon.handlers import Handlers
from cloudfs.daemon.readiness import Ready
from cloudfs.daemon.signals import heed_signals
from cloudfs.fuse.announcing import Announcer
from cloudfs.fuse.announcing_operations import AnnouncingOperations
from cloudfs.fuse.mount import Session
from cloudfs.fuse.operations import KernelCaching, Operations
from cloudfs.publishing import publish

__all__ = ["Condemned", "serve"]

_log = logging.getLogger("cloudfs.daemon")


class Condemned:
    """Whether the account is to be wiped once it has ended."""

    def __init__(self) -> None:
        self.secret: str | None = None
        """The app password that the server refuses; None: it is not to be wiped."""

    async def heed(self, at_work: AtWork, stop: trio.Event) -> None:
        """Have it end when the server says so."""
        self.secret = await at_work.wait_for_wipe()
        stop.set()


async def serve(
    launch: Launch, place: str, ready: Ready, compose: Compose, note: Callable[[str], None]
) -> Condemned:
    """Mount and serve until a signal, an unmount or a failure; whatever it is, the mount is gone afterwards.

    `note` hears the number of the FUSE connection, and "" once that is no more.
    """
    notifier, caching, stop, condemned = Announcer(), KernelCaching(), trio.Event(), Condemned()
    async with compose(launch, notifier, caching) as at_work, trio.open_nursery() as helpers:
        helpers.start_soon(heed_signals, stop, at_work.reload)
        if at_work.names is not None:
            notifier.attach(place, at_work.names)
        operations = _operations(launch, at_work, notifier, caching)
        others = launch.account.settings.allow_other
        session = Session(operations, place, account=launch.name, notifier=notifier, allow_other=others)
        handlers = Handlers(launch, at_work, session, operations, stop)
        socket_name = launch.folders.socket_name(launch.name)
        await helpers.start(server.serve, launch.folders.runtime, socket_name, handlers)
        async with trio.open_nursery() as mounting:
            mounting.start_soon(_cancel_after, stop, mounting.cancel_scope)
            await mounting.start(_run_then_stop, session, stop)
            note(session.connection)
            _log.info("mounted %s at %s", launch.name, place)
            ready.succeed(place)
            helpers.start_soon(systemd.report, handlers.sentence, session.answers)
            helpers.start_soon(condemned.heed, at_work, stop)
            _publish(helpers, launch, handlers)
        note("")
        systemd.notify("STOPPING=1")
        helpers.cancel_scope.cancel()
    _log.info("unmounted %s", launch.name)
    return condemned


def _operations(launch: Launch, at_work: AtWork, notifier: Announcer, caching: KernelCaching) -> Operations:
    return AnnouncingOperations(
        at_work.filesystem,
        notifier,
        caching=caching,
        deadline_s=launch.account.settings.request_deadline_s,
        xattrs=at_work.xattrs,
        readers=at_work.readers,
    )


def _publish(helpers: trio.Nursery, launch: Launch, handlers: Handlers) -> None:
    if (where := launch.account.settings.metrics) is not None:
        publishing = partial(publish, config.published_at(where), handlers.figures)
        helpers.start_soon(partial(supervise, "figures", publishing, chance=random.Random()))  # noqa: S311  # jitter


async def _run_then_stop(session: Session, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    await session.run(task_status=task_status)
    stop.set()  # unmounted from outside


async def _cancel_after(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()

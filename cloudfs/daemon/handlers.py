"""The daemon's answers on the control socket: those about the mount as a whole, and who has all others."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from importlib import metadata

import msgspec
import trio

from cloudfs.account.protocol import AtWork, Launch
from cloudfs.control import server
from cloudfs.control.methods import Method, Tell, beside, method
from cloudfs.control.protocol import (
    Blocked,
    ConflictPair,
    Decide,
    Decided,
    LoggedIn,
    Progress,
    Resolution,
    Status,
    SyncOutcome,
    Unmounted,
)
from cloudfs.control.records import Watch
from cloudfs.daemon.metrics import exposition
from cloudfs.fuse.mount import Session
from cloudfs.fuse.operations import Operations
from cloudfs.secrets.memory import is_memory_closed

__all__ = ["Handlers"]

_REPORT_S = 1.0
"""How often a waiting client hears of progress; also tells it that we live."""
_MOST_SILENT_S = 10.0
"""It hears less often where the counting takes long, but long before it gives us up (`control.client`, 30 s)."""


class Handlers:
    """Answers of the control socket."""

    def __init__(
        self, launch: Launch, at_work: AtWork, session: Session, operations: Operations, stop: trio.Event
    ) -> None:
        self._launch = launch
        self._at_work = at_work
        self._session = session
        self._operations = operations
        self._stop = stop
        self._began = time.monotonic()

    @property
    def methods(self) -> Mapping[str, Method]:
        """Requests that others answer, by name, and `watch`."""
        return {"watch": method(Watch, self._watch), **self._at_work.methods}

    async def _watch(self, wanted: Watch, tell: Tell) -> None:
        """Tell of the status whenever it has changed; for ever."""
        last: Status | None = None
        while True:
            began_s = trio.current_time()
            status = self.status()
            said = msgspec.structs.replace(status, uptime_s=0.0, requests={})
            took_s = trio.current_time() - began_s
            if said != last:
                await tell(status)
                last = said
            # As with progress: looking must not take the time that is needed for working.
            await trio.sleep(min(max(wanted.every_s, 20 * took_s), _MOST_SILENT_S))

    def figures(self) -> str:
        """Return what Prometheus is told."""
        return exposition(self.status(), self._at_work.traffic)

    def sentence(self) -> str:
        """Say in a line how it is."""
        facts = self._at_work.facts()
        parts = [f"{self._session.mount_point}: {facts.state}"]
        parts += ["paused"] if facts.paused_since is not None else []
        parts += [f"{facts.pending} to send"] if facts.pending else []
        parts += [f"{len(facts.blocked)} blocked, see `cloudfs status`"] if facts.blocked else []
        return ", ".join(parts)

    def status(self) -> Status:
        """Return how it is, from memory and the local database."""
        facts, account = self._at_work.facts(), self._launch.account
        return Status(
            version=_version(),
            pid=os.getpid(),
            account=self._launch.name,
            url=account.url,
            user=account.user,
            mount_point=self._session.mount_point,
            uptime_s=round(time.monotonic() - self._began, 1),
            memory_closed=is_memory_closed(),
            requests=dict(self._operations.statistics().by_name),
            **msgspec.structs.asdict(facts),
        )

    async def sync_wait(self, path: str, timeout_s: float | None, report: server.Report) -> SyncOutcome:
        """Wait until all below a path is on the server or blocked, and report meanwhile. UserError: no such path."""
        blocked: list[Blocked] | None = None
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            blocked = await beside(
                partial(self._report_progress, path, report), partial(self._at_work.wait_synced, path)
            )
        left = await self._at_work.pending_below(path)
        if blocked is not None:
            return SyncOutcome(left, blocked)
        return SyncOutcome(left, self._at_work.facts().blocked, timed_out=True)

    async def _report_progress(self, path: str, report: server.Report) -> None:
        while True:
            began_s = trio.current_time()
            pending = await self._at_work.pending_below(path)
            took_s = trio.current_time() - began_s
            await report(Progress(pending, self._at_work.in_flight()))
            # A large backlog is to be sent, and not to be counted again and again.
            await trio.sleep(min(max(_REPORT_S, 10 * took_s), _MOST_SILENT_S))

    def conflicts(self) -> list[ConflictPair]:
        """Return those that wait for a decision."""
        return self._at_work.conflicts()

    async def resolve(self, path: str, decision: Resolution) -> None:
        """Carry out a decision about one. UserError where nothing was done."""
        await self._at_work.resolve(path, decision)

    async def decide_deletions(self, wanted: Decide) -> Decided:
        """Carry out the answer about deletions that wait. UserError where none do."""
        return await self._at_work.decide_deletions(wanted)

    async def log_in(self) -> LoggedIn:
        """Go on with the password that is kept now. UserError where it cannot be used."""
        return await self._at_work.log_in()

    async def unmount(self, *, lazy: bool) -> Unmounted:
        """End, and tell what is not on the server yet; `lazy`: also while programs use it. UserError: they do."""
        if not lazy:
            await self._session.unmount()
        self._stop.set()
        facts = self._at_work.facts()
        return Unmounted(facts.pending, facts.pending_bytes)


def _version() -> str:
    try:
        return metadata.version("cloudfs")
    except metadata.PackageNotFoundError:
        return "0"

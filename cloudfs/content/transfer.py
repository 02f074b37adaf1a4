"""Bytes on their way from the server: one Transfer per request series, carried by a Line.

    Transfer    a range of one version, who waits for it, how far it is
    Line        runs transfers: gate of the file, slot, request, resume after a broken connection

A transfer runs in the nursery of the account, never in the task of a reader: a reader that is cancelled
takes nothing from the others. It ends by itself when nobody has shown interest for `idle_s`.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import trio

from cloudfs.concurrency.backoff import Backoff
from cloudfs.concurrency.singleflight import FlightAborted, fresh_copy
from cloudfs.content.slots import Slots
from cloudfs.content.source import FetchConfig, Locate, Source, Whereabouts, named
from cloudfs.errors import (
    Changed,
    ChecksumMismatch,
    Locked,
    NotFound,
    ProtocolViolation,
    RemoteError,
    Unavailable,
    Unreachable,
)
from cloudfs.remote.limiting import Rank, asking, asking_as
from cloudfs.remote.protocol import Remote
from cloudfs.types import BLOCK_SIZE, Ino, Octets, RemotePath

__all__ = ["Line", "Sink", "Transfer"]

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where the bytes of one transfer go."""

    async def take(self, transfer: Transfer, chunk: Octets) -> bool:
        """Take the chunk that begins at `transfer.position` and advance it; False ends the transfer here."""
        ...

    def end(self) -> None:
        """Let go of everything: no more chunks will come, whatever the reason. NO CHECKPOINT."""
        ...


_MIB = 1024 * 1024

_RESUME = Backoff(first_s=0.2, cap_s=2.0)
_FRUITLESS_TRIES = 2
"""Requests in a row without a byte after which readers get the error."""
_MOST_RESUMES = 8
_DOUBT_LOOK_S = 0.1
_TOUCH_S = 0.1
"""How inexact the end of an idle transfer may be."""
_CLOSE_S = 3.0
"""`quiesce` waits for connections to be closed no longer than this."""


class _Waiter:
    """A reader that needs [start, stop). INVARIANT: `done` is set exactly once, whatever way it ended."""

    __slots__ = ("data", "done", "error", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.done = trio.Event()
        self.data: Octets | None = None
        self.error: Exception | None = None


class Transfer:
    """The bytes [start, stop) of one version on their way; `position` is the first that is still missing."""

    def __init__(
        self,
        source: Source,
        start: int,
        stop: int,
        config: FetchConfig,
        nudge: Callable[[], None],
        *,
        whole: bool = False,
        lowest: bool = False,
    ) -> None:
        """`whole`: nothing is handed out before all of it is here. `lowest`: it stops while readers wait for others."""
        self.source = source
        self.start = start
        self.stop = stop
        self.position = start
        self.whole = whole
        self.lowest = lowest
        self.error: Exception | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self._config = config
        self._nudge = nudge
        self._waiters: list[_Waiter] = []
        self._holders = 0
        self.reader_offset: Callable[[], int] | None = None
        """Where the reader is that this transfer was started for."""
        self._caught_up: tuple[int, trio.Event] | None = None
        self._asked_s = math.inf
        self._answered_s: float | None = None
        self._latency_s = 0.0
        self.touch()

    @property
    def urgent(self) -> bool:
        """A reader waits for these bytes now."""
        return bool(self._waiters)

    @property
    def ended(self) -> bool:
        """No more bytes will come."""
        return self.done.is_set()

    @property
    def ends_soon(self) -> bool:
        """Another request, started now, would get its first byte no sooner than this one its last."""
        return self.stop - self.position <= _MIB + int(self.bytes_per_s() * self._latency_s * 1.5)

    def delivers(self, offset: int) -> bool:
        """Tell whether the byte at `offset` is still to come."""
        return self.position <= offset < self.stop

    def reaches_soon(self, offset: int) -> bool:
        """Tell whether waiting for `offset` is quicker than another request: about 30 ms of data."""
        if self.whole:
            return True  # another request would have to bring all of it, too
        near = _MIB if self._answered_s is None else max(_MIB // 4, int(self.bytes_per_s() * 0.03))
        return offset - self.position <= near

    def bytes_per_s(self) -> float:
        """Return how quick it has been since its first byte."""
        if self._answered_s is None:
            return 0.0
        return (self.position - self.start) / max(trio.current_time() - self._answered_s, 0.001)

    def is_far_ahead(self, pace_bytes: int) -> bool:
        """Tell whether its reader is more than `pace_bytes` behind, and waits for nothing."""
        return (
            self.reader_offset is not None
            and not self.urgent
            and self.position - self.reader_offset() > pace_bytes
        )

    async def wait_for_reader(self, pace_bytes: int, most_s: float) -> None:
        """Return when it is not far ahead any more, after `most_s` at the latest."""
        with trio.move_on_after(most_s):
            self._caught_up = pace_bytes, trio.Event()
            await self._caught_up[1].wait()
        self._caught_up = None

    def touch(self) -> None:
        """Show interest: put off the end of a transfer that nobody waits for; its reader may have moved."""
        if self._caught_up is not None and not self.is_far_ahead(self._caught_up[0]):
            self._caught_up[1].set()
        if self._waiters or self._holders:
            self.scope.deadline = math.inf
            return
        deadline = trio.current_time() + self._grace_s()
        # Every read of 128 KiB comes here, and moving a deadline costs more than looking at it.
        if not 0 <= deadline - self.scope.deadline < _TOUCH_S:
            self.scope.deadline = deadline

    def abandon(self) -> None:
        """End at once unless somebody waits or it is nearly done."""
        if (
            not self._waiters
            and not self._holders
            and self.stop - self.position > self._config.nearly_done_bytes
        ):
            self.scope.cancel()

    def _grace_s(self) -> float:
        nearly_done = self.stop - self.position <= self._config.nearly_done_bytes
        return self._config.nearly_done_s if nearly_done else self._config.idle_s

    async def wait_bytes(self, start: int, stop: int) -> Octets | None:
        """Return the bytes [start, stop) of one block as soon as they are here, or as many as this transfer brings.

        None when it ended without any and without an error: look again. Raises what the transfer failed with, as
        a copy.
        """
        waiter = _Waiter(start, stop)
        self._waiters.append(waiter)
        self.touch()
        self._nudge()
        try:
            await waiter.done.wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self.touch()
        if waiter.error is not None:
            raise fresh_copy(waiter.error) from waiter.error
        return waiter.data

    async def wait_done(self) -> None:
        """Wait until the transfer has ended, keeping it alive meanwhile. Raises what it failed with."""
        with self.held():
            await self.done.wait()
        if self.error is not None:
            raise fresh_copy(self.error) from self.error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the transfer from ending for want of readers."""
        self._holders += 1
        self.touch()
        try:
            yield
        finally:
            self._holders -= 1
            self.touch()

    def advance(self, position: int, read: Callable[[int, int], Octets | None]) -> None:
        """Note that everything before `position` has arrived and answer those who need no more.

        NO CHECKPOINT: `read` takes it for them here, so no page can be dropped before its reader runs.
        """
        self.position = position
        if not self._waiters:
            return
        ready = [waiter for waiter in self._waiters if min(waiter.stop, self.stop) <= position]
        for waiter in ready:
            self._waiters.remove(waiter)
            waiter.data = read(waiter.start, waiter.stop)
            waiter.done.set()
        if ready:
            self.touch()

    def asked(self) -> None:
        """Note when a request was sent."""
        self._asked_s = trio.current_time()

    def answered(self) -> None:
        """Note when the first bytes of the first request came, to know how quick the line is."""
        if self._answered_s is None:
            self._answered_s = trio.current_time()
            self._latency_s = self._answered_s - self._asked_s

    def finish(self) -> None:
        """Wake everybody, with the error if there is one. NO CHECKPOINT."""
        for waiter in self._waiters:
            waiter.error = self.error
            waiter.done.set()
        self._waiters.clear()
        self.done.set()


class Line:
    """Runs transfers over one Remote: at most some at a time, none for a file that is being uploaded."""

    def __init__(
        self,
        remote: Remote,
        locate: Locate,
        config: FetchConfig,
        chance: random.Random,
    ) -> None:
        self.slots = Slots(config.transfers, config.background_transfers)
        self.requests = 0
        self.resumes = 0
        self.received_bytes = 0
        self._remote = remote
        self._locate = locate
        self._config = config
        self._active: dict[Ino, list[Transfer]] = {}
        self._gates: dict[Ino, _Gate] = {}
        self._together: list[_Together] = []
        self._chance = chance

    def active(self, source: Source) -> list[Transfer]:
        """Return the transfers of this version that have not ended, the oldest first."""
        return [it for it in self._active.get(source.ino, ()) if it.source.version == source.version]

    def all_active(self) -> list[Transfer]:
        """Return all transfers that have not ended."""
        return [transfer for transfers in self._active.values() for transfer in transfers]

    @property
    def reader_waits(self) -> bool:
        """A reader waits for bytes from the server, with a slot or without."""
        return any(it.urgent for transfers in self._active.values() for it in transfers)

    def launch(self, transfer: Transfer, sink: Sink, nursery: trio.Nursery) -> None:
        """Start a transfer. From now on `active` lists it and it will call `finish`."""
        nursery.start_soon(self._run, transfer, sink, name=f"fetch of inode {transfer.source.ino}")
        self._active.setdefault(transfer.source.ino, []).append(transfer)

    async def quiesce(self, ino: Ino) -> None:
        """Stop all transfers of a file; returns when their connections are closed, or after 3 s."""
        ending: list[Transfer | _Together] = [*self._active.get(ino, ())]
        ending += [request for request in self._together if ino in request.inos]
        for request in ending:
            request.scope.cancel()
        with trio.move_on_after(_CLOSE_S) as limit:
            for request in ending:
                await request.done.wait()
        if limit.cancelled_caught:
            names = [self._name(it) for it in ending if isinstance(it, Transfer)]
            _log.warning(
                "%s: connections are still open after %g s", ", ".join(names) or "an archive", _CLOSE_S
            )

    def is_paused(self, ino: Ino) -> bool:
        """Tell whether the file is kept free of our own requests now."""
        return ino in self._gates

    @asynccontextmanager
    async def together(self, inos: frozenset[Ino]) -> AsyncIterator[None]:
        """Hold a slot for one request about several files that no reader waits for.

        What is inside is cancelled, and that is all, as soon as one of the files is to be paused.
        """
        request = _Together(inos)
        self._together.append(request)
        least = max(asking()(), Rank.GUESS)
        try:
            with request.scope, asking_as(lambda: least):
                async with self.slots.turn(request):
                    self.requests += 1
                    yield
        finally:
            self._together.remove(request)
            request.done.set()

    @asynccontextmanager
    async def paused(self, ino: Ino) -> AsyncIterator[None]:
        """Keep the file free of our own requests: stop those under way, let new ones wait until the end.

        They wait `pause_wait_s` and fail with Locked then. May be nested. A fetch of the same file inside the
        block, by the same task, would wait for itself.
        """
        gate = self._gates.setdefault(ino, _Gate())
        gate.holders += 1
        try:
            await self.quiesce(ino)
            yield
        finally:
            gate.holders -= 1
            if not gate.holders:
                del self._gates[ino]
                gate.opened.set()

    async def _run(self, transfer: Transfer, sink: Sink) -> None:
        least = max(asking()(), Rank.AHEAD)
        try:
            with transfer.scope, asking_as(lambda: Rank.READER if transfer.urgent else least):
                await self._pass_gate(transfer.source)
                if not transfer.urgent:
                    await (
                        trio.lowlevel.checkpoint()
                    )  # what a reader waits for, and began with this, is asked for first
                # A file that is paused from here on has this transfer cancelled, even while it waits for its turn.
                async with self.slots.turn(transfer):
                    await self._carry(transfer, sink)
        except trio.Cancelled:
            transfer.error = FlightAborted("the account is being shut down")
            raise
        except Exception as error:  # noqa: BLE001  # every reader gets it; there is nobody above to tell
            self._note_failure(transfer, error)
        finally:
            siblings = self._active[transfer.source.ino]
            siblings.remove(transfer)
            if not siblings:
                del self._active[transfer.source.ino]
            sink.end()
            transfer.finish()

    def _note_failure(self, transfer: Transfer, error: Exception) -> None:
        transfer.error = error
        if isinstance(error, RemoteError):
            name = self._name(transfer)
            message = "%s cannot be read at byte %d: %s"
            _log.info(message, name, transfer.position, error, extra={"path": name})
        elif not transfer.urgent and not isinstance(error, ChecksumMismatch):
            # A reader's own error is logged by whoever answers the kernel; this one nobody would see.
            _log.error("read-ahead of inode %d failed", transfer.source.ino, exc_info=error)

    def _name(self, transfer: Transfer) -> str:
        return named(transfer.source, self._locate)

    async def _pass_gate(self, source: Source) -> None:
        with trio.move_on_after(self._config.pause_wait_s) as limit:
            while gate := self._gates.get(source.ino):
                await gate.opened.wait()
        if limit.cancelled_caught:
            raise Locked("our own upload of this file is under way", subject=self._locate(source).path)

    async def _carry(self, transfer: Transfer, sink: Sink) -> None:
        """Request until all is here, going on where a broken connection stopped."""
        fruitless = resumes = locked = 0
        locked_until = trio.current_time() + self._config.pause_wait_s
        other_whereabouts = False
        # An error may also come after the last byte: then there is nothing left to ask for.
        while transfer.position < transfer.stop:
            place, begun = self._locate(transfer.source), transfer.position
            try:
                await self._request(place, transfer, sink)
                return
            except (NotFound, Changed) as error:
                # We may have moved it, or set its time, while the request was on its way.
                now = await self._found_out(transfer.source, error)
                if other_whereabouts or now[:2] == place[:2]:
                    raise _gone(error, place.path) from error
                other_whereabouts = True
            except Locked:
                # Another client writes it, and what is there afterwards is for the next try to find out.
                if trio.current_time() >= locked_until:
                    raise
                await trio.sleep(_RESUME.delay_s(locked, self._chance))
                locked += 1
            except RemoteError as error:
                fruitless = 0 if transfer.position > begun else fruitless + 1
                resumes += 1
                if not _worth_resuming(error) or fruitless >= _FRUITLESS_TRIES or resumes > _MOST_RESUMES:
                    raise
                self.resumes += 1
                await trio.sleep(_RESUME.delay_s(fruitless, self._chance, error.retry_after_s))

    async def _found_out(self, source: Source, error: NotFound | Changed) -> Whereabouts:
        """Return where a version is, after waiting for what became of a move whose answer was lost.

        Until that is known, nothing at its old place says nothing about it: Unreachable, where it takes too long.
        """
        until = trio.current_time() + self._config.doubt_s
        while (now := self._locate(source)).in_doubt:
            if trio.current_time() >= until:
                raise Unreachable("what became of its move is not known yet", subject=now.path) from error
            await trio.sleep(_DOUBT_LOOK_S)
        return now

    async def _request(self, place: Whereabouts, transfer: Transfer, sink: Sink) -> None:
        self.requests += 1
        begun_s = trio.current_time()
        transfer.asked()
        path = place.path
        body = self._remote.stream(path, transfer.position, transfer.stop, place.remote)
        async with body as chunks:
            async for chunk in chunks:
                transfer.answered()
                self.received_bytes += len(chunk)
                if transfer.position + len(chunk) > transfer.stop:
                    raise ProtocolViolation("more bytes than asked for", subject=path)
                if not await sink.take(transfer, chunk):
                    return
                if transfer.position < transfer.stop and self._turn_is_over(transfer, len(chunk), begun_s):
                    return
        if transfer.position < transfer.stop:
            raise ProtocolViolation("the body ended early", subject=path)

    def _turn_is_over(self, transfer: Transfer, latest_bytes: int, begun_s: float) -> bool:
        """Tell whether to stop here, in favour of a reader without a slot or of other clients' locks.

        What readers wait for stops only where a block has just been finished, so a block is never begun in vain.
        """
        reader_waits = self.slots.reader_waits
        if reader_waits and not transfer.urgent:
            return True
        limit_s = self._config.turn_s if reader_waits else self._config.longest_s
        block_finished = transfer.position % BLOCK_SIZE < latest_bytes
        if block_finished and transfer.lowest and not transfer.urgent and self.reader_waits:
            return True
        return block_finished and trio.current_time() - begun_s > limit_s


class _Together:
    """A request about several files at once. INVARIANT: `done` is set when it is over."""

    urgent = False

    def __init__(self, inos: frozenset[Ino]) -> None:
        self.inos = inos
        self.scope = trio.CancelScope()
        self.done = trio.Event()


class _Gate:
    """Closed while a file is paused; `opened` is set when the last holder has gone."""

    __slots__ = ("holders", "opened")

    def __init__(self) -> None:
        self.holders = 0
        self.opened = trio.Event()


def _gone(error: NotFound | Changed, path: RemotePath) -> Changed:
    """Return ESTALE, not ENOENT: the version that the reader holds is no longer on the server."""
    if isinstance(error, Changed):
        return error
    return Changed("the file is no longer on the server", subject=path, status=404)


def _worth_resuming(error: RemoteError) -> bool:
    """Broken connections, broken bodies and single failures are; a server in maintenance is not."""
    if isinstance(error, Unavailable):
        return False
    return error.temporary

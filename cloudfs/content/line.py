"""Carries transfers over one Remote: gate of the file, slot, request, and on after a broken connection.

No request of ours for a file is on the wire while that is uploaded: its gate is closed then, and what is under way is
stopped first.
"""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from cloudfs.concurrency.backoff import Backoff
from cloudfs.concurrency.singleflight import FlightAborted
from cloudfs.content.slots import Slots
from cloudfs.content.source import FetchConfig, Locate, Source, Whereabouts, named
from cloudfs.content.transfer import Sink, Transfer
from cloudfs.errors import (
    Changed,
    ChecksumMismatch,
    Locked,
    NotFound,
    ProtocolViolation,
    RemoteError,
    StorageAway,
    Unavailable,
    Unreachable,
)
from cloudfs.remote.limiting import Rank, asking, asking_as
from cloudfs.remote.protocol import Remote
from cloudfs.remote.silence import Silence
from cloudfs.types import BLOCK_SIZE, Ino, RemotePath

__all__ = ["Line"]

_log = logging.getLogger(__name__)

_RESUME = Backoff(first_s=0.2, cap_s=2.0)
_FRUITLESS_TRIES = 2
"""Requests in a row without a byte after which readers get the error."""
_AWAY_TRIES, _AWAY_S = 4, 2.0
"""The same where a storage is said to be away, at once: for so long, more of them.

SOURCE: measured, 29.0.1 on php-fpm. Where a folder took a file's name, each process of a Nextcloud that knew the file
cannot open what is in the folder (PHP believes its realpath cache for two minutes): GET is 503 `ServiceUnavailable`, as
with a storage that is away, and PUT 500. Which process answers is chance.
"""
_MOST_RESUMES = 8
_DOUBT_LOOK_S = 0.1
_CLOSE_S = 3.0
"""`quiesce` waits for connections to be closed no longer than this."""


class Line:
    """Runs transfers over one Remote: at most some at a time, none for a file that is being uploaded."""

    def __init__(
        self,
        remote: Remote,
        locate: Locate,
        config: FetchConfig,
        chance: random.Random,
        silence: Silence,
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
        self._silence = silence

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
                    # What a reader waits for, and began with this, is asked for first.
                    await trio.lowlevel.checkpoint()
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
        # The error knows the frames, they know the transfer, and that the error: a circle, with the last chunk in it.
        traceback.clear_frames(error.__traceback__)

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
        begun_s = trio.current_time()
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
                if trio.current_time() >= begun_s + self._config.pause_wait_s:
                    raise
                await trio.sleep(_RESUME.delay_s(locked, self._chance))
                locked += 1
            except RemoteError as error:
                fruitless = 0 if transfer.position > begun else fruitless + 1
                resumes += 1
                away = isinstance(error, StorageAway) and trio.current_time() < begun_s + _AWAY_S
                most = _AWAY_TRIES if away else _FRUITLESS_TRIES
                if not _worth_resuming(error) or fruitless >= most or resumes > _MOST_RESUMES:
                    raise
                self.resumes += 1
                pause = 0 if away else fruitless
                await trio.sleep(_RESUME.delay_s(pause, self._chance, error.retry_after_s))

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
                self._silence.heard()
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

"""Which requests are made for whom: for a reader that waits, ahead of one that reads on, for a gap in what is here.

read -> transfer under way that brings it soon? -> that one
-> else -> a new Transfer, whose bytes go into pages, or to a consumer
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from cloudfs.content.filling import CheckedFiller, Filler, Room
from cloudfs.content.judging import Judge
from cloudfs.content.line import Line
from cloudfs.content.presence import Presence
from cloudfs.content.readahead import ReadPattern, Span, ahead_span, ahead_start, demand_span, gap_end
from cloudfs.content.scouts import Scouts
from cloudfs.content.source import FetchConfig, Source
from cloudfs.content.transfer import Sink, Transfer
from cloudfs.content.verifying import checks_first
from cloudfs.remote.silence import Silence
from cloudfs.types import Octets

__all__ = ["Launcher"]


class Launcher:
    """Starts an account's transfers. NO CHECKPOINT in here, but while a program waits (`wait_bytes`).

    `coming` is told of each version of which something is asked for.
    """

    def __init__(
        self,
        line: Line,
        presence: Presence,
        room: Room,
        judge: Judge,
        config: FetchConfig,
        nursery: trio.Nursery,
        coming: Callable[[Source], None],
        silence: Silence,
    ) -> None:
        self._line = line
        self._presence = presence
        self._room = room
        self._judge = judge
        self._config = config
        self._nursery = nursery
        self._coming = coming
        self._silence = silence
        self._scouts = Scouts(silence, config.idle_s)

    def read_ahead(self, source: Source, start: int, stop: int, pattern: ReadPattern) -> None:
        """Ask for what a reader at [start, stop) will want next, where it reads on."""
        # More than one where a window is shorter than what has to lie ahead: their latencies then pass together.
        while (span := self._ahead_span(source, start, stop, pattern)) is not None:
            self.fill(source, *span, pattern)

    def _ahead_span(self, source: Source, start: int, stop: int, pattern: ReadPattern) -> Span | None:
        comes = partial(self._presence.comes, source)
        begin = ahead_start(pattern, start, stop, source.size, comes, self._config)
        if begin is None:
            return None
        return ahead_span(
            pattern, begin, source.size, partial(self._presence.next_here, source), self._config
        )

    async def wait_bytes(
        self, transfer: Transfer, start: int, stop: int, subject: Callable[[], str]
    ) -> Octets | None:
        """Wait for bytes of a transfer as a program does; see `Transfer.wait_bytes`, and `Silence.borne`."""
        async with self._silence.borne(subject, transfer.begun_s):
            return await transfer.wait_bytes(start, stop)

    def transfer_for(self, source: Source, start: int, stop: int, pattern: ReadPattern) -> Transfer:
        """Return the transfer under way that brings the first missing byte of [start, stop) soon, else a new one."""
        missing = self._presence.first_gap(source, start)
        for transfer in reversed(self._line.active(source)):
            if transfer.delivers(missing) and transfer.reaches_soon(missing):
                return transfer
        # What a sequential reader was thought to have ahead has gone: look again from here.
        pattern.ready_stop = 0
        span = self._ahead_span(source, missing, missing + 1, pattern)
        if span is None or not span[0] <= missing < span[1]:
            next_here = partial(self._presence.next_here, source)
            span = demand_span(
                missing,
                source.size,
                next_here,
                self._config,
                head_bytes=pattern.head_bytes,
                wanted=stop - missing,
            )
        return self.fill(source, *span, pattern)

    def gap_end(self, source: Source, start: int, stop: int) -> int:
        """Return where the next block that is here begins, at most one window after `start`."""
        limit = min(stop, start + self._config.max_window_bytes)
        return min(limit, gap_end(start, limit, source.size, partial(self._presence.next_here, source)))

    def fill(
        self,
        source: Source,
        start: int,
        stop: int,
        pattern: ReadPattern | None = None,
        *,
        lowest: bool = False,
    ) -> Transfer:
        """Start a transfer into pages and the block cache; with `pattern` for that reader."""
        if checks_first(source):
            sink, start = CheckedFiller(self._room, self._judge), self._presence.first_gap(source, 0)
            transfer = self.launch(source, start, source.size, sink, whole=True)
        else:
            filler = Filler(self._room, self.fill, self._config.pace_bytes)
            transfer = self.launch(source, start, stop, filler, lowest=lowest)
        if pattern is not None:
            transfer.reader_offset = lambda: pattern.expected
            pattern.started(transfer)
        return transfer

    def launch(
        self,
        source: Source,
        start: int,
        stop: int,
        sink: Sink,
        *,
        whole: bool = False,
        lowest: bool = False,
    ) -> Transfer:
        """Start a transfer into `sink`; `whole`, `lowest` as for `Transfer`."""
        self._coming(source)
        transfer = Transfer(
            source,
            start,
            stop,
            self._config,
            self._room.nudge,
            whole=whole,
            lowest=lowest,
            scout_s=self._scouts.goes_on_s,
        )
        self._line.launch(transfer, sink, self._nursery)
        return transfer

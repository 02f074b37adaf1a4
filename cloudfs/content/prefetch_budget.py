"""What fetching ahead may cost, and which way of it is the quicker one. Pure.

Every byte that is fetched ahead is on credit until a program reads it:

    wasted + not yet read  <=  4 MiB  +  a quarter of what was read of it

so however programs behave, no more than a fifth is wasted in the long run, and 4 MiB to begin with. A folder in which
more than a fifth was wasted, and not just a few files, is left alone for a while.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from enum import Enum, auto
from typing import NamedTuple

from cloudfs.types import Ino

__all__ = ["Ledger", "Speeds", "Way"]

_MIB = 1024 * 1024

CREDIT_BYTES = 4 * _MIB
USED_PER_WASTED = 4
LEAST_BYTES = 4096
"""What a file counts for at least: it has its place in a zip, on the disk and in memory."""
MOST_AHEAD_BYTES = 32 * _MIB
"""On credit at any time: what the block cache may have to give up for it."""
UNREAD_S = 60.0
"""What nobody has read after so long is wasted. A program that reads it later finds it all the same."""
FORGET_S = 600.0
"""Half of what was read and wasted is forgotten each time: a program of an hour ago says little about the next one."""
REST_S, REST_FROM_BYTES = 600.0, 256 * 1024
"""A folder in which a fifth was wasted, and more than so much, is left alone for so long; three files opened by
somebody in a hurry waste twenty."""
MINUTE_S = 60.0
MOST_BYTES_A_MINUTE = 512 * _MIB
MOST_REQUESTS_A_MINUTE = 3000
_MOST_FOLDERS = 1000
TELLING_TIMES = 3
"""So many archives have to be slow together before they count as slow: the first one finds the server cold."""


class _Ahead(NamedTuple):
    folder: Ino
    size: int
    at: float


class _Record:
    """What became of one folder's files."""

    def __init__(self) -> None:
        self.used = self.wasted = 0
        self.rests_until = -math.inf


class Ledger:
    """Counts what was fetched ahead. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self.files = 0
        self.fetched_bytes = 0
        self.used_bytes = 0
        self.wasted_bytes = 0
        """All since the start."""
        self._ahead: OrderedDict[Ino, _Ahead] = OrderedDict()
        """On credit, the oldest first."""
        self._ahead_bytes = 0
        self._used = self._wasted = 0
        """Lately."""
        self._forgot_at = 0.0
        self._minute_at = -math.inf
        self._minute_bytes = self._minute_requests = 0
        self._folders: OrderedDict[Ino, _Record] = OrderedDict()

    @property
    def unread_bytes(self) -> int:
        """On credit now."""
        return self._ahead_bytes

    def room_bytes(self, folder: Ino, now: float) -> int:
        """Return how many bytes of a folder's files may be fetched ahead now."""
        self._tidy(now)
        record = self._folders.get(folder)
        if self._minute_requests >= MOST_REQUESTS_A_MINUTE or (record and now < record.rests_until):
            return 0
        credit = CREDIT_BYTES + self._used // USED_PER_WASTED - self._wasted
        return max(
            0,
            min(
                min(credit, MOST_AHEAD_BYTES) - self._ahead_bytes,
                MOST_BYTES_A_MINUTE - self._minute_bytes,
            ),
        )

    def take(self, ino: Ino, folder: Ino, size: int, now: float) -> None:
        """A file is being fetched ahead."""
        self.cancel(ino)
        size = max(size, LEAST_BYTES)
        self._ahead[ino] = _Ahead(folder, size, now)
        self._ahead_bytes += size
        self._minute_bytes += size
        self.files += 1
        self.fetched_bytes += size

    def cancel(self, ino: Ino) -> None:
        """It was not even asked for."""
        ahead = self._pop(ino)
        if ahead is not None:
            self.files -= 1
            self.fetched_bytes -= ahead.size

    def requested(self) -> None:
        """A request was sent for it."""
        self._minute_requests += 1

    def read(self, ino: Ino, *, here: bool) -> None:
        """A program reads a file; `here`: what was fetched ahead serves it."""
        ahead = self._pop(ino)
        if ahead is None:
            return
        if here:
            self.used_bytes += ahead.size
            self._used += ahead.size
            self._record(ahead.folder).used += ahead.size
        else:
            self._waste(ahead)

    def lost(self, ino: Ino) -> None:
        """It came, and could not be kept."""
        ahead = self._pop(ino)
        if ahead is not None:
            self._waste(ahead)

    def _pop(self, ino: Ino) -> _Ahead | None:
        ahead = self._ahead.pop(ino, None)
        if ahead is not None:
            self._ahead_bytes -= ahead.size
        return ahead

    def _waste(self, ahead: _Ahead) -> None:
        self.wasted_bytes += ahead.size
        self._wasted += ahead.size
        self._record(ahead.folder).wasted += ahead.size

    def _record(self, folder: Ino) -> _Record:
        record = self._folders.setdefault(folder, _Record())
        self._folders.move_to_end(folder)
        if len(self._folders) > _MOST_FOLDERS:
            self._folders.popitem(last=False)
        return record

    def _tidy(self, now: float) -> None:
        """Let time pass."""
        while self._ahead:
            ino, ahead = next(iter(self._ahead.items()))
            if now - ahead.at <= UNREAD_S:
                break
            self._pop(ino)
            self._waste(ahead)
            record = self._record(ahead.folder)
            if record.wasted > max(record.used // USED_PER_WASTED, REST_FROM_BYTES):
                record.rests_until = now + REST_S
        if now - self._forgot_at > FORGET_S:
            self._used //= 2
            self._wasted //= 2
            self._forgot_at = now
            for record in self._folders.values():
                record.used //= 2
                record.wasted //= 2
        if now - self._minute_at > MINUTE_S:
            self._minute_at, self._minute_bytes, self._minute_requests = now, 0, 0


class Way(Enum):
    """How small files are fetched ahead."""

    ARCHIVE = auto()
    """Many in one request."""
    SINGLE = auto()
    """Each by itself, some at the same time."""


class _Measured(NamedTuple):
    seconds: float
    """For one file."""
    times: int
    at: float


class Speeds:
    """How long one file takes on each way on this server, measured as it happens; the latest counts half."""

    def __init__(self) -> None:
        self._measured: dict[Way, _Measured] = {}
        self._refused_until = -math.inf

    def note(self, way: Way, seconds: float, files: int, now: float) -> None:
        """So many files took so long together."""
        if files:
            before = self._lately(way, now)
            each_s = seconds / files if before is None else (seconds / files + before.seconds) / 2
            self._measured[way] = _Measured(each_s, 1 + (before.times if before else 0), now)

    def seconds(self, way: Way, now: float) -> float | None:
        """Return the seconds for one file; None where that was not measured lately."""
        measured = self._lately(way, now)
        return None if measured is None else measured.seconds

    def _lately(self, way: Way, now: float) -> _Measured | None:
        measured = self._measured.get(way)
        return measured if measured is not None and now - measured.at <= FORGET_S else None

    def refuse_archives(self, now: float, for_s: float) -> None:
        """Leave archives alone for a while: the server makes none, or they fail."""
        self._refused_until = now + for_s

    def best(self, now: float) -> Way:
        """Return the quicker way: archives until they are known to be slower, and again after a while."""
        archive, single = self._lately(Way.ARCHIVE, now), self._lately(Way.SINGLE, now)
        slower = archive is not None and single is not None and archive.seconds > single.seconds
        if now < self._refused_until or (slower and archive is not None and archive.times >= TELLING_TIMES):
            return Way.SINGLE
        return Way.ARCHIVE

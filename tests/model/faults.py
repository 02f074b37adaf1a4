"""What goes wrong between client and server: scripted by number, drawn by chance, or for a span of time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

import trio

from cloudfs.errors import (
    Locked,
    NotAuthenticated,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    Unavailable,
    Unreachable,
)

__all__ = [
    "CHANGES",
    "DOUBTFUL",
    "KNOWN_SINCE_LONG",
    "WITHOUT_LATE",
    "WITH_LATE",
    "FaultKind",
    "FaultPlan",
    "Span",
]


class FaultKind(Enum):
    """What happens to one request."""

    REFUSE = auto()
    """Unreachable before the server saw it."""
    LOSE_REPLY = auto()
    """The server did it; Unreachable is all that comes back."""
    CUT = auto()
    """The body breaks off: of a download after some bytes, of an upload before the server has it all."""
    LOCKED = auto()
    """423."""
    FAULT = auto()
    """500."""
    UNAVAILABLE = auto()
    """503 with Retry-After."""
    STRANGE = auto()
    """An answer that cannot be believed (a captive portal's page)."""
    SLOW = auto()
    """Everything is well, only later."""
    THROTTLED = auto()
    """429 with Retry-After."""
    FULL = auto()
    """507 for what takes space, 500 for the rest."""
    SHORT = auto()
    """The reply has another length than it says: nothing of it can be used."""
    HANG = auto()
    """No answer until the client gives up; the server did not do it."""
    HANG_DONE = auto()
    """No answer until the client gives up; the server did it."""
    LATE = auto()
    """The connection breaks at once, and the server does it seconds later: requests outlive their connections."""
    BAD_GATEWAY = auto()
    """The server did it, and a proxy that gave up says 502: no outage, only this one request failed."""


class Span(Enum):
    """What is wrong with the whole server for a time."""

    AWAY = auto()
    """Nothing answers."""
    MAINTENANCE = auto()
    """503 to everything."""
    REFUSES_LOGIN = auto()
    """401 to everything."""
    EMPTY = auto()
    """The account looks empty, as where its storage is missing; changes are answered with 503."""


KNOWN_SINCE_LONG = tuple(FaultKind)[:8]
"""The kinds that the histories kept in test_found were found with: a seed draws from these what it drew then."""
WITH_LATE = tuple(FaultKind)[:14]
"""What the seeds of most profiles draw from; a kind that is added later shifts nothing of what they drew."""
WITHOUT_LATE = tuple(kind for kind in WITH_LATE if kind is not FaultKind.LATE)
"""All of these that leaves the order of requests as it is."""
DOUBTFUL = (
    FaultKind.BAD_GATEWAY,
    FaultKind.BAD_GATEWAY,
    FaultKind.LOSE_REPLY,
    FaultKind.HANG_DONE,
    FaultKind.REFUSE,
    FaultKind.FAULT,
    FaultKind.LOCKED,
    FaultKind.UNAVAILABLE,
    FaultKind.CUT,
)
"""Half of them are carried out all the same, and nobody can tell by the answer which."""


_BEFORE: dict[FaultKind, Callable[[str], RemoteError]] = {
    FaultKind.REFUSE: lambda path: Unreachable("connection refused", subject=path),
    FaultKind.LOCKED: lambda path: Locked("somebody uses it", subject=path, status=423),
    FaultKind.FAULT: lambda path: ServerFault("internal error", subject=path, status=500),
    FaultKind.UNAVAILABLE: lambda path: Unavailable("maintenance", subject=path, status=503, retry_after_s=2),
    FaultKind.STRANGE: lambda path: ProtocolViolation("a web page", subject=path, status=200),
    FaultKind.THROTTLED: lambda path: Unavailable(
        "too many requests", subject=path, status=429, retry_after_s=3
    ),
    FaultKind.FULL: lambda path: QuotaExceeded("no space left", subject=path, status=507),
    FaultKind.SHORT: lambda path: ProtocolViolation("the length does not fit", subject=path, status=206),
    FaultKind.HANG: lambda path: Unreachable("no answer", subject=path),
}
_SPANS: dict[Span, Callable[[str], RemoteError]] = {
    Span.AWAY: lambda path: Unreachable("connection refused", subject=path),
    Span.MAINTENANCE: lambda path: Unavailable("maintenance", subject=path, status=503, retry_after_s=20),
    Span.REFUSES_LOGIN: lambda path: NotAuthenticated("unauthorised", subject=path, status=401),
}
_TAKE_SPACE = frozenset({"put", "put_bulk", "make_folder", "copy"})
CHANGES = frozenset(
    {"put", "put_bulk", "make_folder", "move", "copy", "delete", "set_mtime", "copy_base", "have_hashed"}
)
_DOWN = frozenset({"get_range", "stream"})


@dataclass
class FaultPlan:
    """Decides what happens to the next request. Numbers count all requests of a remote from 1."""

    chance: random.Random = field(default_factory=lambda: random.Random(0))
    probability: float = 0.0
    """Of a fault drawn from `kinds`, for every request that nothing else is planned for."""
    kinds: tuple[FaultKind, ...] = KNOWN_SINCE_LONG
    happened: list[tuple[int, str, FaultKind]] = field(default_factory=list)
    _by_number: dict[int, FaultKind] = field(default_factory=dict)
    _by_method: dict[str, list[FaultKind | None]] = field(default_factory=dict)
    _until: dict[Span, float] = field(default_factory=dict)

    def at(self, number: int, kind: FaultKind) -> None:
        """Plan a fault for the request of this number."""
        self._by_number[number] = kind

    def next(self, method: str, kinds: Iterable[FaultKind | None]) -> None:
        """Plan what happens to the next requests of a method, one after the other; None: nothing."""
        self._by_method.setdefault(method, []).extend(kinds)

    def during(self, span: Span, seconds: float) -> None:
        """Have something wrong with the whole server for a time from now on."""
        self._until[span] = trio.current_time() + seconds

    def unreachable_for(self, seconds: float) -> None:
        """Answer nothing for a time from now on."""
        self.during(Span.AWAY, seconds)

    def end(self, span: Span) -> None:
        """What was wrong is over."""
        self._until.pop(span, None)

    def stop(self) -> None:
        """From now on everything is well."""
        self.probability = 0.0
        self._until.clear()
        self._by_number.clear()
        self._by_method.clear()

    def is_on(self, span: Span) -> bool:
        """Tell whether a span has not passed yet."""
        return trio.current_time() < self._until.get(span, -math.inf)

    def whole_server(self, method: str, path: str) -> RemoteError | None:
        """Return what every request is answered with at present."""
        if not self._until:
            return None
        for span, make in _SPANS.items():
            if self.is_on(span):
                return make(path)
        if self.is_on(Span.EMPTY) and method in CHANGES:
            return Unavailable("the storage is not there", subject=path, status=503, retry_after_s=5)
        return None

    def draw(self, number: int, method: str) -> FaultKind | None:
        """Return what happens to this request."""
        kind = self._planned(number, method)
        if kind is not None:
            self.happened.append((number, method, kind))
        return kind

    def _planned(self, number: int, method: str) -> FaultKind | None:
        if number in self._by_number:
            return self._by_number.pop(number)
        if self._by_method.get(method):
            return self._by_method[method].pop(0)
        if self.probability and self.chance.random() < self.probability:
            return _fitting(self.chance.choice(self.kinds), method)
        return None


def _fitting(kind: FaultKind, method: str) -> FaultKind:
    """Return the kind, or what comes nearest to it where a request of this method knows no such thing."""
    if kind is FaultKind.FULL and method not in _TAKE_SPACE:
        return FaultKind.FAULT
    if kind is FaultKind.SHORT and method not in _DOWN:
        return FaultKind.STRANGE
    if kind is FaultKind.LATE and method not in CHANGES:
        return FaultKind.REFUSE
    return kind


def error_before(kind: FaultKind | None, path: str) -> RemoteError | None:
    """Return the error of a request that the server did not carry out."""
    make = None if kind is None else _BEFORE.get(kind)
    return None if make is None else make(path)


def lost_reply(path: str) -> RemoteError:
    """Return the error of a request whose reply did not come."""
    return Unreachable("the connection was closed without an answer", subject=path)

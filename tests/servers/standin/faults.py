"""Faults: what goes wrong with which request."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.servers.standin.log import Record
from tests.servers.standin.messages import BodyCutError, Request, Response
from tests.servers.standin.wire import ConnectionBrokenError, Delivery

Execute = Callable[[Request], Response]

CAPTIVE_PORTAL = (
    b"<!DOCTYPE html><html><head><title>Welcome</title></head>"
    b"<body><h1>Please log in to the network</h1></body></html>"
)
"""What a hotel's network answers instead of the server."""


@dataclass(frozen=True)
class Answer:
    """Answer with this instead of executing the request. The request's body is read and thrown away."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delay:
    """Execute after this many seconds, or when the rule is released."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Wait for `Rule.release`; ``after_execution`` waits with the answer ready, else before executing."""

    after_execution: bool = False


@dataclass(frozen=True)
class BlackHole:
    """Never answer; the connection breaks when the rule is released or the server stops."""

    after_execution: bool = False


@dataclass(frozen=True)
class Drop:
    """Break the connection before the request is executed; ``reset`` by RST."""

    reset: bool = False


@dataclass(frozen=True)
class LoseReply:
    """Execute the request, then break the connection without an answer."""

    reset: bool = False


@dataclass(frozen=True)
class CutResponse:
    """Execute, send the header and this many bytes of the body, then break the connection."""

    after_bytes: int


@dataclass(frozen=True)
class CutUpload:
    """Break the connection after this many bytes of the request's body came in.

    What that leaves behind depends on the front end: nothing, or a truncated file (protocol.md §6).
    """

    after_bytes: int


@dataclass(frozen=True)
class WrongLength:
    """Execute and send everything, under a Content-Length that is wrong by this many bytes."""

    by: int


@dataclass(frozen=True)
class Spoil:
    """Execute, and change one byte of the body on its way: always alike by `by`, or with 0 differently each time."""

    at: int = 0
    by: int = 1


Action = Answer | Delay | Hold | BlackHole | Drop | LoseReply | CutResponse | CutUpload | WrongLength | Spoil


class Rule:
    """An action and the requests it hits. ``hits`` counts them."""

    def __init__(
        self,
        action: Action,
        *,
        method: str | None = None,
        path: str | None = None,
        predicate: Callable[[Record], bool] | None = None,
        call: int | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        self.action = action
        self.hits = 0
        self._method = method
        self._path = re.compile(path) if path is not None else None
        self._predicate = predicate
        self._call = call
        self._first = nth
        self._times = times
        self._seen = 0
        self._hit = threading.Event()
        self._released = threading.Event()

    def applies(self, record: Record) -> bool:
        """Count the request in when it matches, and say whether it is one of those to hit."""
        if not self._matches(record):
            return False
        self._seen += 1
        if self._seen < self._first or (self._times is not None and self.hits >= self._times):
            return False
        self.hits += 1
        return True

    def _matches(self, record: Record) -> bool:
        return (
            self._method in (None, record.method)
            and (self._path is None or self._path.search(record.path) is not None)
            and self._call in (None, record.number)
            and (self._predicate is None or self._predicate(record))
        )

    def wait_hit(self, timeout_s: float = 10.0) -> bool:
        """Wait until a request has been hit; for holds: until it is being held."""
        return self._hit.wait(timeout_s)

    def release(self) -> None:
        """Let every request go on that the rule holds back, now and later."""
        self._released.set()

    def _pause(self, seconds: float | None = None) -> None:
        self._hit.set()
        self._released.wait(seconds)

    def apply(self, request: Request, execute: Execute) -> tuple[Response, Delivery]:
        """Do to the request what the action says."""
        action = self.action
        if isinstance(action, Answer):
            self._hit.set()
            return Response(
                action.status, list(action.headers.items()), action.body, len(action.body)
            ), Delivery()
        if isinstance(action, Drop):
            self._hit.set()
            _break(request, reset=action.reset)
        if isinstance(action, CutUpload):
            request.body.cut_after = action.after_bytes
        if isinstance(action, Delay):
            self._pause(action.seconds)
        if isinstance(action, Hold | BlackHole) and not action.after_execution:
            self._pause()
            if isinstance(action, BlackHole):
                _break(request)
        try:
            response = execute(request)
        except BodyCutError:
            self._hit.set()
            raise
        return self._apply_after(request, response)

    def _apply_after(self, request: Request, response: Response) -> tuple[Response, Delivery]:
        action = self.action
        delivery = Delivery()
        if isinstance(action, Hold | BlackHole) and action.after_execution:
            self._pause()
        self._hit.set()
        if isinstance(action, LoseReply):
            response.close()
            _break(request, reset=action.reset)
        if isinstance(action, BlackHole):
            response.close()
            _break(request)
        if isinstance(action, CutResponse):
            delivery.cut_after = action.after_bytes
        if isinstance(action, Spoil):
            response.body = _Spoiled(response.body, action.at, action.by or self.hits % 255 + 1)
        if isinstance(action, WrongLength):
            length = response.length
            if length is None:
                length = len(response.body) if isinstance(response.body, bytes) else 0
            delivery.length = max(0, length + action.by)
        return response, delivery


class _Spoiled:
    """A body with one byte changed."""

    def __init__(self, body: bytes | Iterable[bytes], at: int, by: int) -> None:
        self._body = body
        self._at = at
        self._by = by

    def __iter__(self) -> Iterator[bytes]:
        position = 0
        for block in [self._body] if isinstance(self._body, bytes) else self._body:
            index = self._at - position
            position += len(block)
            if 0 <= index < len(block):
                yield block[:index] + bytes([block[index] ^ self._by]) + block[index + 1 :]
            else:
                yield block

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _break(request: Request, *, reset: bool = False) -> None:
    request.disconnect(reset=reset)
    raise ConnectionBrokenError


class Faults:
    """The rules in force. The first that applies to a request is the one that hits it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._rules: list[Rule] = []

    def add(
        self,
        action: Action,
        *,
        method: str | None = None,
        path: str | None = None,
        predicate: Callable[[Record], bool] | None = None,
        call: int | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> Rule:
        """Put a rule in force.

        It hits requests of ``method`` whose decoded path contains the regular expression ``path``, for which
        ``predicate`` is true, and whose number since the log's last reset is ``call``: among those, ``times``
        (``None``: all) from the ``nth`` on.
        """
        rule = Rule(action, method=method, path=path, predicate=predicate, call=call, nth=nth, times=times)
        with self._mutex:
            self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """End a rule and release what it holds."""
        with self._mutex:
            if rule in self._rules:
                self._rules.remove(rule)
        rule.release()

    def clear(self) -> None:
        """End all rules and release what they hold."""
        with self._mutex:
            rules, self._rules = self._rules, []
        for rule in rules:
            rule.release()

    def match(self, record: Record) -> Rule | None:
        """The rule that hits this request."""
        with self._mutex:
            return next((rule for rule in self._rules if rule.applies(record)), None)

"""The boundary around every kernel request: a deadline, one errno per error, a count.

pyfuse3 ends the whole mount when a handler raises anything but FUSEError (design.md §7), and a handler
that never returns leaves a program in a state that not even SIGKILL ends. Neither gets past here.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import msgspec
import pyfuse3
import trio

from cloudfs.errors import errno_of

__all__ = ["Boundary", "Requests", "answered", "unanswered"]

log = logging.getLogger(__name__)

_CROWD = 1000
_CROWDED_S = 1.0
"""Where more than so many requests are at work, further ones that may wait for the server do so no longer: what needs
no network would find no free task in the end (`mount._MOST_REQUESTS`)."""
_MAY_WAIT = frozenset({"create", "lookup", "open", "opendir", "read", "setattr"})

P = ParamSpec("P")
R = TypeVar("R")


class Requests(msgspec.Struct, frozen=True):
    """How many requests there were since the mount began."""

    in_flight: int
    by_name: Mapping[str, int]
    by_errno: Mapping[str, int]
    """Errors given to programs, by errno's name; ENOENT of a lookup is an everyday answer."""
    timed_out: int
    unexpected: int
    """Exceptions that nobody expected: each is a bug, and in the log with its traceback."""


class Boundary:
    """The deadline and the counters that all requests of one mount share."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._in_flight = 0
        self._by_name: Counter[str] = Counter()
        self._by_errno: Counter[int] = Counter()
        self._timed_out = 0
        self._unexpected = 0

    def statistics(self) -> Requests:
        """Return the counters as they are now."""
        return Requests(
            in_flight=self._in_flight,
            by_name=dict(self._by_name),
            by_errno={errno.errorcode.get(code, str(code)): n for code, n in self._by_errno.items()},
            timed_out=self._timed_out,
            unexpected=self._unexpected,
        )

    async def run(self, name: str, handler: Awaitable[R], left_s: float = math.inf) -> R:
        """Await the handler, for `left_s` at most; raises FUSEError, or trio.Cancelled when the mount itself ends."""
        self._by_name[name] += 1
        self._in_flight += 1
        deadline_s = min(self._deadline_of(name), left_s)
        try:
            with trio.move_on_after(deadline_s):
                return await handler
        except pyfuse3.FUSEError as error:
            self._by_errno[error.errno] += 1
            raise
        except Exception as error:
            raise self._fuse_error(name, error) from error
        except BaseExceptionGroup as group:
            # A cancelled nursery may carry a real error beside Cancelled: log it, let only Cancelled go on.
            cancelled, rest = group.split(trio.Cancelled)
            if rest is not None:
                self._log_unexpected(name, rest)
            raise cancelled or group from None
        finally:
            self._in_flight -= 1
        self._timed_out += 1
        self._by_errno[errno.ETIMEDOUT] += 1
        if deadline_s:
            log.warning("%s was not answered within %.3g s: ETIMEDOUT", name, deadline_s)
        raise pyfuse3.FUSEError(errno.ETIMEDOUT)

    def _deadline_of(self, name: str) -> float:
        if self._in_flight > _CROWD and name in _MAY_WAIT:
            return min(_CROWDED_S, self.deadline_s)
        # A failed read-ahead is asked for once more by the kernel before the program gets its answer.
        return self.deadline_s / 2 if name == "read" else self.deadline_s

    def _fuse_error(self, name: str, error: Exception) -> pyfuse3.FUSEError:
        code = _expected_errno(error)
        if code is None:
            self._log_unexpected(name, error)
            code = errno.EIO
        elif code == errno.EIO:
            log.warning("%s failed: %s", name, error)
        self._by_errno[code] += 1
        return pyfuse3.FUSEError(code)

    def _log_unexpected(self, name: str, error: BaseException) -> None:
        self._unexpected += 1
        log.error("%s failed unexpectedly", name, exc_info=error)


def _expected_errno(error: BaseException) -> int | None:
    """Return the errno of an expected error; a group counts as expected when all its members are."""
    if not isinstance(error, BaseExceptionGroup):
        return errno_of(error)
    codes = [_expected_errno(member) for member in error.exceptions]
    return codes[0] if None not in codes else None


class _Bounded(Protocol):
    """Whoever has requests to guard."""

    @property
    def boundary(self) -> Boundary: ...


S = TypeVar("S", bound=_Bounded)


def answered(
    handler: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Put a handler behind its object's boundary: it returns, raises FUSEError, or is cancelled."""
    name = getattr(handler, "__name__", "request").strip("_")

    @functools.wraps(handler)
    async def request(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.boundary.run(name, handler(self, *args, **kwargs))

    return request


def unanswered(
    handler: Callable[Concatenate[S, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, None]]:
    """Like `answered` for requests whose errors nobody can see: they are logged and counted, not raised."""
    guarded = answered(handler)

    @functools.wraps(handler)
    async def request(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await guarded(self, *args, **kwargs)
        except pyfuse3.FUSEError as error:
            log.info("%s failed: %s", getattr(handler, "__name__", "request"), error)

    return request

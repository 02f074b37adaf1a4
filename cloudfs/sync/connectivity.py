"""Whether the server can be asked at all: one owner of that fact for the whole account."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum

import trio

from cloudfs.errors import (
    NotAuthenticated,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    StorageAway,
    Throttled,
    TlsRejected,
    Unavailable,
    Unreachable,
)
from cloudfs.remote.silence import Silence
from cloudfs.sync.standstill import Standstill

__all__ = ["Connectivity", "State", "is_outage"]

_log = logging.getLogger(__name__)

_FIRST_S, _LONGEST_S = 1.0, 30.0
_FAULTS = 3
"""So many errors of the server in a row are no longer about one file: a read is tried as often."""
_PROVEN_S = 10.0
"""So long after an answer the login still counts as good: it may be withdrawn at any time."""
_PATIENCE_S, _LONG_PATIENCE_S = 2.0, 15.0
"""So long others wait for the request that proves it again, where somebody waits for them, and where nobody does.
A refusal takes Nextcloud half a second to 1.4 s, and several seconds under load (measured)."""


class State(Enum):
    """What `cloudfs status` shows."""

    ONLINE = "online"
    FAILING = "failing"
    """It answers, with nothing but errors."""
    OFFLINE = "offline"
    MAINTENANCE = "maintenance"
    NEEDS_LOGIN = "needs-login"
    NO_KEYRING = "waiting for the keyring"
    """The password is where nobody can read it yet; to programs that is as if the server were away."""
    THROTTLED = "throttled"
    """It asks to be left alone for a while, by 429."""


class Connectivity:
    """Learns from every request's outcome; nobody pings the server for it.

    During an outage the worker sends one step at a time, at `next_try` or later, to find out whether it is over.
    `returned` is called when it is.
    """

    def __init__(
        self,
        returned: Callable[[], None],
        left_alone: Callable[[], None] = lambda: None,
        *,
        withheld: tuple[State, str] | None = None,
    ) -> None:
        """`withheld`: see `withhold`."""
        self.state = State.ONLINE
        self.reason = ""
        self.since: float | None = None
        """Unix s: when this state began; None: it is as it should be."""
        self._faults = 0
        """Errors of the server in a row."""
        self._faulty_since = 0.0
        self.next_try = 0.0
        """trio time before which background work leaves the server alone."""
        self.standstill = Standstill()
        self.silence = Silence()
        self.login_refused, self.login_is_good = trio.Event(), trio.Event()
        """Set while that is so; each replaced when it no longer is."""
        self._failures = 0
        self._returned = returned
        self._left_alone = left_alone
        """Told when nothing is to be sent for a while."""
        self._refusals = 0
        """How often the login was refused, or replaced by another."""
        self._withheld = False
        """There is no password to log in with."""
        self._untrusted = False
        self._doubtful = False
        """The login was refused, and no request was answered since."""
        self._trying: trio.Event | None = None
        """Whether a request is under way that shows what the login is worth, and when it is over."""
        self._proven_at = float("-inf")
        """trio time of the last answer."""
        if withheld is not None:
            self.withhold(*withheld)

    @property
    def online(self) -> bool:
        """The last request was answered well, or none was sent yet."""
        return self.state is State.ONLINE

    @property
    def untrusted(self) -> bool:
        """It is offline as the server's certificate is not trusted, or has none of the pinned keys."""
        return self._untrusted and self.state is State.OFFLINE

    @property
    def unproven(self) -> bool:
        """The server is thought to be there, and has not been heard of for a while."""
        return self.online and trio.current_time() - self._proven_at >= _PROVEN_S

    def succeeded(self) -> None:
        """A request was answered by the server, be it with a refusal."""
        self.silence.heard()
        self.standstill.answered()
        self._login_is(good=True)
        self._proven_at = trio.current_time()
        self._faults = 0
        if self.online:
            return
        _log.info("the server answers again")
        self._doubtful = False
        self.state, self.reason, self.since = State.ONLINE, "", None
        self._failures, self.next_try = 0, 0.0
        self._returned()

    def refused(self) -> None:
        """The login was just refused: nothing more is sent, though who asked has not even read why."""
        if self.state is not State.NEEDS_LOGIN:
            self.failed(NotAuthenticated("the server refused the login", status=401))

    def failed(self, error: RemoteError) -> None:
        """A request failed; only failures of the server as a whole make an outage."""
        state = _state_after(error)
        if not isinstance(error, Unreachable):
            self.silence.heard()
        if self.state is State.NEEDS_LOGIN and state is not self.state:
            return  # only another try, or another login, ends this
        if state is None:
            if _is_fault(error):
                self._faulty(error)
            else:
                self.succeeded()
            return
        begins = state is not self.state
        self._enter(state, error, time.time())
        if state is State.NEEDS_LOGIN:
            self._refusals += 1
            self._doubtful = True
            self._login_is(good=False)
        if state is State.THROTTLED:
            self._refusals += 1  # what was let in before says nothing about how long it lasts
        self.standstill.failed(error)
        self._failures += 1
        wait_s = min(_FIRST_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_S) * random.uniform(0.5, 1.0)  # noqa: S311
        self.next_try = trio.current_time() + max(wait_s, error.retry_after_s or 0.0)
        self.next_try = max(self.next_try, self.standstill.until())
        if begins and self.standstill.until() > trio.current_time():
            self._left_alone()

    def withhold(self, state: State, reason: str) -> None:
        """There is no password that could be sent: nothing is, until `logged_in`. Before the first request only."""
        if (state, reason) == (self.state, self.reason):
            return
        _log.info("%s: %s", state.value, reason)
        self.since = time.time() if state is not self.state else self.since
        self.state, self.reason = state, reason
        self._withheld, self.next_try = True, float("inf")

    def _login_is(self, *, good: bool) -> None:
        if good:
            self.login_is_good.set()
            self.login_refused = _unset(self.login_refused)
        else:
            self.login_refused.set()
            self.login_is_good = _unset(self.login_is_good)

    def explain(self, reason: str) -> None:
        """Say better why it is as it is."""
        if not self.online:
            self.reason = reason

    def reopen(self) -> None:
        """What the server asked for is over: let everybody go on, and the next request find out."""
        self.standstill.reopen()
        self.next_try = self.standstill.until()
        self._returned()

    def _faulty(self, error: RemoteError) -> None:
        """It answers, but with an error of its own. One file may have such a thing; that all have it is to be shown.

        Each change goes on being tried by itself, one at a time: what is asked for may just be what is broken.
        """
        if self.state not in {State.ONLINE, State.FAILING}:
            self.succeeded()
        if not self._faults:
            self._faulty_since = time.time()
        self._faults += 1
        if self._faults >= _FAULTS:
            self._enter(State.FAILING, error, self._faulty_since)

    def _enter(self, state: State, error: RemoteError, since: float) -> None:
        if state is not self.state:
            _log.info("%s: %s", state.value, error)
            self.since = since
        # Of which file it was is no matter where it is about the account.
        self.state, self.reason = state, str(error) if state is State.FAILING else error.message
        self._untrusted = isinstance(error, TlsRejected)

    def try_now(self) -> None:
        """Somebody waits, or the network changed: let the next request find out, where the server allows it."""
        self.silence.forget()
        self.standstill.reopen()
        if self._withheld:
            return
        self.next_try = self.standstill.until()
        if self.state in {State.NEEDS_LOGIN, State.NO_KEYRING}:
            self.state = State.OFFLINE

    def logged_in(self) -> None:
        """There is a new login: let the next request find out what it is worth, and everybody go on.

        What becomes of the requests under way, sent with the old one, says nothing about it.
        """
        self._refusals += 1
        self._withheld = False
        self._login_is(good=True)
        if self._trying is not None:
            self._trying.set()
            self._trying = None
        self.try_now()
        self._returned()

    @asynccontextmanager
    async def asking(self, *, patient: bool = False) -> AsyncIterator[Callable[[], None]]:
        """Be around one request; what is handed out is called once it was answered well.

        Raises NotAuthenticated instead of sending anything after a refused login. Once somebody asked for another
        try, requests go one at a time until one is answered: no two failing logins are ever under way together.
        The first request after a while goes ahead of the others for the same reason, but they wait for a moment only,
        or, `patient`, for a little longer.
        """
        self.check_login()
        while self._doubtful and self._trying is not None:
            await self._trying.wait()
            self.check_login()
        if self._trying is not None and self.unproven:
            with trio.move_on_after(_LONG_PATIENCE_S if patient else _PATIENCE_S):
                await self._trying.wait()
            self.check_login()
        trying: trio.Event | None = None
        if self._doubtful or (self._trying is None and self.unproven):
            trying = self._trying = trio.Event()
        began = self._refusals

        def answered() -> None:
            if began == self._refusals:
                self.succeeded()

        try:
            yield answered
        except RemoteError as error:
            # What became of a request that was sent before the login was refused says nothing about what is now.
            if began == self._refusals:
                self.failed(error)
            raise
        finally:
            if trying is not None:
                trying.set()
                if self._trying is trying:
                    self._trying = None

    def check_login(self) -> None:
        """Raise what keeps a request from being sent: each failed login slows everybody down."""
        if self.state is State.NEEDS_LOGIN:
            what = self.reason if self._withheld else "the server refused the login"
            raise NotAuthenticated(f"{what}; log in again with `cloudfs login`")
        if self.state is State.NO_KEYRING:
            raise Unreachable("waiting for the keyring")
        self.standstill.check()


def _unset(event: trio.Event) -> trio.Event:
    """Return an event that is not set; the same one where somebody may be waiting for it."""
    return trio.Event() if event.is_set() else event


def is_outage(error: RemoteError) -> bool:
    """Tell whether the failure says nothing about the one object that was asked for."""
    return _state_after(error) is not None


def _is_fault(error: RemoteError) -> bool:
    """Tell whether the server, or what stands before it, did not do its work; a refusal is an answer.

    One storage inside the account that is down says nothing about the account.
    """
    if isinstance(error, StorageAway):
        return False
    server_fault = isinstance(error, ServerFault) and (error.status or 500) >= 500
    return server_fault or isinstance(error, ProtocolViolation)


def _state_after(error: RemoteError) -> State | None:
    match error:
        case NotAuthenticated():
            return State.NEEDS_LOGIN
        case Throttled():
            return State.THROTTLED
        case Unavailable():
            return State.MAINTENANCE
        case Unreachable():
            return State.OFFLINE
    return None

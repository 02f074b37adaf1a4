"""Who a request says that it comes from: the account's session, or its password.

A password that was withdrawn slows the server down for everybody behind the same address, once for each request that
brings it (protocol.md §11). A session that has ended costs nothing: it is refused after 40 ms, and counted nowhere.
SOURCE: measured on Nextcloud 29.0.1; in its User/Session.php only `logClientIn`, which compares passwords, counts.

So where a Nextcloud has begun a session, that speaks alone, and where it is refused one request goes again with the
password. What becomes of that tells for all of them. Only a short request that is alone on its way brings the password
at once: it would be the one.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol

import msgspec
import trio

from cloudfs.remote.cookies import Cookies
from cloudfs.remote.exchange import READS, Lane, Reply, Request

__all__ = ["Identity"]

_PATIENCE_S = 5.0
"""So long others wait for the request that tries the password, from its start, and that one for those that have brought
it before: a refusal takes Nextcloud half a second to 1.4 s, and several seconds under load (measured)."""
_MOST_REFUSALS = 2
"""So often in a row a session may be refused and the password taken before it no longer speaks alone: something before
the server asks for the password each time, or several servers do not know each other's sessions."""


class _Send(Protocol):
    def __call__(self, request: Request, /, *, with_password: bool) -> Awaitable[Reply]: ...


class _Try:
    """A request that tries the password after a session was refused."""

    def __init__(self) -> None:
        self.since = trio.current_time()
        self.over = trio.Event()
        """Nobody is to wait for it any more."""
        self.told = False
        """As it is known what the password is worth."""


class Identity:
    """One login to one server, and the session that it began."""

    def __init__(self, refused: Callable[[], None]) -> None:
        """`refused`: called at once when the password in use is refused."""
        self.cookies = Cookies()
        self.sessions_die = True
        """A session that has ended may get 401 although the password, sent with it, is good."""
        self.sessions_speak = False
        """What a session may do it may do without the password."""
        self._tell_refused = refused
        self._try: _Try | None = None
        self._tries = 0
        self._refused, self._refusals = False, 0
        """Whether the last that was heard of the password is that it is refused; and how often it was."""
        self._logins = 0
        """How often it was replaced by another."""
        self._sessions = 0
        """How often a session was dropped as it was refused."""
        self._wrongly_refused = 0
        """Sessions in a row that were refused, and the password was not."""
        self._under_way = self._brought = 0
        """Requests that have no answer yet, and those of them that brought the password."""
        self._answered = trio.Event()
        """Set when one of them has one, and replaced."""

    async def send(self, request: Request, send: _Send) -> Reply:
        """Have a request sent as it is to be, twice where its session has ended."""
        await self._is_told(_PATIENCE_S)  # whether this one is worth sending
        with_session = request.lane is not Lane.BULK and bool(len(self.cookies))
        alone = with_session and self._speaks_alone(request)
        login, session, refusals, tries = self._logins, self._sessions, self._refusals, self._tries
        with self._asking(brought=not alone):
            first = msgspec.structs.replace(request, follow=False) if alone else request
            reply = await send(first, with_password=not alone)
        if alone and _is_strange_page(reply) and request.method not in READS:
            self._wrongly_refused += 1  # perhaps; but a change is not sent twice where it may have been done
            return reply
        if not (_may_be_a_stranger_s(reply) if alone else reply.status == 401):
            if alone:
                self._wrongly_refused = 0
            self._was_taken(refusals, tries)  # a session ends with its password
            return reply
        refusal = reply
        again = alone or (with_session and self.sessions_die and request.tells_of_login)
        if again:
            reply = await self._try_password(request, send, refusal, session, alone=alone)
        tried = reply is not refusal or not again
        if reply.status == 401 and tried and login == self._logins and request.tells_of_login:
            self._refuse()
        return reply

    def _speaks_alone(self, request: Request) -> bool:
        if not self.sessions_speak or self._wrongly_refused >= _MOST_REFUSALS:
            return False
        if not request.by_session or not request.tells_of_login:
            return False
        return self._under_way > 0 or request.lane is not Lane.METADATA

    async def _try_password(
        self, request: Request, send: _Send, refusal: Reply, session: int, *, alone: bool
    ) -> Reply:
        """Send again what a session was refused; return the refusal itself where the password was refused meanwhile.

        One request at a time does that until one is answered; where it fails, it fails for all.
        """
        until = trio.current_time() + _PATIENCE_S
        try:
            # An upload may take minutes. Only others like it wait for that to the end, which nobody waits for.
            told = await self._is_told(math.inf if request.lane is Lane.UPLOADS else _PATIENCE_S)
            with nullcontext() if told else self._being_tried() as this:
                if this is not None:
                    await self._wait_for_others(until)
                    this.since = trio.current_time()
                if self._refused and refusal.status == 401:
                    return refusal
                return await self._send_again(request, send, refusal, session, alone=alone)
        except BaseException:
            await refusal.aclose()  # again is no harm
            raise

    async def _send_again(
        self, request: Request, send: _Send, refusal: Reply, session: int, *, alone: bool
    ) -> Reply:
        await refusal.aclose()
        is_first = session == self._sessions
        if is_first or not self.sessions_speak:
            self.forget_session()
        login, refusals, tries = self._logins, self._refusals, self._tries
        with self._asking(brought=True):
            reply = await send(request, with_password=True)
        if reply.status != 401:
            # What answers both the same has nothing against the session.
            self._wrongly_refused += alone and is_first and not _may_be_a_stranger_s(reply)
            self._was_taken(refusals, tries)
        elif login == self._logins:
            self._refused, self._refusals = True, self._refusals + 1
            self._tell()
        return reply

    async def _is_told(self, patience_s: float) -> bool:
        """Wait for who tries the password, but no longer than so long after it was sent; tell whether it is known then.

        That is so when anybody was answered who was sent since.
        """
        told = False
        while this := self._try:
            with trio.move_on_at(this.since + patience_s):
                await this.over.wait()
            told = this.told
            if not this.over.is_set() and trio.current_time() >= this.since + patience_s:
                break
        return told

    @contextmanager
    def _being_tried(self) -> Iterator[_Try]:
        if self._try is not None:
            self._try.over.set()  # who waits for that waits for this one instead
        self._tries += 1
        this = self._try = _Try()
        try:
            yield this
        finally:
            this.over.set()
            if self._try is this:
                self._try = None

    def _was_taken(self, refusals: int, tries: int) -> None:
        """The password is good, for all that was known as this was sent."""
        if refusals == self._refusals:
            self._refused = False
        if tries == self._tries:
            self._tell()

    def _tell(self) -> None:
        """It has just turned out what the password is worth."""
        if self._try is not None:
            self._try.told = True
            self._try.over.set()
            self._try = None

    @contextmanager
    def _asking(self, *, brought: bool) -> Iterator[None]:
        self._under_way += 1
        self._brought += brought
        try:
            yield
        finally:
            self._under_way -= 1
            self._brought -= brought
            self._answered.set()
            self._answered = trio.Event()

    async def _wait_for_others(self, until: float) -> None:
        if not self.sessions_speak:
            return  # there all of them bring it
        with trio.move_on_at(until):
            while self._brought:
                await self._answered.wait()

    def _refuse(self) -> None:
        self._refused, self._refusals = True, self._refusals + 1
        self.forget_session()  # whatever it had to do with it, the next try is without
        self._tell()
        self._tell_refused()

    def log_in(self) -> None:
        """There is another password from now on."""
        self._refused = False
        self._logins += 1
        self._wrongly_refused = 0
        self.forget_session()

    def forget_session(self) -> None:
        """Drop all cookies."""
        self._sessions += 1
        self.cookies.clear()


def _may_be_a_stranger_s(reply: Reply) -> bool:
    """Tell whether it may be the answer to somebody who did not say who they are.

    What stands before the server may send those to a page of its own who do not bring a password, or away.
    """
    away = reply.status == 403 and "xml" not in reply.headers.get("Content-Type", "")
    elsewhere = 300 <= reply.status < 400 and reply.status != 304
    return reply.status == 401 or away or elsewhere or _is_strange_page(reply)


def _is_strange_page(reply: Reply) -> bool:
    """Tell whether it is a page, and none of the server's own.

    Those have its number of the request (of a folder, 29.0.1, measured), or an ETag (files).
    """
    if reply.status != 200 or not reply.headers.get("Content-Type", "").lower().startswith("text/html"):
        return False
    return "ETag" not in reply.headers and "X-Request-Id" not in reply.headers

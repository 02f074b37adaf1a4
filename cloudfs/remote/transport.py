"""Requests to one server: one identity, one cookie jar, lanes that cannot starve each other.

- Credentials go to the origin of the account and nowhere else: a redirect is followed on that origin only, and only
  for reads. They never appear in a repr, a log line or an error.
- One cookie jar per `Transport`: on Nextcloud a session cookie beats the Authorization header, so a jar shared
  between accounts mixes them up (protocol.md, rule 2). With cookies a request costs a third less (§11), and needs no
  password, which is withheld then: see `identity`.
- All errors are `RemoteError`s. Nothing is repeated here but a request whose session cookie may have died (401), which
  the server did not act on.
- Once the login itself is refused, whoever is told by `refused` holds back what was not sent (`admit`), and what can be
  cut off on its way is: each further refusal makes the server slower for everybody behind the same address.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import metadata

import httpx
import msgspec
import trio
from httpx import USE_CLIENT_DEFAULT

from cloudfs.errors import ProtocolViolation, Unreachable
from cloudfs.remote.bodies import Upload, Whole
from cloudfs.remote.cookies import no_cookies
from cloudfs.remote.exchange import READS, Lane, Reply, Request, WholeReply
from cloudfs.remote.failures import NETWORK_ERRORS, error_of_exception
from cloudfs.remote.hrefs import origin_of
from cloudfs.remote.identity import Identity
from cloudfs.remote.limiting import Meter, Traffic
from cloudfs.remote.onego import MOST_BYTES
from cloudfs.remote.proxies import proxy_for
from cloudfs.remote.tally import Tally
from cloudfs.remote.values import http_date_s
from cloudfs.remote.wire import WireTransport

__all__ = ["Limits", "Transport", "default_user_agent"]

_log = logging.getLogger(__name__)

_MAX_REDIRECTS = 3


def default_user_agent() -> str:
    """Return cloudfs/VERSION, also from a tree that was never installed."""
    try:
        return f"cloudfs/{metadata.version('cloudfs')}"
    except metadata.PackageNotFoundError:
        return "cloudfs/0"


class Limits(msgspec.Struct, frozen=True):
    """Time-outs in seconds by trio's clock, and how much may happen at once."""

    connect_s: float = 5.0
    read_s: float = 10.0
    """Longest silence while an answer to a read is awaited or comes in."""
    login_s: float = 0.0
    """The same while there is no session, where that is longer; for Nextcloud, see `files`."""
    change_s: float = 60.0
    """Longest silence after a change was sent: the server may move many files or assemble a large one."""
    tree_s: float = 30.0
    """A whole tree: it is computed to the end before its first byte (protocol.md §4.1), 5,000 objects in 0.9 s."""
    attempt_s: float = 12.0
    """One small read with all its tries: below the 15 s in which the kernel gets its answer."""
    listing_s: float = 120.0
    """One folder, however large."""
    slowest_bytes_per_s: int = 32 * 1024
    """Bodies of known size get this much more time."""
    reply_bytes: int = 4 * 1024 * 1024
    """Largest reply that is read whole."""
    whole_bytes: int = 64 * 1024 * 1024
    """New files up to this size go in one request: in pieces 50 MiB take twice as long (protocol.md §7)."""
    one_go_bytes: int = MOST_BYTES
    """New files up to this size do so where the line is known to be quick (`onego`)."""
    piece_bytes: int = 16 * 1024 * 1024
    """First piece of a large upload, longer on a line that is known to be quick; later ones adapt to their time."""
    metadata_lane: int = 6
    ranges_lane: int = 4
    streams_lane: int = 6
    uploads_lane: int = 4
    bulk_lane: int = 2
    idle_s: float = 30.0
    """A connection unused for so long is not trusted any more."""


class _Asked:
    """One request on its way: its number, which the server hears too, and when it began."""

    def __init__(self, request: Request, number: str) -> None:
        self.number = number
        self._request = request
        self._began = time.monotonic()

    def ended(self, tally: Tally, outcome: str, told: str = "", theirs: str = "") -> None:
        """Count it, and say what was asked and how it went; never of headers, which have the credentials.

        `theirs`: what the server calls it. SOURCE: Nextcloud 29, RequestIdHeaderPlugin: the `reqId` of nextcloud.log.
        """
        took_s = time.monotonic() - self._began
        method, subject = self._request.method, self._request.subject
        tally.note(method, outcome, took_s)
        if _log.isEnabledFor(logging.DEBUG):
            called = f", there {theirs[:64]}" if theirs else ""
            message = "[%s%s] %s %s: %s after %.0f ms"
            extra = {"request_id": self.number, "path": subject}
            _log.debug(
                message, self.number, called, method, subject, told or outcome, took_s * 1e3, extra=extra
            )


class Transport:
    """The way to one origin with one identity."""

    def __init__(
        self,
        url: str,
        auth: httpx.Auth | None,
        *,
        tls: ssl.SSLContext,
        limits: Limits | None = None,
        user_agent: str | None = None,
        traffic: Traffic | None = None,
        wire: Callable[[Lane], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.traffic = traffic or Traffic()
        self._series = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        """Each request is told apart by both, in our log and in that of whoever answers."""
        self._origin = origin_of(url)
        self.clock_skew_s = 0.0
        """How far the server's clock is ahead of ours, as its last reply told, to a second or so."""
        self.identity = Identity(self._cut_off)
        self.admit: Callable[[], None] = lambda: None
        """Asked right before each request is sent; raises what holds it back."""
        self.refused: Callable[[], None] = lambda: None
        """Called at once when the login in use is refused."""
        self._severable: dict[Upload, trio.CancelScope] = {}
        """Bodies on their way that may be cut."""
        sizes = {
            Lane.METADATA: self.limits.metadata_lane,
            Lane.RANGES: self.limits.ranges_lane,
            Lane.STREAMS: self.limits.streams_lane,
            Lane.UPLOADS: self.limits.uploads_lane,
            Lane.BULK: self.limits.bulk_lane,
        }
        self._slots = {lane: trio.Semaphore(size) for lane, size in sizes.items()}
        self._wires: list[WireTransport] = []
        self._proxy = proxy_for(url)
        self._clients = {
            lane: httpx.AsyncClient(
                auth=auth,
                cookies=no_cookies() if lane is Lane.BULK else self.identity.cookies,
                headers={
                    "User-Agent": user_agent or default_user_agent(),
                    "OCS-APIRequest": "true",
                    "Accept": "*/*",
                },
                follow_redirects=False,
                trust_env=False,
                transport=wire(lane) if wire else self._wire(lane, tls, size),
            )
            for lane, size in sizes.items()
        }

    def __repr__(self) -> str:
        scheme, host, port = self._origin
        return f"Transport({scheme}://{host}:{port})"

    def _wire(self, lane: Lane, tls: ssl.SSLContext, size: int) -> WireTransport:
        # Large reads only where large bodies are: each allocates its whole buffer first.
        carries_down, carries_up = lane in {Lane.RANGES, Lane.STREAMS}, lane in {Lane.UPLOADS, Lane.BULK}
        read_bytes = 1024 * 1024 if carries_down else 64 * 1024
        meter = Meter(self.traffic, receives=carries_down, sends=carries_up)
        made = WireTransport(
            tls,
            read_bytes=read_bytes,
            idle=size,
            idle_s=self.limits.idle_s,
            meter=meter,
            proxy=self._proxy,
        )
        self._wires.append(made)
        return made

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Reply]:
        """Send a request and hand out its reply, whatever its status; closes it at the end.

        Waits for a free slot of the lane as long as the caller lets it.
        """
        async with self._slots[request.lane]:
            reply = await self.identity.send(request, self._send_to_origin)
            try:
                yield reply
            finally:
                await reply.aclose()

    async def fetch(self, request: Request, *statuses: int) -> WholeReply:
        """Send a request and read its reply whole; raises the error of any status but these (none: any will do)."""
        async with self.open(request) as reply:
            if statuses:
                await reply.require(*statuses)
            body = b"" if request.method == "HEAD" else await reply.read_all(self.limits.reply_bytes)
            return WholeReply(reply.status, reply.headers, body)

    def _cut_off(self) -> None:
        """Nobody is to try this login again unasked: tell so, and cut off what the server would only refuse, too."""
        self.refused()
        for body, scope in self._severable.items():
            if not body.is_given:
                scope.cancel()

    async def _send_to_origin(self, request: Request, /, *, with_password: bool) -> Reply:
        for _ in range(_MAX_REDIRECTS + 1):
            reply = await self._send_once(request, with_password=with_password)
            location = reply.headers.get("Location")
            if reply.status not in {301, 302, 307, 308} or not location or not request.follow:
                return reply
            await reply.aclose()
            request = msgspec.structs.replace(request, url=self._redirected(request, reply.status, location))
        raise ProtocolViolation("the server redirects in circles", subject=request.subject)

    def _redirected(self, request: Request, status: int, location: str) -> str:
        try:
            target = str(httpx.URL(request.url).join(location))
            origin = origin_of(target)
        except (ValueError, httpx.InvalidURL) as error:
            raise ProtocolViolation(
                "the server redirects to no usable address", subject=request.subject
            ) from error
        if origin != self._origin:
            raise ProtocolViolation(
                f"the server redirects to {origin[0]}://{origin[1]}:{origin[2]}, where no password is sent",
                subject=request.subject,
            )
        if request.method not in READS:
            raise ProtocolViolation("the server redirects a change", subject=request.subject, status=status)
        return target

    async def _send_once(self, request: Request, *, with_password: bool) -> Reply:
        if origin_of(request.url) != self._origin:
            raise ProtocolViolation("an address outside the account's server", subject=request.subject)
        self.admit()
        asked = _Asked(request, f"{self._series}-{next(self._numbers)}")
        body = Whole(request.content) if isinstance(request.content, bytes) else request.content()
        try:
            with self._severing(request, body) as severed:
                response = await self._clients[request.lane].send(
                    self._message(request, body, asked.number),
                    stream=True,
                    auth=USE_CLIENT_DEFAULT if with_password else None,
                )
        except NETWORK_ERRORS as error:
            # What broke this one has probably broken those that are idle, too: nobody is to wait for each of them.
            self.distrust_connections()
            asked.ended(self.traffic.tally, "unreachable", f"failed ({type(error).__name__})")
            if isinstance(error, httpx.ReadTimeout):
                self.forget_session()  # it may have ended, so that this was a login: see `Limits.login_s`
            raise error_of_exception(error, request.subject) from error
        except Exception:
            # Its body could not be had.
            asked.ended(self.traffic.tally, "given up")
            raise
        finally:
            with trio.CancelScope(shield=True):
                await body.aclose()
        if severed.cancelled_caught:
            asked.ended(self.traffic.tally, "cut off")
            raise Unreachable("cut off, as the login was refused meanwhile", subject=request.subject)
        theirs = response.headers.get("X-Request-Id", "")
        asked.ended(self.traffic.tally, str(response.status_code), theirs=theirs)
        if told_s := http_date_s(response.headers.get("Date")):
            self.clock_skew_s = told_s - time.time()
        return Reply(response, request, self._silence_s(request))

    @contextmanager
    def _severing(self, request: Request, body: httpx.AsyncByteStream) -> Iterator[trio.CancelScope]:
        """Be around the sending of a request, so that a refusal of another one can cut its body."""
        with trio.CancelScope() as scope:
            if not request.severable or not isinstance(body, Upload):
                yield scope
                return
            self._severable[body] = scope
            try:
                yield scope
            finally:
                del self._severable[body]

    def _message(self, request: Request, body: httpx.AsyncByteStream, number: str) -> httpx.Request:
        headers = {"Accept-Encoding": "identity", "X-Request-ID": number}
        if isinstance(request.content, bytes) and request.content:
            headers["Content-Length"] = str(len(request.content))
        message = self._clients[request.lane].build_request(
            request.method,
            request.url,
            headers=headers | request.headers,
            timeout=httpx.Timeout(
                connect=self.limits.connect_s,
                read=self._silence_s(request),
                write=self.limits.read_s,
                pool=self.limits.read_s,
            ),
        )
        # Put in afterwards: httpx would wrap it in a generator of its own.
        message.stream = body
        return message

    def _silence_s(self, request: Request) -> float:
        silence_s = self.limits.read_s if request.silence_s is None else request.silence_s
        return silence_s if len(self.identity.cookies) else max(silence_s, self.limits.login_s)

    def sent_within(self, seconds: float, most: int) -> int:
        """Return how many of `most` bytes the limit in force lets be sent in so long."""
        rate = self.traffic.up.rate
        return most if rate is None else min(most, int(rate * seconds))

    def distrust_connections(self) -> None:
        """Make a new connection for every further request: the machine has slept, or changed its network."""
        for wire in self._wires:
            wire.distrust()

    def log_in(self, auth: httpx.Auth | None) -> None:
        """Use other credentials from the next request on."""
        for client in self._clients.values():
            client.auth = auth or httpx.Auth()  # which adds nothing
        self.identity.log_in()

    def forget_session(self) -> None:
        """Drop all cookies: after a new login, or before a request that must come without."""
        self.identity.forget_session()

    async def aclose(self) -> None:
        """Close every connection."""
        with trio.CancelScope(shield=True):
            for client in self._clients.values():
                await client.aclose()

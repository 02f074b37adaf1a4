"""Our wishes to the byte stream below HTTP: large reads, straight reads, limits, and hearing early answers.

httpcore takes a network backend as a documented argument, and a stream is six methods. So all wishes are a backend
of our own on trio: no attribute of a library is patched.

- httpcore asks for 64 KiB at a time, and TLS gives it 16 KiB records one by one. Reading up to 1 MiB at once, and all
  records that have arrived (`tls.GreedyTls`), more than halves the CPU of a large body: 256 MB cost 0.7 s with httpx
  as it is and 0.3 s like this, with TLS 1.5 and 0.9 s (2 busy cores, loopback; httpx 0.28, httpcore 1.0.9).
- HTTP's parser copies a body three times on its way through. Of a long one it gets only the head, and the body is read
  from here straight (`BodyStream.read_body`) into memory of its own (`landing`): 1 GiB costs 0.4 s of CPU less. HTTP's
  parser cannot use the connection again afterwards; it is kept for the next one (`spares`).
- What is read and written is counted here, and waits here where a limit is set (`limiting`): before a read or write
  and never within, so that the time-outs of both go on to be about the server alone.
- A server may answer before it has read a whole body (412, 413, 507, 401) and stop reading. httpcore looks at the
  answer only after a write error, so the upload would hang until the write times out, or the connection is reset and
  the answer lost. Here every write of a body is raced against a read; an early answer ends the write with the very
  `WriteError` after which httpcore reads the answer.
"""

from __future__ import annotations

import errno
import math
import re
import select
import ssl
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6, SOCK_DGRAM
from socket import socket as Socket  # noqa: N812  # a class of that name
from typing import Any

import httpcore
import httpx
import trio
from httpcore import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

from cloudfs.remote.landing import Landing, Strip
from cloudfs.remote.limiting import Meter
from cloudfs.remote.proxies import Proxy
from cloudfs.remote.spares import Place, Spare, Spares

__all__ = ["BodyStream", "WireTransport"]

_SMALL_WRITE = 4096
"""Request heads are below this: a body has not begun, so there is no early answer to hear."""


_SLICE = 64 * 1024
"""What has to move within one time-out: at the slowest line that counts as one (32 KiB/s) it takes 2 s."""

_INTERIM = re.compile(rb"HTTP/1\.\d 1\d\d")
_HEAD_ENDS = re.compile(rb"\n\r?\n")
"""What ends the head of an answer for h11, the parser below httpcore."""
_MOST_BEFORE_ANSWER = 256 * 1024
"""Bytes that a server may say before an answer has its head: of one head h11 takes 100 KiB, but of interim ones any
number, and during an upload they are kept here. One every second is 27 bytes: two hours and a half."""
_LONGEST_HEAD_S = 9000.0
"""So long after its first byte the head of an answer is there, what a server says before it included: the same in time,
as it may also say a byte a minute."""


def _is_interim(heard: bytes) -> bool:
    """Tell whether what was heard is no answer yet: a server may say 100, 102 or 103 at any time (RFC 9110 §15.2)."""
    while _INTERIM.match(heard):
        end = _HEAD_ENDS.search(heard)
        if end is None:
            return True
        heard = heard[end.end() :]
        if not heard:
            return True
    return 0 < len(heard) < len(b"HTTP/1.1 1xx") and b"HTTP/1.".startswith(heard[:7])


_BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


@contextmanager
def _translated(timeout: float | None, late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    try:
        with trio.fail_after(math.inf if timeout is None else timeout):
            yield
    except trio.TooSlowError as error:
        raise late("too slow") from error
    except _BROKEN as error:
        raise broken(str(error)) from error


class BodyStream(AsyncNetworkStream):
    """A connection that reads in large pieces, gives bodies away, and notices early answers."""

    def __init__(
        self, stream: trio.abc.Stream, socket: trio.SocketStream, place: Place, shared: _Shared
    ) -> None:
        self._stream = stream
        self._socket = socket
        self._place = place
        self._read_bytes = shared.read_bytes
        self._meter = shared.meter
        self._shared = shared
        self._age = shared.age
        self._given_up = False
        self._early: deque[bytes] = deque()
        """Received and not handed out yet; an empty one is the end of the stream."""
        self._head_comes = False
        self._unanswered: int | None = None
        """Bytes handed to HTTP's parser since our last word, as long as it has no answer of them."""
        self._begun_at: float | None = None
        """When (trio) the first of these came."""
        self.at_body = False
        """HTTP's parser has the head of an answer, and not a byte after it."""
        self._strip: Strip | None = None
        """Where the body comes to lie that is given away."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's
        """Return what has come, up to 1 MiB where that is more than `max_bytes`; of an answer the head comes alone."""
        if self._unanswered is not None and self._unanswered > _MOST_BEFORE_ANSWER:
            raise httpcore.RemoteProtocolError("what the server says before its answer has no end")
        if self._begun_at is not None and trio.current_time() - self._begun_at > _LONGEST_HEAD_S:
            raise httpcore.ReadTimeout("the answer begins without an end")
        if self._early:
            data = self._head_of(self._early.popleft())
        else:
            # What comes behind a head may be a body that has its place elsewhere.
            most = max_bytes if self._head_comes else max(max_bytes, self._read_bytes)
            data = self._head_of(await self._receive(most, timeout))
        if self._unanswered is not None:
            self._unanswered += len(data)
            self._begun_at = self._begun_at or trio.current_time()
        return data

    def answered(self) -> None:
        """HTTP's parser has the head of the answer: what comes now is as long as that says."""
        self._unanswered = self._begun_at = None

    def _head_of(self, data: bytes) -> bytes:
        """Hold back what follows the head, where this first piece of an answer has all of it.

        INVARIANT: `at_body` is only ever true between that and the next read: after a second one (an answer that goes
        before the answer, such as 100; a head in two pieces) nobody here knows what the parser holds.
        """
        head = _HEAD_ENDS.search(data) if self._head_comes else None
        self._head_comes = False
        self.at_body = head is not None
        if head is None or head.end() == len(data):
            return data
        self._early.appendleft(data[head.end() :])
        return data[: head.end()]

    async def read_body(self, block_left: int, max_bytes: int, timeout: float) -> memoryview:  # noqa: ASYNC109
        """Return the next 1 to `max_bytes` bytes of the body, none at the end of the stream. Only while `at_body`.

        `block_left`: so many end a block of the file, at least `max_bytes`. HTTP has no more use for the connection
        then: it is to be put aside, or closed. Raises httpcore.ReadTimeout and ReadError.
        """
        strip = self._strip = self._strip or self._shared.landing.open()
        memory = strip.rest(block_left)[:max_bytes]
        if not self._early:
            return strip.landed(len(await self._receive_into(memory, timeout)))
        data = self._early.popleft()
        if len(data) > max_bytes:
            self._early.appendleft(data[max_bytes:])
        size = min(len(data), max_bytes)
        memory[:size] = data[:size]
        return strip.landed(size)

    async def _receive_into(self, memory: memoryview, timeout: float) -> memoryview:  # noqa: ASYNC109
        async def read(most: int) -> memoryview:
            # Not `_translated`: its two generators cost a twentieth of what Python does for a long body.
            try:
                with trio.move_on_after(timeout):
                    return await self._read_into(memory[:most])
            except _BROKEN as error:
                raise httpcore.ReadError(str(error)) from error
            raise httpcore.ReadTimeout("too slow")

        return await self._meter.receive(len(memory), read)

    async def _read_into(self, memory: memoryview) -> memoryview:
        if self._stream is self._socket:
            return memory[: await self._socket.socket.recv_into(memory)]
        data = await self._stream.receive_some(len(memory))
        memory[: len(data)] = data
        return memory[: len(data)]

    async def _receive(self, max_bytes: int, timeout: float | None) -> bytes:  # noqa: ASYNC109  # as `read`
        async def read(most: int) -> bytes:
            with _translated(timeout, httpcore.ReadTimeout, httpcore.ReadError):
                return bytes(await self._stream.receive_some(most))

        return await self._meter.receive(max_bytes, read)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's
        """Send all of it, or raise WriteError where the server answers before it has a long one."""
        if not buffer:
            return
        self._head_comes, self.at_body, self._unanswered, self._begun_at = True, False, 0, None
        with _translated(None, httpcore.WriteTimeout, httpcore.WriteError):
            if len(buffer) <= _SMALL_WRITE and not self._early:
                await self._send(buffer, timeout)
            elif self._is_answered() or not await self._write_unless_answered(buffer, timeout):
                raise trio.BrokenResourceError("the server answered before it had the whole body")

    async def _send(self, buffer: bytes, silence_s: float | None) -> None:
        """Send all of it. A line may be as slow as it likes, but not silent: TooSlowError where nothing moves."""

        async def write(part: memoryview) -> None:
            with trio.fail_after(math.inf if silence_s is None else silence_s):
                await self._stream.send_all(part)

        for start in range(0, len(buffer), _SLICE):
            await self._meter.send(memoryview(buffer)[start : start + _SLICE], write)

    async def _write_unless_answered(self, buffer: bytes, silence_s: float | None) -> bool:
        """Return whether everything was written; after an early answer the rest of it is not."""
        failure: trio.BrokenResourceError | trio.TooSlowError | None = None
        written = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                await self._send(buffer, silence_s)
                written = True
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                failure = error  # raised below: the nursery would wrap it in a group
            nursery.cancel_scope.cancel()
        if failure is not None and not self._is_answered():
            raise failure
        return written

    async def _listen(self, write: trio.CancelScope) -> None:
        # Cancelling a read loses no bytes, neither of trio's sockets nor of its TLS.
        try:
            while not self._is_answered():
                heard = bytes(await self._stream.receive_some(self._read_bytes))
                self._meter.heard(len(heard))
                self._early.append(heard)
        except trio.BrokenResourceError:
            return  # the write meets the same error and reports it
        write.cancel()

    def _is_answered(self) -> bool:
        """Tell whether there is an answer; what has no end counts as one, which `read` refuses."""
        heard = b"".join(self._early)
        return bool(self._early) and (len(heard) > _MOST_BEFORE_ANSWER or not _is_interim(heard))

    @property
    def lasts(self) -> bool:
        """It can be put aside after a body. Through a proxy it is a tunnel, which was asked for on this connection."""
        return self._shared.spares is not None

    async def put_aside(self) -> None:
        """Keep the connection for others: `read_body` has given all of an answer, after which the server goes on."""
        if self._shared.spares is None or self._early:
            await self.aclose()
            return
        self._end_body()
        self._given_up = True
        await self._shared.spares.keep(Spare(self._place, self._stream, self._socket, self._is_alive))

    async def aclose(self) -> None:
        """Close the connection, unless it was put aside."""
        self._end_body()
        if not self._given_up:
            await self._stream.aclose()

    def _end_body(self) -> None:
        if self._strip is not None:
            self._strip.close()
            self._strip = None

    def _is_alive(self) -> bool:
        return (
            self._age == self._shared.age
            and not self._early
            and not _is_readable(self._socket.socket)
            and has_address(self._socket.socket)
        )

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> AsyncNetworkStream:
        """Return the same connection with TLS on it; it has that already where it was put aside before."""
        if self._stream is not self._socket:
            return self
        tls = trio.SSLStream(
            _LargeReads(self._socket, self._read_bytes),
            ssl_context,
            server_hostname=server_hostname,
            https_compatible=True,
        )
        try:
            with _translated(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                await tls.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(self._socket)
            raise
        return BodyStream(tls, self._socket, self._place, self._shared)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  # httpcore's signature
        """Answer httpcore's one question."""
        if info == "is_readable":
            # httpcore's question whether an idle connection has to go.
            return not self._is_alive()
        return None


class _LargeReads(trio.abc.Stream):
    """The socket under a TLS stream, which leaves the size of a read to its transport."""

    def __init__(self, socket: trio.SocketStream, read_bytes: int) -> None:
        self._socket = socket
        self._read_bytes = read_bytes

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._socket.receive_some(self._read_bytes if max_bytes is None else max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._socket.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._socket.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._socket.aclose()


def _is_readable(socket: trio.socket.SocketType) -> bool:
    if socket.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def has_address(socket: trio.socket.SocketType) -> bool:
    """Tell whether the address that a connection was made from still is one of this machine; 10 µs.

    The kernel keeps a connection whose address is gone (another network, a VPN that ended), and lets whoever uses it
    wait for the time-out: nothing can ever come back.
    """
    family = socket.family
    if socket.fileno() < 0 or family not in {AF_INET, AF_INET6}:
        return True
    with Socket(family, SOCK_DGRAM) as probe:
        try:
            host, _, *rest = socket.getsockname()
            probe.bind((host, 0, *rest))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


class _Shared:
    """What the connections of one transport have in common."""

    def __init__(self, read_bytes: int, meter: Meter, spares: Spares | None) -> None:
        self.read_bytes = read_bytes
        self.meter = meter
        self.spares = spares
        self.age = 0
        """Only idle connections of the present age are believed to be alive."""
        self.landing = Landing()


class _Backend(AsyncNetworkBackend):
    """Connections of ours over trio."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        del socket_options  # none are ever asked for; trio sets TCP_NODELAY itself
        spare = None if self._shared.spares is None else await self._shared.spares.take((host, port))
        if spare is not None:
            return BodyStream(spare.stream, spare.socket, spare.place, self._shared)
        with _translated(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
            socket = await trio.open_tcp_stream(host, port, local_address=local_address)
        return BodyStream(socket, socket, (host, port), self._shared)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class WireTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over one pool of our connections; `read_bytes` is the most that one read takes.

    The pool has no limit of its own: a lane counts its requests itself (`transport.Transport`). httpcore can lose a
    slot for ever when a request is cancelled between getting a connection and using it, and a pool that has run
    out of slots would hang every later request.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        read_bytes: int,
        idle: int,
        idle_s: float,
        meter: Meter,
        proxy: Proxy | None = None,
    ) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=idle, keepalive_expiry=idle_s)
        super().__init__(verify=tls, trust_env=False, limits=limits)
        self._shared = _Shared(read_bytes, meter, Spares(idle, idle_s) if proxy is None else None)
        # httpx does not pass a backend on, httpcore takes one: hence a pool of our own in its place.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            proxy=None if proxy is None else httpcore.Proxy(proxy.url, auth=proxy.login),
            max_connections=None,
            max_keepalive_connections=idle,
            keepalive_expiry=idle_s,
            network_backend=_Backend(self._shared),
        )

    def distrust(self) -> None:
        """Use no connection again that is there now; those in use end with their requests."""
        self._shared.age += 1

    async def aclose(self) -> None:
        """Close all connections."""
        if self._shared.spares is not None:
            await self._shared.spares.aclose()
        await super().aclose()

"""A loopback proxy that is as far away as it is told, and counts all that passes it.

Every client of a bench, curl too, reaches the server through it, so that they all have one line and one count.
It delays and does not throttle: what is sent leaves after half the round trip at whatever speed it came, since
as many bytes may be on the way as a line of 2 GB/s holds. A new connection costs one round trip more, as TCP's
handshake does.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import trio

from scripts._peers.requests import RequestCounter

__all__ = ["DelayProxy", "Traffic"]

_PIECE = 256 * 1024
_BYTES_PER_S = 2_000_000_000


@dataclass(frozen=True)
class Traffic:
    """What has passed, with all heads."""

    requests: int
    up_bytes: int
    down_bytes: int
    methods: Counter[str]

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.requests - earlier.requests,
            self.up_bytes - earlier.up_bytes,
            self.down_bytes - earlier.down_bytes,
            self.methods - earlier.methods,
        )


class _Line:
    """One direction of one connection: bytes, each with the time at which it arrives (by trio's clock)."""

    def __init__(self, delay_s: float, source: trio.abc.Stream, target: trio.abc.HalfCloseableStream) -> None:
        self._delay_s = delay_s
        self._source = source
        self._target = target
        self._window_bytes = _PIECE + int(delay_s * _BYTES_PER_S)
        self._flying_bytes = 0
        self._landed = trio.lowlevel.ParkingLot()

    async def carry(self, count: Callable[[bytes], None], not_before_s: float) -> None:
        """Move bytes until their end; `count` hears of what arrives. Both ends are cut where one breaks."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](float("inf"))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, receive, count)
                await self._take(send, not_before_s)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            for end in (self._source, self._target):
                await trio.aclose_forcefully(end)

    async def _take(self, send: trio.MemorySendChannel[tuple[float, bytes]], not_before_s: float) -> None:
        async with send:
            while data := await self._source.receive_some(_PIECE):
                self._flying_bytes += len(data)
                await send.send((max(trio.current_time(), not_before_s) + self._delay_s, bytes(data)))
                while self._flying_bytes >= self._window_bytes:
                    await self._landed.park()

    async def _deliver(
        self, receive: trio.MemoryReceiveChannel[tuple[float, bytes]], count: Callable[[bytes], None]
    ) -> None:
        async for due_s, data in receive:
            await trio.sleep_until(due_s)
            count(data)  # first: whoever has read all that was sent finds it counted
            await self._target.send_all(data)
            self._flying_bytes -= len(data)
            self._landed.unpark_all()
        await self._target.send_eof()


class DelayProxy:
    """Runs in a thread of its own. `rtt_s` may be changed; connections that are open keep what they began with."""

    def __init__(self, host: str, port: int) -> None:
        self.rtt_s = 0.0
        self.port = 0
        self._upstream = host, port
        self._methods: Counter[str] = Counter()
        self._up_bytes = 0
        self._down_bytes = 0

    def traffic(self) -> Traffic:
        """Return what has passed so far; to be asked while nothing is on the way."""
        methods = Counter(self._methods)
        return Traffic(methods.total(), self._up_bytes, self._down_bytes, methods)

    @contextlib.contextmanager
    def running(self) -> Iterator[DelayProxy]:
        """Listen on a free port of 127.0.0.1; in the end all connections are cut."""
        ready = threading.Event()
        scope = trio.CancelScope()
        thread = threading.Thread(target=trio.run, args=(self._serve, ready, scope), name="delay proxy")
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            self._token.run_sync_soon(scope.cancel)
            thread.join()

    async def _serve(self, ready: threading.Event, scope: trio.CancelScope) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with scope:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            ready.set()
            await trio.serve_listeners(self._connect, listeners)

    async def _connect(self, client: trio.SocketStream) -> None:
        begins_s = trio.current_time() + self.rtt_s
        try:
            server = await trio.open_tcp_stream(*self._upstream)
        except OSError:
            return  # the client sees its connection closed
        counter = RequestCounter(self._methods)

        def went_up(data: bytes) -> None:
            self._up_bytes += len(data)
            counter.feed(data)

        def came_down(data: bytes) -> None:
            self._down_bytes += len(data)

        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(_Line(self.rtt_s / 2, client, server).carry, went_up, begins_s)
            nursery.start_soon(_Line(self.rtt_s / 2, server, client).carry, came_down, begins_s)

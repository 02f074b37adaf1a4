"""How a long body is read: in pieces worth their price, and never later than it has to be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import trio
import trio.testing

from cloudfs.remote.exchange import Lane, Reply, Request
from cloudfs.remote.wire import BodyStream

_MIB = 1024 * 1024


class _Line(BodyStream):
    """A connection over which a body comes at a steady speed of the mock clock."""

    def __init__(self, length: int, bytes_per_s: float) -> None:
        self.at_body = True
        self._length = length
        self._bytes_per_s = bytes_per_s
        self._began_s = trio.current_time()
        self._read = 0

    @property
    def lasts(self) -> bool:
        """It is read past the parser in any case."""
        return True

    async def read_body(self, block_left: int, max_bytes: int, timeout: float) -> memoryview:  # noqa: ASYNC109  # the real one's
        """Return what has come; at least what comes in 0.1 ms, as a network's packet does."""
        del block_left, timeout
        packet = int(self._bytes_per_s * 1e-4)
        while (arrived := self._arrived() - self._read) < min(packet, self._length - self._read):
            await trio.sleep(1e-4)
        size = min(max_bytes, arrived)
        self._read += size
        return memoryview(bytes(size))

    def _arrived(self) -> int:
        return min(self._length, round((trio.current_time() - self._began_s) * self._bytes_per_s))


async def _pieces(length: int, line: _Line) -> AsyncIterator[int]:
    response = httpx.Response(
        200,
        headers={"Content-Length": str(length)},
        stream=httpx.ByteStream(b""),
        extensions={"network_stream": line},
    )
    reply = Reply(response, Request("GET", "http://localhost/file", "file", lane=Lane.STREAMS), 30.0)
    while chunk := await reply.read_raw():
        yield len(chunk)


async def test_a_reader_as_quick_as_the_line_lets_pieces_gather(
    autojump_clock: trio.testing.MockClock,
) -> None:
    del autojump_clock
    length = 64 * _MIB
    sizes = [size async for size in _pieces(length, _Line(length, 200e6))]
    assert sum(sizes) == length
    # 20 kB come in a tenth of a millisecond, 200 kB in a whole one.
    assert len(sizes) < length / 100e3


async def test_the_end_of_a_body_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    length, bytes_per_s = 16 * _MIB, 200e6
    began_s = trio.current_time()
    sizes = [size async for size in _pieces(length, _Line(length, bytes_per_s))]
    took_s = trio.current_time() - began_s
    assert sum(sizes) == length
    assert took_s < length / bytes_per_s + 0.001


async def test_a_slow_line_is_read_as_it_comes(autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    length, bytes_per_s = 8 * _MIB, 1e6
    began_s = trio.current_time()
    first_s = None
    async for _ in _pieces(length, _Line(length, bytes_per_s)):
        first_s = first_s or trio.current_time() - began_s
    assert first_s is not None
    assert first_s < 0.001
    assert trio.current_time() - began_s < length / bytes_per_s + 0.001

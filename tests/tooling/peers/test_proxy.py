"""The proxy of a bench: every byte arrives, every byte and request is counted, and nothing arrives too early."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from scripts._peers.proxy import DelayProxy
from scripts._peers.proxy import _Line as Line

MIB = 1024 * 1024


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextmanager
def sink() -> Iterator[tuple[int, list[bytes]]]:
    """A server that reads one connection to its end, says "ok", and keeps what it got."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(MIB):
                    got.append(data)
                connection.sendall(b"ok")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], got
        thread.join()


def connect(proxy: DelayProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port))


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(MIB), b""))


@pytest.mark.parametrize("rtt_s", [0.0, 0.05])
def test_all_bytes_arrive_in_their_order_and_are_counted(rtt_s: float) -> None:
    data = bytes(range(256)) * (4 * MIB // 256) + b"end"
    with sink() as (port, got):
        proxy = DelayProxy("127.0.0.1", port)
        proxy.rtt_s = rtt_s
        with proxy.running(), connect(proxy) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"ok"
            traffic = proxy.traffic()
    assert b"".join(got) == data
    assert (traffic.up_bytes, traffic.down_bytes) == (len(data), 2)


def test_requests_on_one_connection_are_counted_by_method(echo: int) -> None:
    with DelayProxy("127.0.0.1", echo).running() as proxy:
        before = proxy.traffic()
        with closing(HTTPConnection("127.0.0.1", proxy.port)) as client:
            for size in (0, 10, 3 * MIB):
                client.request("PUT", "/", body=b"x" * size)
                assert client.getresponse().read() == b"x" * size
        passed = proxy.traffic() - before
    assert passed.methods == {"PUT": 3}
    assert passed.requests == 3
    assert passed.down_bytes > 3 * MIB + 10
    assert passed.up_bytes > 3 * MIB + 10


async def carry(delay_s: float, data: bytes, *, not_before_s: float = 0.0) -> float:
    """Return when the last byte of `data` came out of a line, by trio's clock; it was sent at once."""
    into, source = trio.testing.memory_stream_pair()
    target, out = trio.testing.memory_stream_pair()
    counted = 0
    arrived_s = -1.0

    def count(piece: bytes) -> None:
        nonlocal counted
        counted += len(piece)

    async def read() -> None:
        nonlocal arrived_s
        got = []
        while piece := await out.receive_some():
            got.append(piece)
            arrived_s = trio.current_time()
        assert b"".join(got) == data

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(Line(delay_s, source, target).carry, count, not_before_s)
        await into.send_all(data)
        await into.send_eof()
    assert counted == len(data)
    return arrived_s


async def test_what_is_sent_arrives_after_the_delay(autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    assert await carry(0.06, b"x") == pytest.approx(began_s + 0.06)
    began_s = trio.current_time()
    assert await carry(0.0, b"x") == began_s


async def test_what_begins_later_arrives_later(autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    assert await carry(0.06, b"x", not_before_s=began_s + 0.12) == pytest.approx(began_s + 0.18)


async def test_the_line_holds_all_that_a_quick_one_would(autojump_clock: MockClock) -> None:
    """One piece at a time would be 96 delays; what is on the way at once has no limit that anybody meets."""
    began_s = trio.current_time()
    assert await carry(0.06, bytes(24 * MIB)) == pytest.approx(began_s + 0.06)


async def test_the_line_holds_no_more_than_that(autojump_clock: MockClock) -> None:
    """A client that stops reading is to stop the server too, and not to have it send everything to the proxy."""
    began_s = trio.current_time()
    assert await carry(0.01, bytes(24 * MIB)) > began_s + 0.015


def test_a_new_connection_costs_a_round_trip_more(echo: int) -> None:
    proxy = DelayProxy("127.0.0.1", echo)
    proxy.rtt_s = 0.2
    with proxy.running(), closing(HTTPConnection("127.0.0.1", proxy.port)) as client:
        for least_s in (0.4, 0.2):  # no most: that would ask for a quick machine
            began_s = time.monotonic()
            client.request("PUT", "/", body=b"x")
            assert client.getresponse().read() == b"x"
            assert time.monotonic() - began_s >= least_s


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with DelayProxy("127.0.0.1", port).running() as proxy, connect(proxy) as connection:
        assert read_all(connection) == b""


def test_a_client_that_goes_away_leaves_the_proxy_working(echo: int) -> None:
    with DelayProxy("127.0.0.1", echo).running() as proxy:
        with connect(proxy) as connection:
            connection.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        with closing(HTTPConnection("127.0.0.1", proxy.port)) as client:
            client.request("PUT", "/", body=b"x")
            assert client.getresponse().read() == b"x"

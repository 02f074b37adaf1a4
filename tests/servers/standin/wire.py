"""HTTP by cheroot: turns its requests into ours, writes our answers, and can break a connection at any byte."""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cheroot.server import Gateway, HTTPRequest, HTTPServer
from cheroot.ssl.builtin import BuiltinSSLAdapter

from tests.servers.standin.errors import REASONS
from tests.servers.standin.messages import BodyCutError, Request, RequestBody, Response

WORKERS = 24
"""Threads of one server: enough for the requests a test holds back plus those it makes meanwhile."""

_POLL_S = 0.05


class ConnectionBrokenError(OSError):
    """Ends a request without another byte: the socket is gone already."""

    def __init__(self) -> None:
        # The number makes cheroot take it for a client that went away, which it ignores.
        super().__init__(32, "connection broken by the stand-in")


@dataclass(frozen=True)
class Certificate:
    """A key and its certificate, PEM files."""

    certificate: Path
    key: Path


@dataclass
class Delivery:
    """How an answer goes out. ``cut_after`` bytes of the body the connection breaks; ``length`` lies."""

    cut_after: int | None = None
    length: int | None = None
    sent_bytes: int = 0


Application = Callable[[Request], tuple[Response, Delivery]]


class Push(Protocol):
    """What takes over connections that become websockets."""

    def takes(self, request: Request) -> bool:
        """Whether a request is for it."""

    def serve(self, request: Request, raw: socket.socket) -> None:
        """Talk to the client until it goes."""


class _Gateway(Gateway):
    """One request of cheroot's."""

    def respond(self) -> None:
        server = self.req.server
        assert isinstance(server, _Server)
        with server.in_flight(self.req):
            request = _request_of(self.req)
            if server.push.takes(request):
                server.push.serve(request, self.req.conn.socket)
                disconnect(self.req)
                raise ConnectionBrokenError
            response, delivery = server.application(request)
            try:
                self._send(request, response, delivery)
            except BodyCutError:
                disconnect(self.req)
                raise ConnectionBrokenError from None
            finally:
                response.close()
                server.finished(request, delivery)

    def _send(self, request: Request, response: Response, delivery: Delivery) -> None:
        self.req.status = f"{response.status} {REASONS.get(response.status, 'Unknown')}".encode()
        length = response.length if delivery.length is None else delivery.length
        headers = list(response.headers)
        if length is not None:
            headers.append(("Content-Length", str(length)))
        self.req.outheaders.extend((name.encode(), value.encode()) for name, value in headers)
        if delivery.length is not None:
            # Bytes and header disagree from here on: nothing that follows on this connection can be understood.
            self.req.close_connection = True
        request.body.drain()
        self.req.ensure_headers_sent()
        if request.method == "HEAD" or response.status in {204, 304}:
            return
        for block in _capped(response, delivery.cut_after):
            self.req.write(block)
            delivery.sent_bytes += len(block)
        if delivery.cut_after is not None:
            disconnect(self.req)
            raise ConnectionBrokenError


def _capped(response: Response, cut_after: int | None) -> Iterator[bytes]:
    left = cut_after
    for block in [response.body] if isinstance(response.body, bytes) else response.body:
        piece = block if left is None else block[:left]
        if piece:
            yield piece
        if left is not None:
            left -= len(piece)
            if not left:
                return


def _request_of(req: HTTPRequest) -> Request:
    headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in req.inheaders.items()}
    length = None if req.chunked_read else int(headers.get("content-length", "0"))
    hang_up = functools.partial(disconnect, req)
    return Request(
        method=req.method.decode(),
        target=req.uri.decode("latin-1"),
        headers=headers,
        body=RequestBody(req.rfile, length, hang_up),
        disconnect=hang_up,
    )


def disconnect(req: HTTPRequest, *, reset: bool = False) -> None:
    """Break the connection under the client; with ``reset`` by RST instead of FIN."""
    raw = req.conn.socket
    req.close_connection = True
    req.sent_headers = True
    with contextlib.suppress(OSError):
        if reset:
            # RST goes out when a socket with this option is closed without a shutdown, which cheroot would do.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            req.conn.linger = True
            socket.close(raw.detach())
        else:
            raw.shutdown(socket.SHUT_RDWR)


class _Server(HTTPServer):
    """cheroot's server with our application, silent about clients that go away."""

    application: Application
    finished: Callable[[Request, Delivery], None]
    failures: list[str]
    push: Push

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Gateway, minthreads=WORKERS, maxthreads=WORKERS)
        self.server_name = "standin"
        self.request_queue_size = 64
        self.keep_alive_conn_limit = 1000
        self.timeout = 300
        self.max_request_header_size = 64 * 1024
        self.expiration_interval = _POLL_S
        self.shutdown_timeout = 1
        self._busy: set[HTTPRequest] = set()
        self._busy_mutex = threading.Lock()
        self._closing = False

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: tuple[str, int]) -> socket.socket:
        # Also for a port the kernel picks: else its old connections keep a restart from taking it again.
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        socket_.bind(bind_addr)
        return socket_

    @contextlib.contextmanager
    def in_flight(self, req: HTTPRequest) -> Iterator[None]:
        with self._busy_mutex:
            if self._closing:
                raise ConnectionBrokenError
            self._busy.add(req)
        try:
            yield
        finally:
            with self._busy_mutex:
                self._busy.discard(req)

    def break_connections(self) -> None:
        with self._busy_mutex:
            self._closing = True
            busy = list(self._busy)
        for req in busy:
            disconnect(req)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: FBT002 # cheroot's signature
        if level >= logging.ERROR:
            self.failures.append(msg)
            super().error_log(msg, level, traceback)


class HttpServer:
    """A listening server in background threads. ``failures`` collects exceptions of its own code."""

    def __init__(
        self,
        application: Application,
        finished: Callable[[Request, Delivery], None],
        port: int,
        certificate: Certificate | None,
        push: Push,
    ) -> None:
        server = _Server(port)
        server.push = push
        server.application = application
        server.finished = finished
        self.failures: list[str] = []
        server.failures = self.failures
        if certificate is not None:
            server.ssl_adapter = BuiltinSSLAdapter(str(certificate.certificate), str(certificate.key))
        self._server = server
        server.prepare()
        self.port: int = server.bind_addr[1]
        self._thread = threading.Thread(target=server.serve, name=f"standin-{self.port}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the listening socket and all connections, end all threads. Requests under way are cut off."""
        self._server.break_connections()
        self._server.stop()
        self._thread.join()

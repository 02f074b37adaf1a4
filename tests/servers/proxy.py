"""An HTTP proxy as in front of many offices: CONNECT for https, whole addresses for http (RFC 9110, RFC 9112).

It finds every host on this machine, at the port that was asked for: so whoever got an answer from a made-up name
has been here.
"""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import socketserver
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Listens on a free port. `login`: "user:password" that it asks for. `refused`: it connects nobody."""

    def __init__(self, *, login: str | None = None, refused: bool = False) -> None:
        self.login = login
        self.refused = refused
        self.asked: list[str] = []
        """First lines of the requests that came."""
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy.serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """What HTTPS_PROXY says."""
        login = f"{self.login}@" if self.login else ""
        return f"http://{login}127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        for connection in list(self._open):
            _shut(connection)
        self._server.server_close()
        self._thread.join()

    def serve(self, client: socket.socket) -> None:
        """Answer one connection."""
        head, rest = _read_head(client)
        if not head:
            return
        line = head.partition(b"\r\n")[0].decode()
        self.asked.append(line)
        wanted = base64.b64encode((self.login or "").encode())
        if self.login is not None and wanted not in head:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if self.refused:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = line.split(" ")
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        with socket.create_connection(("127.0.0.1", parts.port or 80)) as server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                server.sendall(rest)
            else:
                path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
                head = head.replace(target.encode(), path.encode(), 1)
                # One request for each connection: the next may be for another server.
                head = re.sub(rb"(?im)^(proxy-[a-z]+|connection):.*\r\n", b"", head)
                server.sendall(head + b"\r\nConnection: close\r\n\r\n" + rest)
            self._join(client, server)

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        self._open |= {client, server}
        other_way = threading.Thread(target=_copy, args=(client, server))
        other_way.start()
        _copy(server, client)
        other_way.join()
        self._open -= {client, server}


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(target)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)

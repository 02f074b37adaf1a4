"""wsgidav on cheroot, in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

from cheroot.wsgi import Server
from wsgidav.wsgidav_app import WsgiDAVApp

from tests.servers.plain.base import PlainServer, free_port

_WORKERS = 8
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""Of WSGI."""


class WsgidavServer(PlainServer):
    """wsgidav with its file system provider."""

    def __init__(self) -> None:
        super().__init__()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Build the application and listen."""
        application = WsgiDAVApp(
            {
                "provider_mapping": {"/": str(self.root)},
                "simple_dc": {"user_mapping": {"*": {self.user: {"password": self.password}}}},
                "http_authenticator": {
                    "accept_basic": True,
                    "accept_digest": False,
                    "default_to_digest": False,
                },
                "logging": {"enable": False},
                "verbose": 0,
            }
        )
        self.port = self.port or free_port()
        server = Server(
            ("127.0.0.1", self.port), self.before(application), numthreads=_WORKERS, shutdown_timeout=1
        )
        server.expiration_interval = 0.05
        server.prepare()
        self._server = server
        self._thread = threading.Thread(target=server.serve, name="wsgidav", daemon=True)
        self._thread.start()
        return self

    def before(self, application: Application) -> Application:
        """Return what answers: the application itself, or something before it."""
        return application

    def stop(self) -> None:
        """Stop listening and end all threads."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
            self._server = None

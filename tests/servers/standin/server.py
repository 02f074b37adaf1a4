"""The stand-in server object."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.standin.account import Account
from tests.servers.standin.application import Application
from tests.servers.standin.blobs import BlobStore
from tests.servers.standin.faults import Faults
from tests.servers.standin.log import RequestLog
from tests.servers.standin.push import PRE_AUTH, PreAuth, PushServer
from tests.servers.standin.site import INSTANCE_ID, Site
from tests.servers.standin.tls import self_signed
from tests.servers.standin.tree import Counters
from tests.servers.standin.users import Users
from tests.servers.standin.wire import Certificate, HttpServer

DEFAULT_ACCOUNTS = {"alice": "alice-Pass-123", "bob": "bob-Pass-123"}


class StandIn:
    """A Nextcloud 29 that lives in this process, on a free port of the loopback.

    ``buffered=False`` is a front end that hands bodies through as they come: a cut PUT over an existing file leaves
    it truncated (protocol.md §6). ``now`` is the server's clock. ``tls=True`` serves https with a self-signed
    certificate, `certificate_file`. ``prefix="/nextcloud"`` is an installation in a sub-folder. ``push=True`` adds
    notify_push.

    State survives `stop` and `start`: between them connections are refused, afterwards everything is as before on
    the same port. `close` deletes it. As a context manager: starts, stops and closes.
    """

    def __init__(
        self,
        accounts: Mapping[str, str] = DEFAULT_ACCOUNTS,
        *,
        port: int = 0,
        buffered: bool = True,
        tls: bool = False,
        prefix: str = "",
        push: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="standin-")
        folder = Path(self._folder.name)
        blobs = folder / "blobs"
        blobs.mkdir()
        counters = Counters(now)
        self.site = Site(folder, now, counters, Users(counters, INSTANCE_ID), BlobStore(blobs), buffered)
        self.site.prefix = prefix
        self.requests = RequestLog()
        """Every request since the last ``reset()``."""
        self.faults = Faults()
        """What goes wrong: see `faults`."""
        self.application = Application(self.site, self.requests, self.faults)
        self.push = PushServer(self.site.users)
        """notify_push; only with `push=True` it is announced and there."""
        if push:
            self.push.enabled = True
            self.application.endpoints[PRE_AUTH] = PreAuth(self.push)
            self.application.ocs.capabilities["notify_push"] = self.push.announced
        self.certificate: Certificate | None = self_signed(folder) if tls else None
        self._accounts: dict[str, Account] = {}
        for name in accounts:
            self.add_account(name, accounts[name])
        self._http: HttpServer | None = None
        self._port = port

    @property
    def port(self) -> int:
        """The port, known after the first start."""
        return self._port

    @property
    def url(self) -> str:
        """What a person would type: scheme, host and port, no trailing slash."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self._port}{self.site.prefix}"

    def dav_url(self, user: str) -> str:
        """The root of an account's files, with a trailing slash."""
        return f"{self.url}/remote.php/dav/files/{user}/"

    def account(self, user: str) -> Account:
        """Another client's view of an account."""
        return self._accounts[user]

    def add_account(self, user: str, password: str) -> Account:
        """One more account."""
        made = self.site.users.add(user, password)
        made.tree.on_change = functools.partial(self.push.changed, made)
        self._accounts[user] = Account(self.site, made)
        return self._accounts[user]

    @property
    def maintenance(self) -> bool:
        """Maintenance mode: DAV and OCS answer 503, status.php tells (protocol.md §11)."""
        return self.site.maintenance

    @maintenance.setter
    def maintenance(self, value: bool) -> None:
        self.site.maintenance = value

    @property
    def failures(self) -> list[str]:
        """Exceptions of the stand-in's own code: a test that sees one has found a bug here."""
        return self._http.failures if self._http is not None else []

    def start(self) -> Self:
        """Listen. The first start picks the port, later ones take it again."""
        if self._http is None:
            application = self.application
            self._http = HttpServer(
                application.answer, application.finished, self._port, self.certificate, self.push
            )
            self._port = self._http.port
        return self

    def stop(self) -> None:
        """Stop listening; requests under way are cut off and faults release what they hold."""
        if self._http is not None:
            http, self._http = self._http, None
            self.faults.clear()
            http.stop()

    def close(self) -> None:
        """Stop and delete all contents."""
        self.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

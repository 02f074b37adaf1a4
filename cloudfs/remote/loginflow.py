"""Login flow v2: a person logs in in a browser, wherever that runs, and we are handed an app password.

SOURCE: protocol.md §11. Nobody but the server that was asked ever sees the flow's token or the credentials: the
addresses that it makes by itself may name another scheme, host, port or folder than the one that leads to it from here
(a reverse proxy, a lost port, §1), so only their ends are used, behind the address that was typed.
"""

from __future__ import annotations

import logging
import re
import ssl
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import msgspec
import trio

from cloudfs.errors import ProtocolViolation, RemoteError
from cloudfs.remote.exchange import Request
from cloudfs.remote.failures import error_of_reply
from cloudfs.remote.tls import make_context
from cloudfs.remote.transport import Limits, Transport
from cloudfs.remote.values import is_credential, json_of

__all__ = ["Granted", "LoginFlow", "rebased"]

_log = logging.getLogger(__name__)

LIFETIME_S = 1200.0
"""The server forgets a flow after 20 minutes; from then on its answers are those of one that nobody has granted yet."""

_EVERY_S = 2.0
_LONGEST_PAUSE_S = 30.0
_PATIENT = Limits(read_s=30.0)
_NOT_OFFERED = frozenset({301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 501})
"""Answers of servers that have no such thing: another product, an older version, a login page of another kind."""

_ROUTE = re.compile(r"(?:/index\.php)?/login/v2/(?:poll|flow/[A-Za-z0-9_-]{1,512})\Z")
_QUERY = re.compile(r"[A-Za-z0-9._~=&%+-]{0,512}")
"""A Nextcloud's token has 128 characters; what is much longer fits into no QR code."""


class Granted(msgspec.Struct, frozen=True):
    """What a person's consent in the browser gave us."""

    login_name: str
    """For Basic authentication, exactly so: the app password belongs to it (protocol.md §1)."""
    app_password: str

    def __repr__(self) -> str:
        return f"Granted({self.login_name!r})"


class _Poll(msgspec.Struct, frozen=True):
    token: str
    endpoint: str


class _Begun(msgspec.Struct, frozen=True):
    poll: _Poll
    login: str


class _Credentials(msgspec.Struct, frozen=True, rename="camel"):
    login_name: str
    app_password: str


def rebased(url: str, base_url: str) -> str:
    """Return the address, made by the server, of a part of the login flow as it is reached from here. Pure.

    `base_url`: where the Nextcloud is for whoever typed the address; ends with a slash. Raises ProtocolViolation
    where the address is none of the flow's, also where it has characters that no terminal should get to see.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _strange(base_url) from error
    route = _ROUTE.search(parts.path)
    if route is None or parts.scheme not in {"http", "https"} or not _QUERY.fullmatch(parts.query):
        raise _strange(base_url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{base_url}{route[0].removeprefix('/')}{query}"


def _strange(base_url: str) -> ProtocolViolation:
    return ProtocolViolation("the server names no usable address for logging in", subject=base_url)


class LoginFlow:
    """One login under way: `login_url` is for the browser, `granted` waits for what comes of it."""

    def __init__(self, transport: Transport, begun: _Begun, base_url: str) -> None:
        self.login_url = rebased(begun.login, base_url)
        self._transport = transport
        self._endpoint = rebased(begun.poll.endpoint, base_url)
        self._form = f"token={quote(begun.poll.token, safe='')}".encode()

    @classmethod
    async def begin(
        cls, base_url: str, device: str, *, tls: ssl.SSLContext | None = None, limits: Limits = _PATIENT
    ) -> Self | None:
        """Ask for a flow; None where the server has none. `device`: the app password's name in the user's settings.

        Raises RemoteError. The flow has to be closed.
        """
        transport = Transport(base_url, None, tls=tls or make_context(), limits=limits, user_agent=device)
        try:
            begun = await _begin(transport, base_url)
            if begun is not None:
                return cls(transport, begun, base_url)
        except BaseException:
            await transport.aclose()
            raise
        await transport.aclose()
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def granted(self) -> Granted | None:
        """Return the credentials once a person has agreed; None when the flow's time is over.

        Failures that may pass are waited out. What the server hands over it hands over once.
        """
        with trio.move_on_after(LIFETIME_S):
            while True:
                pause_s = _EVERY_S
                try:
                    if (granted := await self._poll()) is not None:
                        return granted
                except RemoteError as error:
                    if not error.temporary or isinstance(error, ProtocolViolation):
                        raise
                    _log.debug("still waiting for the login: %s", error)
                    pause_s = min(max(error.retry_after_s or 0.0, _EVERY_S), _LONGEST_PAUSE_S)
                await trio.sleep(pause_s)
        return None

    async def _poll(self) -> Granted | None:
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        request = Request("POST", self._endpoint, "login", headers, self._form, follow=False)
        async with self._transport.open(request) as reply:
            if reply.status == 404:
                return None
            await reply.require(200)
            body = await reply.read_all(64 * 1024)
        try:
            told = json_of(body, _Credentials)
        except msgspec.ValidationError as error:
            raise _no_credentials() from error
        except msgspec.DecodeError:
            return None  # a page of somebody in between: the server itself has not answered yet
        if not all(map(is_credential, (told.login_name, told.app_password))):
            raise _no_credentials()
        return Granted(told.login_name, told.app_password)


def _no_credentials() -> ProtocolViolation:
    return ProtocolViolation(
        "the server's answer to the login has no user name and password", subject="login"
    )


async def _begin(transport: Transport, base_url: str) -> _Begun | None:
    request = Request(
        "POST", f"{base_url}index.php/login/v2", "login", {"Accept": "application/json"}, follow=False
    )
    async with transport.open(request) as reply:
        if reply.status in _NOT_OFFERED:
            return None
        if reply.status != 200:
            raise error_of_reply(await reply.failure())
        body = await reply.read_all(64 * 1024)
    try:
        return json_of(body, _Begun)
    except msgspec.DecodeError:
        return None  # a page

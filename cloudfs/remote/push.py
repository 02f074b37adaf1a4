"""Nextcloud's notify_push: a websocket on which the server tells at once that something has changed (protocol.md §12).

A message is a hint and no more: it may name some of what changed, or nothing, and one may be lost. Whoever gets it
looks what it was. Credentials go to the origin of the account and nowhere else, as with every other request.
"""

from __future__ import annotations

import logging
import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Annotated, NoReturn
from urllib.parse import urlsplit, urlunsplit

import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import ProtocolError

from cloudfs.errors import (
    NotAuthenticated,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.paths import ROOT_PATH
from cloudfs.remote.exchange import Request
from cloudfs.remote.hrefs import origin_of
from cloudfs.remote.protocol import Pushed
from cloudfs.remote.proxies import Proxy, proxy_for
from cloudfs.remote.session import Session

__all__ = ["Ear", "based_on", "follow", "heard_in", "login_for", "moved_to"]

_log = logging.getLogger(__name__)

_CONNECT_S = 15.0
"""Each of: a connection, TLS, the answer that it is a websocket."""
_LOGIN_S = 20.0
"""The server itself gives up after 15 s."""
_SILENCE_S, _PONG_S = 60.0, 15.0
"""After so long without a word the server is asked whether it is still there. It asks us every 30 s, unseen by us."""
_MOST_BYTES = 1024 * 1024
_QUEUE = 16
_HEAD_BYTES = 16 * 1024
_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
_SECURE = {"http": "ws", "https": "wss"}
_TOKEN = re.compile(r"[!-~]{8,512}")
"""Not empty, and no page of somebody else."""
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_REFUSED = "err: Invalid credentials"
"""SOURCE: src/error.rs of notify_push 1.4.0. Any other error is of asking the Nextcloud about the login."""
_NAMED = re.compile(r"notify_file_id\s+(.*)", re.DOTALL)

_BROKEN = (
    HandshakeError,
    ConnectionClosed,
    ProtocolError,
    OSError,
    ssl.SSLError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)
"""Everything that a connection which does not come about, or breaks, can raise."""


class Ear(msgspec.Struct, frozen=True):
    """Who is told what. Both return at once."""

    connected: Callable[[], None]
    """From now on every change is told."""
    heard: Callable[[Pushed], None]


def based_on(announced: str, base_url: str) -> str:
    """Return a websocket's address on the origin that the user typed. Pure; ValueError where it is none.

    Behind a proxy servers get scheme, host and port wrong (protocol.md §1); and one on another host would get the
    password.
    """
    moved = moved_to(announced, base_url, set(_SECURE.values()))
    return "ws" + moved.removeprefix("http")


def moved_to(announced: str, base_url: str, schemes: AbstractSet[str]) -> str:
    """Return an address that the server made, with the scheme, host and port that the user typed. Pure; ValueError."""
    parts = urlsplit(announced)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"not an address of {' or '.join(sorted(schemes))} (of a websocket, or of a page)")
    if not (parts.path + parts.query).isascii() or not (parts.path + parts.query).isprintable():
        raise ValueError("not an address that HTTP can ask for")
    base = urlsplit(base_url)
    return urlunsplit((base.scheme, base.netloc, parts.path or "/", parts.query, ""))


async def login_for(session: Session, url: str, user: str, password: str) -> tuple[str, str]:
    """Return the two words of one login to the push server: a token in the place of name and password.

    The password itself goes there only where no token is had: what listens there is another program than the one that
    knows the account, and asks that one. A token is good for 15 s (protocol.md §12).

    Raises what held the question back, or what makes it useless to go on: no connection, a refused login, a server that
    wants to be left alone.
    """
    if not url:
        return user, password
    try:
        reply = await session.fetch(Request("POST", url, ROOT_PATH, tells_of_login=False), 200)
    except (Unavailable, Unreachable, NotAuthenticated):
        raise
    except RemoteError as error:
        _log.debug("no token for the push server: %s", error)
        return user, password
    token = reply.body.decode("ascii", "replace").strip()
    return ("", token) if _TOKEN.fullmatch(token) else (user, password)


def heard_in(message: str | bytes) -> Pushed | None:
    """Understand a message; None where it is about something else than files. Pure."""
    text = message if isinstance(message, str) else message.decode(errors="replace")
    if text.strip() == "notify_file":
        return Pushed(None)
    if (named := _NAMED.fullmatch(text)) is None:
        return None
    try:
        numbers = msgspec.json.decode(named[1], type=list[_Id])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Pushed(None)
    return Pushed(tuple(str(number) for number in numbers))


async def follow(
    url: str, user: str, password: str, ear: Ear, *, tls: ssl.SSLContext, user_agent: str
) -> None:
    """Listen until the connection ends, which it always does with an error.

    Raises NotAuthenticated where the login is refused; Unsupported where there is no such thing; Unreachable,
    ServerFault and ProtocolViolation where it did not come about or broke. Never waits for anything without an end.
    """
    end: RemoteError | None = None
    try:
        async with _stream(url, tls) as stream, trio.open_nursery() as nursery:
            end = await _converse(nursery, stream, url, (user, password), ear, user_agent)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        broken, others = group.split(Exception)
        if others is not None or broken is None:
            raise
        end = end or _error_of(broken.exceptions[0])
    except _BROKEN as error:
        end = _error_of(error)
    raise end


@asynccontextmanager
async def _stream(url: str, tls: ssl.SSLContext) -> AsyncIterator[_Stream]:
    """Connect. The stream is ours to close: the library leaves it open where the server breaks the connection."""
    http_url = "http" + url.removeprefix("ws")
    scheme, host, port = origin_of(http_url)
    proxy = proxy_for(http_url)
    with trio.fail_after(_CONNECT_S):
        plain = await trio.open_tcp_stream(*((host, port) if proxy is None else (proxy.host, proxy.port)))
    stream: _Stream = plain
    try:
        if proxy is not None:
            with trio.fail_after(_CONNECT_S):
                await _pass_through(plain, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        if scheme == "https":
            stream = secured = trio.SSLStream(plain, tls, server_hostname=host, https_compatible=True)
            with trio.fail_after(_CONNECT_S):
                await secured.do_handshake()
        yield stream
    finally:
        await trio.aclose_forcefully(stream)


async def _pass_through(stream: trio.SocketStream, proxy: Proxy, target: str) -> None:
    """Have a proxy connect us to the server; raises ServerFault where it refuses. SOURCE: RFC 9110 §9.3.6.

    Nothing follows the head of its answer: the first word on the way is ours, with TLS and without.
    """
    request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if proxy.login is not None:
        request += f"Proxy-Authorization: Basic {b64encode(':'.join(proxy.login).encode()).decode()}\r\n"
    await stream.send_all(f"{request}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = await stream.receive_some(_HEAD_BYTES)
        answer += more
        if not more or len(answer) > _HEAD_BYTES:
            raise ServerFault("the proxy does not answer")
    if re.match(rb"HTTP/1\.\d 2\d\d", answer) is None:
        raise ServerFault("the proxy refuses the connection to the push server")


async def _converse(
    nursery: trio.Nursery,
    stream: _Stream,
    url: str,
    login: tuple[str, str],
    ear: Ear,
    user_agent: str,
) -> RemoteError:
    """Log in and listen; return why that ended."""
    parts = urlsplit(url)
    try:
        with trio.fail_after(_CONNECT_S):
            socket = await wrap_client_stream(
                nursery,
                stream,
                parts.netloc,
                urlunsplit(("", "", parts.path or "/", parts.query, "")),
                extra_headers=[(b"User-Agent", user_agent.encode())],
                message_queue_size=_QUEUE,
                max_message_size=_MOST_BYTES,
            )
        await _log_in(socket, *login)
        await socket.send_message("listen notify_file_id")
        ear.connected()
        await _listen(socket, ear.heard)
    except RemoteError as error:
        return error
    except _BROKEN as error:
        return _error_of(error)


async def _log_in(socket: WebSocketConnection, user: str, password: str) -> None:
    await socket.send_message(user)
    await socket.send_message(password)
    with trio.fail_after(_LOGIN_S):
        answer = await socket.get_message()
    if answer == "authenticated":
        return
    if answer == _REFUSED:
        raise NotAuthenticated("the push server does not accept the login")
    if isinstance(answer, str) and answer.startswith("err:"):
        raise ServerFault("the push server cannot tell whether the login is good")
    raise ProtocolViolation("the push server answers the login with something else")


async def _listen(socket: WebSocketConnection, heard: Callable[[Pushed], None]) -> NoReturn:
    while True:
        message: str | bytes | None = None
        with trio.move_on_after(_SILENCE_S):
            message = await socket.get_message()
        if message is None:
            with trio.fail_after(_PONG_S):
                await socket.ping()
            continue
        pushed = heard_in(message)
        _log.debug("the push server says: %s", pushed)
        if pushed is not None:
            heard(pushed)


def _error_of(error: BaseException) -> RemoteError:
    """Say in our words what the library, or the connection, has raised; the group it comes in is looked through."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, ConnectionRejected):
        told: RemoteError = Unreachable(f"the push server: {str(error) or type(error).__name__}")
    elif error.status_code in {404, 405, 410, 501}:
        told = Unsupported("there is no push server at its address", status=error.status_code)
    else:
        # Also a 401: that one comes from a proxy, the login was not sent yet.
        told = ServerFault("the push server refuses the connection", status=error.status_code)
    told.__cause__ = error
    return told

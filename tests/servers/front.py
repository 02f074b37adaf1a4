"""A notify_push in front of a Nextcloud that has none: all else goes there and back as it comes.

For measuring, and for the whole way of a real server's changes; what it tells, and when, is up to the caller (`push`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from tests.servers.standin.messages import JSON, Headers, Request, Response
from tests.servers.standin.push import PRE_AUTH, PreAuth, PushServer
from tests.servers.standin.wire import Delivery, HttpServer

_TIMEOUT_S = 300.0
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te"})
_OCS = {"OCS-APIRequest": "true"}


@dataclass(frozen=True)
class _Person:
    id: str


class _Logins:
    """Who may come in, as the Nextcloud says. SOURCE: notify_push asks it for the user's id with each login."""

    def __init__(self, upstream: str) -> None:
        self._url = f"{upstream}/ocs/v2.php/cloud/user?format=json"

    def by_login(self, login: str, password: str) -> _Person | None:
        return self._answer(httpx.get(self._url, auth=(login, password), headers=_OCS, timeout=_TIMEOUT_S))

    def of(self, request: Request) -> _Person | None:
        sent = {name: request.header(name) for name in ("authorization", "cookie") if request.header(name)}
        return self._answer(httpx.get(self._url, headers=_OCS | sent, timeout=_TIMEOUT_S))

    @staticmethod
    def _answer(reply: httpx.Response) -> _Person | None:
        return _Person(reply.json()["ocs"]["data"]["id"]) if reply.status_code == 200 else None


class PushFront:
    """Listens on a free port for as long as it is entered. `upstream`: scheme, host and port of the Nextcloud."""

    def __init__(self, upstream: str) -> None:
        self._upstream = httpx.URL(upstream)
        self._logins = _Logins(upstream.rstrip("/"))
        self.push = PushServer(self._logins)
        self.push.enabled = True
        self._pre_auth = PreAuth(self.push)
        self._transport = httpx.HTTPTransport(limits=httpx.Limits(max_connections=None))
        self._http: HttpServer | None = None

    @property
    def url(self) -> str:
        """What to log in to."""
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.port}"

    def __enter__(self) -> Self:
        self._http = HttpServer(self._answer, lambda _request, _delivery: None, 0, None, self.push)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._http is not None
        self._http.stop()
        self._transport.close()

    def _answer(self, request: Request) -> tuple[Response, Delivery]:
        if request.path == f"/index.php{PRE_AUTH}":
            person = self._logins.of(request)
            return (Response(401) if person is None else self._pre_auth.token_for(person)), Delivery()
        reply = self._passed_on(request)
        if request.path.endswith("/cloud/capabilities") and reply.status_code == 200:
            return self._with_push(reply), Delivery()
        length = reply.headers.get("content-length")
        return Response(
            reply.status_code, _end_to_end(reply), _body(reply), None if length is None else int(length)
        ), Delivery()

    def _passed_on(self, request: Request) -> httpx.Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        headers = [(name, value) for name, value in headers if name != "host"]
        if request.body.length:
            headers.append(("content-length", str(request.body.length)))
        return self._transport.handle_request(
            httpx.Request(
                request.method,
                self._upstream.copy_with(raw_path=request.target.encode("latin-1")),
                headers=headers,
                content=request.body.blocks() if request.body.length != 0 else None,
                extensions={"timeout": httpx.Timeout(_TIMEOUT_S).as_dict()},
            )
        )

    def _with_push(self, reply: httpx.Response) -> Response:
        told: dict[str, Any] = json.loads(reply.read())
        told["ocs"]["data"]["capabilities"]["notify_push"] = self.push.announced
        body = json.dumps(told).encode()
        kept = [
            pair for pair in _end_to_end(reply) if pair[0].lower() not in {"content-type", "content-encoding"}
        ]
        return Response(200, [*kept, JSON], body, len(body))


def _end_to_end(reply: httpx.Response) -> Headers:
    return [(name, value) for name, value in reply.headers.multi_items() if name not in _HOP_BY_HOP]


def _body(reply: httpx.Response) -> Iterator[bytes]:
    try:
        yield from reply.iter_raw()
    finally:
        reply.close()

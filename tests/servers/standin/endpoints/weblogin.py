"""``/login…``: the web form, and login flow v2 with its pages (protocol.md §11).

SOURCE: measured on 29.0.1 with a client that does what a browser does: where each page redirects to, what its form
sends, and what is refused.
"""

from __future__ import annotations

import secrets
import string
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from urllib.parse import parse_qsl, quote

from tests.servers.standin.messages import HTML, JSON, Headers, Request, Response, php_json
from tests.servers.standin.site import INSTANCE_ID, Site
from tests.servers.standin.users import User

LIFETIME_S = 1200.0
_ALPHABET = string.ascii_letters + string.digits


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass
class _Flow:
    """One flow: begun by a client, granted in a browser, handed over once."""

    client: str
    began: float
    granted: tuple[str, str, str] | None = None
    """Server, login name and app password."""


@dataclass
class _Session:
    """A browser's session."""

    request_token: str = field(default_factory=lambda: _random(44))
    user: User | None = None
    login_name: str = ""
    flow: str = ""
    state: str = ""


class WebLogin:
    """Answers below ``/login``."""

    needs_login = False

    def __init__(self, site: Site) -> None:
        self._site = site
        self.own_url = f"http://127.0.0.1{site.prefix}"
        """What the server takes for its own address; its port is lost, as on the real one behind nginx (§1)."""
        self.offered = True
        """Whether there is a flow at all: older servers and ownCloud have none."""
        self._mutex = threading.Lock()
        self._flows: dict[str, _Flow] = {}
        """By the poll token."""
        self._by_login_token: dict[str, str] = {}
        self._sessions: dict[str, _Session] = {}
        self._routes: dict[tuple[str, str], Callable[[Request, _Session], Response]] = {
            ("POST", "/login/v2"): self._begin,
            ("POST", "/login/v2/poll"): self._poll,
            ("GET", "/login/v2/flow"): self._picker,
            ("GET", "/login/v2/grant"): self._grant_page,
            ("POST", "/login/v2/grant"): self._grant,
            ("GET", "/login"): self._form,
            ("POST", "/login"): self._log_in,
        }

    def handle(self, request: Request) -> Response:
        """Find the page; every answer carries the session's cookie."""
        if self._site.maintenance:
            request.body.drain()
            return Response(503, [HTML, ("Retry-After", "120"), ("X-Nextcloud-Maintenance-Mode", "1")], b"")
        path = request.path.rstrip("/")
        key, session = self._session(request)
        route = self._routes.get((request.method, path))
        if path.startswith("/login/v2") and not self.offered:
            route = None
        if route is not None:
            response = route(request, session)
        elif request.method == "GET" and path.startswith("/login/v2/flow/") and self.offered:
            response = self._land(path.rpartition("/")[2], session)
        else:
            request.body.drain()
            response = _page(404, "Page not found")
        response.headers.append(("Set-Cookie", f"{INSTANCE_ID}={key}; path=/; HttpOnly; SameSite=Lax"))
        return response

    def expire(self) -> None:
        """Let every flow's time be over."""
        with self._mutex:
            for flow in self._flows.values():
                flow.began -= LIFETIME_S

    def _session(self, request: Request) -> tuple[str, _Session]:
        cookies = (part.strip().partition("=") for part in request.header("cookie").split(";"))
        key = next((value for name, _, value in cookies if name == INSTANCE_ID), "")
        with self._mutex:
            if key not in self._sessions:
                key = secrets.token_hex(13)
                self._sessions[key] = _Session()
            return key, self._sessions[key]

    # What the client asks

    def _begin(self, request: Request, session: _Session) -> Response:
        del session
        request.body.drain()
        token, login_token = _random(128), _random(128)
        with self._mutex:
            self._flows[token] = _Flow(request.header("user-agent"), time.monotonic())
            self._by_login_token[login_token] = token
        poll = {"token": token, "endpoint": f"{self.own_url}/login/v2/poll"}
        return _json(200, {"poll": poll, "login": f"{self.own_url}/login/v2/flow/{login_token}"})

    def _poll(self, request: Request, session: _Session) -> Response:
        del session
        token = _fields(request).get("token", "")
        with self._mutex:
            flow = self._flows.get(token)
            if flow is None or flow.granted is None or not _is_alive(flow):
                return _json(404, [])
            del self._flows[token]
        server, login_name, app_password = flow.granted
        return _json(200, {"server": server, "loginName": login_name, "appPassword": app_password})

    # What the browser shows

    def _flow_of(self, session: _Session) -> _Flow | None:
        flow = self._flows.get(self._by_login_token.get(session.flow, ""))
        return flow if flow is not None and _is_alive(flow) else None

    def _land(self, login_token: str, session: _Session) -> Response:
        session.flow = login_token
        if self._flow_of(session) is None:
            return _page(403, "Your login token is invalid or has expired")
        return _see_other(f"{self.own_url}/login/v2/flow?user=")

    def _picker(self, request: Request, session: _Session) -> Response:
        flow = self._flow_of(session)
        if flow is None:
            return _page(403, "Your login token is invalid or has expired")
        session.state = _random(64)
        action = f"{self.own_url}/login/v2/grant?user={quote(request.query.get('user', ''))}&stateToken={session.state}"
        form = f'<form id="login-form" action="{escape(action)}" method="get"></form>'
        return _page(200, f"{escape(flow.client)} {form}", session.request_token)

    def _grant_page(self, request: Request, session: _Session) -> Response:
        if session.user is None:
            if "text/html" not in request.header("accept"):
                return _json(401, {"message": "Current user is not logged in"})
            target = quote(request.target.removeprefix("/index.php"), safe="/?")
            return _see_other(f"/login?redirect_url={target}")
        if request.query.get("stateToken") != session.state or not session.state:
            return _page(403, "State token does not match")
        fields = {"requesttoken": session.request_token, "stateToken": session.state}
        inputs = "".join(
            f'<input type="hidden" name="{name}" value="{value}" />' for name, value in fields.items()
        )
        form = f'<form method="POST" action="{self.own_url}/login/v2/grant">{inputs}</form>'
        return _page(200, form, session.request_token)

    def _grant(self, request: Request, session: _Session) -> Response:
        fields = _fields(request)
        if session.user is None:
            return _json(401, {"message": "Current user is not logged in"})
        if fields.get("requesttoken") != session.request_token:
            return _json(412, {"message": "CSRF check failed"})
        if fields.get("stateToken") != session.state or not session.state:
            return _page(403, "State token does not match")
        flow = self._flow_of(session)
        if flow is None:
            return _page(403, "Your login token is invalid or has expired")
        token = self._site.users.mint(session.user, session.login_name)
        flow.granted = (self.own_url, session.login_name, token)
        session.state = session.flow = ""
        return _page(200, "Account connected", session.request_token)

    def _form(self, request: Request, session: _Session) -> Response:
        return _page(200, "<div id='login'></div>", session.request_token)

    def _log_in(self, request: Request, session: _Session) -> Response:
        fields = _fields(request)
        if fields.get("requesttoken") != session.request_token:
            return _json(412, {"message": "CSRF check failed"})
        login_name, password = fields.get("user", ""), fields.get("password", "")
        user = self._site.users.get(login_name)
        if user is None or user.password != password:
            return _see_other(f"/login?user={quote(login_name)}&direct=1")
        session.user, session.login_name = user, login_name
        return _see_other(f"{self.own_url}{request.query.get('redirect_url', '/apps/files')}")


def _is_alive(flow: _Flow) -> bool:
    return time.monotonic() - flow.began < LIFETIME_S


def _fields(request: Request) -> dict[str, str]:
    return dict(parse_qsl(request.body.read().decode(), keep_blank_values=True))


def _json(status: int, value: object) -> Response:
    body = php_json(value)
    return Response(status, [JSON], body, len(body))


def _see_other(url: str) -> Response:
    headers: Headers = [HTML, ("Location", url)]
    return Response(303, headers, b"", 0)


def _page(status: int, text: str, token: str = "") -> Response:
    body = (
        f'<!DOCTYPE html><html><head data-requesttoken="{token}"></head><body>{text}</body></html>'.encode()
    )
    return Response(status, [HTML], body, len(body))

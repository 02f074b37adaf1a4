"""Who may come in: login passwords, app passwords, sessions (protocol.md §11)."""

from __future__ import annotations

import base64
import binascii
import secrets
import string
import threading
from dataclasses import dataclass, field

from tests.servers.standin.blobs import Blob
from tests.servers.standin.errors import DavError
from tests.servers.standin.locks import LockTable
from tests.servers.standin.messages import Headers, Request
from tests.servers.standin.names import Segments
from tests.servers.standin.tree import Counters, Tree
from tests.servers.standin.uploads import Upload

_NO_HEADER = "header found. Either the client didn't send one, or the server is"
_NO_BASIC = f"No 'Authorization: Basic' {_NO_HEADER} misconfigured"
_NO_BEARER = f"No 'Authorization: Bearer' {_NO_HEADER} mis-configured"
_WRONG = "Username or password was incorrect"
_PUBLIC = "No public access to this resource."
_TOKEN_ALPHABET = string.ascii_letters + string.digits
_TOKEN_LENGTH = 72


@dataclass(eq=False)
class User:
    """An account: its credentials, its files, its quota."""

    id: str
    password: str
    tree: Tree
    locks: LockTable = field(default_factory=LockTable)
    uploads: dict[str, Upload] = field(default_factory=dict)
    parts: dict[Segments, Blob] = field(default_factory=dict)
    """What was moved under a ``.part`` name, which no listing shows."""
    quota_bytes: int | None = None
    """``None``: only the disk limits."""
    app_passwords: dict[str, str] = field(default_factory=dict)
    """App password to the login name it was made under."""
    two_factor: bool = False
    """Login passwords are refused, app passwords work."""
    to_wipe: set[str] = field(default_factory=set)
    """App passwords of devices that are to be wiped: they open nothing any more."""


class Users:
    """All accounts of one server, and the sessions its cookies stand for."""

    def __init__(self, counters: Counters, instance_id: str) -> None:
        self._counters = counters
        self._instance_id = instance_id
        self._users: dict[str, User] = {}
        self._sessions: dict[str, tuple[User, str | None]] = {}
        self._mutex = threading.Lock()

    def add(self, user_id: str, password: str) -> User:
        """A new, empty account."""
        user = User(user_id, password, Tree(user_id, self._counters))
        self._users[user_id] = user
        return user

    def get(self, user_id: str) -> User | None:
        """An account by id, in any case of its letters (protocol.md §1)."""
        return next((user for user in self._users.values() if user.id.lower() == user_id.lower()), None)

    def mint(self, user: User, login_name: str | None = None) -> str:
        """A new app password, good for this login name only."""
        token = "".join(secrets.choice(_TOKEN_ALPHABET) for _ in range(_TOKEN_LENGTH))
        with self._mutex:
            user.app_passwords[token] = login_name or user.id
        return token

    def revoke(self, user: User, token: str) -> None:
        """End an app password and the sessions begun with it."""
        with self._mutex:
            user.app_passwords.pop(token, None)
            stale = [key for key, (_, with_token) in self._sessions.items() if with_token == token]
            for key in stale:
                del self._sessions[key]

    def mark_for_wipe(self, user: User, token: str) -> None:
        """Have the device of an app password wiped (protocol.md §11)."""
        self.revoke(user, token)
        user.to_wipe.add(token)

    def wiped(self, token: str, *, done: bool) -> bool:
        """Whether the device of an app password is to be wiped; ``done`` ends that."""
        for user in self._users.values():
            if token in user.to_wipe:
                if done:
                    user.to_wipe.discard(token)
                return True
        return False

    def authenticate(self, request: Request) -> Headers:
        """Set the request's user, or refuse with 401. Returns the cookies to set.

        A session cookie beats the Authorization header (protocol.md §0 rule 2).
        """
        cookie = self._cookies(request).get(self._instance_id, "")
        with self._mutex:
            session = self._sessions.get(cookie)
        if session is not None:
            request.user, request.app_password = session
            request.session = cookie
            return []
        self._check_authorization(request)
        return self._begin_session(request)

    def by_login(self, login: str, password: str) -> User | None:
        """The account that this login opens."""
        for user in self._users.values():
            if user.app_passwords.get(password) == login:
                return user
        user_by_name = self.get(login)
        matches = user_by_name is not None and user_by_name.password == password
        return user_by_name if matches else None

    def end_session(self, request: Request) -> Headers:
        """Log the request's session out, as a POST to the bulk endpoint does (§8). Returns the cookies to delete."""
        with self._mutex:
            self._sessions.pop(request.session or "", None)
        gone = "deleted; expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; path=/; HttpOnly"
        return [("Set-Cookie", f"{name}={gone}") for name in ("nc_username", "nc_token", "nc_session_id")]

    def check_again(self, request: Request) -> None:
        """Authenticate by the Authorization header alone."""
        self._check_authorization(request)

    def _check_authorization(self, request: Request) -> None:
        kind, _, value = request.header("authorization").partition(" ")
        if kind.lower() == "bearer":
            self._check_bearer(request, value.strip())
        elif kind.lower() == "basic":
            self._check_basic(request, value.strip())
        else:
            raise _unauthorized(_PUBLIC, _NO_BASIC, _NO_BEARER, _NO_BASIC)

    def _check_bearer(self, request: Request, token: str) -> None:
        for user in self._users.values():
            if token in user.app_passwords:
                request.user, request.app_password = user, token
                return
        raise _unauthorized(_PUBLIC, _NO_BASIC, "Bearer token was incorrect", _NO_BASIC)

    def _check_basic(self, request: Request, value: str) -> None:
        try:
            login, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            login, password = "", ""
        for user in self._users.values():
            if user.app_passwords.get(password) == login:
                request.user, request.app_password = user, password
                return
        user_by_name = self.get(login)
        if user_by_name is None or not secrets.compare_digest(
            user_by_name.password.encode(), password.encode()
        ):
            raise _unauthorized(_PUBLIC, _WRONG, _NO_BEARER, _WRONG)
        if user_by_name.two_factor:
            raise DavError(401, exception="OCA\\DAV\\Connector\\Sabre\\Exception\\PasswordLoginForbidden")
        request.user = user_by_name

    def _begin_session(self, request: Request) -> Headers:
        key = secrets.token_hex(13)
        with self._mutex:
            self._sessions[key] = (request.account, request.app_password)
        year_2100 = "path=/; httponly;expires=Fri, 31-Dec-2100 23:59:59 GMT"
        return [
            ("Set-Cookie", f"oc_sessionPassphrase={secrets.token_hex(32)}; path=/; HttpOnly; SameSite=Lax"),
            ("Set-Cookie", f"nc_sameSiteCookielax=true; {year_2100}; SameSite=lax"),
            ("Set-Cookie", f"nc_sameSiteCookiestrict=true; {year_2100}; SameSite=strict"),
            ("Set-Cookie", f"{self._instance_id}={key}; path=/; HttpOnly; SameSite=Lax"),
        ]

    @staticmethod
    def _cookies(request: Request) -> dict[str, str]:
        pairs = (part.strip().partition("=") for part in request.header("cookie").split(";"))
        return {name: value for name, _, value in pairs}


def _unauthorized(*messages: str) -> DavError:
    return DavError(
        401,
        ", ".join(messages),
        headers={"WWW-Authenticate": 'Basic realm="Nextcloud", charset="UTF-8"'},
    )

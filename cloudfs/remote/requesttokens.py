"""What lets a session speak for a change by POST: Nextcloud's request token, which shows that nobody forged it.

    GET index.php/csrftoken    {"token": "…"}, good as long as the session whose cookies asked for it

A POST to DAV that brings the cookies without it is met with a logout (protocol.md §8). With it neither the session nor
the cookies change, and no password is compared.
SOURCE: apps/dav/lib/Connector/Sabre/Auth.php (`requiresCSRFCheck`), and measured on 29.0.1: 16 ms for the token, once.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec

from cloudfs.errors import ProtocolViolation
from cloudfs.remote.cookies import Cookies
from cloudfs.remote.exchange import Lane, Reply, Request
from cloudfs.remote.values import json_of

__all__ = ["RequestTokens", "Send"]

_LONGEST_REPLY_BYTES = 4096
_MOST_REFUSALS = 2
"""So often in a row a token may be refused before no more are tried: each refusal ends the session."""


class Send(Protocol):
    """Sends one request."""

    def __call__(self, request: Request, /, *, with_password: bool) -> Awaitable[Reply]:
        """With the password or without it."""


class _Answer(msgspec.Struct, frozen=True):
    token: str


class RequestTokens:
    """The token of the session in use, asked for when it is first needed."""

    def __init__(self, cookies: Cookies) -> None:
        self.url: str | None = None
        """Who gives them out; None: nobody does."""
        self._cookies = cookies
        self._known = ("", "")
        """The cookies that asked, and the token; an empty one: they get none."""
        self._refused = 0

    async def signed(self, request: Request, send: Send) -> Request | None:
        """Return the request with the session's cookies and its token; None where it takes the password."""
        if self.url is None or self._refused >= _MOST_REFUSALS:
            return None
        cookies = self._cookies.header_for(self.url)
        if cookies != self._known[0]:
            self._known = (cookies, await self._token(self.url, cookies, send))
        # INVARIANT: a token goes with its own session only: another one's would end that.
        known, token = self._known
        if not token or self._cookies.header_for(self.url) != known:
            return None
        return msgspec.structs.replace(
            request, headers=request.headers | {"Cookie": known, "requesttoken": token}
        )

    async def _token(self, url: str, cookies: str, send: Send) -> str:
        # In that lane, which keeps no cookies: where the session has ended it is a stranger who asks, and is given one.
        asked = Request("GET", url, "index.php/csrftoken", {"Cookie": cookies}, lane=Lane.BULK, follow=False)
        reply = await send(asked, with_password=False)
        try:
            if reply.status != 200:
                return ""
            token = json_of(await reply.read_all(_LONGEST_REPLY_BYTES), _Answer).token
        except (ProtocolViolation, msgspec.DecodeError):
            return ""  # a page, or whatever else stands there
        finally:
            await reply.aclose()
        return token if token.isascii() and token.isprintable() else ""

    def note(self, *, taken: bool) -> None:
        """Say what became of a request that was signed: that it was taken, or that only the password was."""
        self._refused = 0 if taken else self._refused + 1

    def log_in(self) -> None:
        """Try again: there is another login."""
        self._refused = 0

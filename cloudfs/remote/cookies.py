"""The cookies of one account's server: its session, and whatever else it sets, within bounds.

All of them go with every request, and a server may set others with every answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.request import Request

__all__ = ["Cookies", "no_cookies"]

_MOST_COOKIES = 50
_MOST_BYTES = 4096
"""Both as browsers have it (RFC 6265, section 6.1). A Nextcloud sets six, of 200 bytes each at most."""


class Cookies(CookieJar):
    """Keeps no more, and no larger ones; of one that is known the latest value."""

    def make_cookies(self, response: Any, request: Request) -> Sequence[Cookie]:  # noqa: ANN401  # as there
        """Leave out what the request brought, and was dropped since: refusing a session Nextcloud sets it once more."""
        kept = {(it.name, it.value) for it in self}
        brought = {word.strip() for word in (request.get_header("Cookie") or "").split(";")}
        made = super().make_cookies(response, request)
        return [it for it in made if (it.name, it.value) in kept or f"{it.name}={it.value}" not in brought]

    def set_cookie(self, cookie: Cookie) -> None:
        """Keep a cookie, or leave it: one that no request can bring would end all of them."""
        if not all(map(_fits_header, (cookie.name, cookie.value or "", cookie.path))):
            return
        known = {(it.domain, it.path, it.name) for it in self}
        is_new = (cookie.domain, cookie.path, cookie.name) not in known
        size = sum(map(len, (cookie.name, cookie.value or "", cookie.domain, cookie.path)))
        if size <= _MOST_BYTES and not (is_new and len(known) >= _MOST_COOKIES):
            super().set_cookie(cookie)


def _fits_header(text: str) -> bool:
    """Tell whether httpx can send it. SOURCE: its `Headers`, which encode as ASCII; a name is a server's own, and free.

    Browsers send other bytes back as they came, and drop cookies with control characters (RFC 6265bis, section 5.6).
    """
    return text.isascii() and text.isprintable()


def no_cookies() -> CookieJar:
    """Return a jar that keeps nothing."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))

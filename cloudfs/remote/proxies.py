"""The proxy between us and a server, as the environment names it for every program: HTTPS_PROXY, HTTP_PROXY, NO_PROXY.

Of this machine no proxy is asked, whatever the environment says: it would look for the server on its own.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from cloudfs.errors import ExitCode, UserError

__all__ = ["Proxy", "proxy_for"]


class Proxy(NamedTuple):
    """An HTTP proxy, and what it asks for before it lets anybody through."""

    host: str
    port: int
    login: tuple[str, str] | None

    @property
    def url(self) -> str:
        """Its address, without the login."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def proxy_for(url: str) -> Proxy | None:
    """Return the environment's proxy for a server's address; UserError where it names one that cannot be used."""
    parts = urlsplit(url)
    known = getproxies_environment()
    named = known.get(parts.scheme) or known.get("all")
    if not named or _is_here(parts.hostname or "") or proxy_bypass(parts.netloc, known):
        return None
    return _parsed(named if "://" in named else f"http://{named}")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parsed(named: str) -> Proxy:
    try:
        parts = urlsplit(named)
        if parts.scheme == "http" and parts.hostname:
            login = None
            if parts.username is not None:
                login = unquote(parts.username), unquote(parts.password or "")
            return Proxy(parts.hostname, parts.port or 80, login)
    except ValueError:
        pass
    # Not shown as it is: it may have a password in it.
    raise UserError(
        "The proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) is not an http:// address.",
        hint="Name an HTTP proxy there, or add the server to NO_PROXY.",
        code=ExitCode.BAD_CONFIG,
    )

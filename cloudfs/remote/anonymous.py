"""What a Nextcloud tells without a login: whether it is in maintenance, and whether a lost device is to be wiped.

Asked apart from everything else, without credentials and cookies: a login that the server refuses counts against
everybody behind the same address, and while it is in maintenance every other request fails. SOURCE: protocol.md §11.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import msgspec

from cloudfs.remote import ocs
from cloudfs.remote.exchange import Request
from cloudfs.remote.protocol import Health
from cloudfs.remote.transport import Limits, Transport
from cloudfs.remote.values import json_of

__all__ = ["asks_for_wipe", "health", "tell_wiped"]


class _Wipe(msgspec.Struct, frozen=True):
    wipe: bool = False


async def health(base_url: str, tls: ssl.SSLContext, limits: Limits | None = None) -> Health | None:
    """Ask status.php; None where what answers is none. Raises RemoteError."""
    async with _asking(base_url, tls, limits) as transport:
        reply = await transport.fetch(Request("GET", f"{base_url}status.php", base_url, follow=False))
    status = ocs.read_status(reply)
    return None if status is None else Health(status.maintenance, status.needsDbUpgrade)


async def asks_for_wipe(
    base_url: str, app_password: str, tls: ssl.SSLContext, limits: Limits | None = None
) -> bool:
    """Tell whether the user has marked this app password's device as one to be wiped.

    For after a refused login only: the server takes the question for the beginning of the wipe, tells the user so, and
    answers ten of these in five minutes. Raises RemoteError.
    """
    async with _asking(base_url, tls, limits) as transport:
        reply = await transport.fetch(_about_wipe(base_url, "check", app_password), 200, 404)
    if reply.status == 404:
        return False
    try:
        return json_of(reply.body, _Wipe).wipe
    except msgspec.DecodeError:
        return False  # a page of somebody in between


async def tell_wiped(
    base_url: str, app_password: str, tls: ssl.SSLContext, limits: Limits | None = None
) -> None:
    """Say that this device was wiped: the server tells the user, and forgets the app password. Raises RemoteError."""
    async with _asking(base_url, tls, limits) as transport:
        await transport.fetch(_about_wipe(base_url, "success", app_password), 200, 404)


def _about_wipe(base_url: str, what: str, app_password: str) -> Request:
    form = f"token={quote(app_password, safe='')}".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return Request("POST", f"{base_url}index.php/core/wipe/{what}", "login", headers, form, follow=False)


@asynccontextmanager
async def _asking(base_url: str, tls: ssl.SSLContext, limits: Limits | None) -> AsyncIterator[Transport]:
    transport = Transport(base_url, None, tls=tls, limits=limits)
    try:
        yield transport
    finally:
        await transport.aclose()

"""Nextcloud's JSON: status.php and the OCS API, read with suspicion."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from cloudfs.errors import ProtocolViolation
from cloudfs.remote.exchange import Request, WholeReply
from cloudfs.remote.protocol import Space
from cloudfs.remote.transport import Transport

__all__ = ["Status", "call", "read_status", "space"]

T = TypeVar("T")


class Status(msgspec.Struct, frozen=True):
    """What status.php tells everybody."""

    installed: bool
    version: str
    versionstring: str = ""
    productname: str = ""
    maintenance: bool = False
    needsDbUpgrade: bool = False  # noqa: N815  # the server's spelling

    @property
    def name(self) -> str:
        """For people: "Nextcloud 29.0.1"."""
        return f"{self.productname or 'Nextcloud'} {self.versionstring or self.version}".strip()


class _Meta(msgspec.Struct, frozen=True):
    statuscode: int
    message: str | None = None


class _Inner(msgspec.Struct, frozen=True):
    meta: _Meta
    data: Any = None


class _Outer(msgspec.Struct, frozen=True):
    ocs: _Inner


def read_status(reply: WholeReply) -> Status | None:
    """Read a reply to status.php; None where it is anything else (a 404, a web page, other JSON)."""
    if reply.status != 200:
        return None
    try:
        return msgspec.json.decode(reply.body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def call(transport: Transport, base_url: str, path: str, kind: type[T], method: str = "GET") -> T:
    """Send one OCS request and return its data as `kind`.

    v2 of the API: the HTTP status is the OCS status (protocol.md §1). Raises the status's error, ProtocolViolation
    where the answer is no OCS answer.
    """
    url = f"{base_url}ocs/v2.php/{path}?format=json"
    request = Request(method, url, path, {"OCS-APIRequest": "true", "Accept": "application/json"})
    reply = await transport.fetch(request, 200)
    try:
        data = msgspec.json.decode(reply.body, type=_Outer).ocs.data
        return msgspec.convert(data, kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ProtocolViolation("the server's answer is not the one of a Nextcloud", subject=path) from error


class _Quota(msgspec.Struct, frozen=True):
    free: float = 0
    used: float = 0
    quota: float = -3
    """Below 0: no limit, or none known."""


class _User(msgspec.Struct, frozen=True):
    quota: _Quota


async def space(transport: Transport, base_url: str) -> Space | None:
    """Return the user's space; None where there is no limit. Up to date, unlike that of PROPFIND (protocol.md §2.1)."""
    quota = (await call(transport, base_url, "cloud/user", _User)).quota
    return Space(int(quota.free), int(quota.used)) if quota.quota >= 0 else None

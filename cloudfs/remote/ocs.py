"""Nextcloud's JSON: status.php and the OCS API, read with suspicion."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from cloudfs.errors import ProtocolViolation
from cloudfs.remote.exchange import Request, WholeReply
from cloudfs.remote.protocol import Space, Unlimited
from cloudfs.remote.transport import Transport
from cloudfs.remote.values import json_of, printable

__all__ = ["Status", "User", "call", "data_of", "read_status", "space", "space_of"]

T = TypeVar("T")

_MOST_NAME = 100
_MOST_BYTES = 2**63 - 1
_UNLIMITED = -3
"""SOURCE: OCP\\Files\\FileInfo::SPACE_UNLIMITED; -1 is not computed, -2 unknown."""


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
        return printable(
            f"{self.productname or 'Nextcloud'} {self.versionstring or self.version}", _MOST_NAME
        )


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
        return json_of(reply.body, Status)
    except msgspec.DecodeError:
        return None


async def call(transport: Transport, base_url: str, path: str, kind: type[T], method: str = "GET") -> T:
    """Send one OCS request and return its data as `kind`.

    v2 of the API: the HTTP status is the OCS status (protocol.md §1). Raises the status's error, ProtocolViolation
    where the answer is no OCS answer.
    """
    url = f"{base_url}ocs/v2.php/{path}?format=json"
    headers = {"OCS-APIRequest": "true", "Accept": "application/json"}
    # The server's abilities are told to strangers, too: fewer of them (protocol.md §1), and without a word of that.
    request = Request(method, url, path, headers, by_session=False)
    return data_of((await transport.fetch(request, 200)).body, kind, path)


def data_of(body: bytes, kind: type[T], subject: str) -> T:
    """Return the data of an OCS answer as `kind`; ProtocolViolation where it is none. Pure."""
    try:
        return msgspec.convert(json_of(body, _Outer).ocs.data, kind)
    except msgspec.DecodeError as error:
        raise ProtocolViolation(
            "the server's answer is not the one of a Nextcloud", subject=subject
        ) from error


class _Quota(msgspec.Struct, frozen=True):
    free: float | None = None
    used: float = 0
    quota: float | str = -3
    """Below 0, or a word: no limit, or none known."""


class User(msgspec.Struct, frozen=True):
    """What is told of the user, as far as it is of use here."""

    quota: _Quota | list[Any]
    """A list, empty, where the server could not look: PHP writes an empty table so."""


async def space(transport: Transport, base_url: str) -> Space | Unlimited | None:
    """Return the user's space; None where it is not told. Up to date, unlike that of PROPFIND (protocol.md §2.1)."""
    return space_of(await call(transport, base_url, "cloud/user", User))


def space_of(user: User) -> Space | Unlimited | None:
    """Return the space that a user has; None where it is not told. Pure."""
    quota = user.quota
    if not isinstance(quota, _Quota) or isinstance(quota.quota, str):
        return None
    if quota.quota == _UNLIMITED:
        return Unlimited(_bytes(quota.used))
    if quota.quota < 0 or quota.free is None:
        return None  # what is not told is not nothing: the account would count as full
    return Space(_bytes(quota.free), _bytes(quota.used))


def _bytes(number: float) -> int:
    return int(min(max(number, 0), _MOST_BYTES))

"""What a failed reply, or an exception of the HTTP libraries, means in our words. Pure.

Decided by status, method and Sabre's exception class (protocol.md §13), never by a message: those are translated.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping

import h11
import httpcore
import httpx
import msgspec
import trio

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    ContentRefused,
    Forbidden,
    Locked,
    Maintenance,
    NameRefused,
    NotAuthenticated,
    NotFound,
    ParentMissing,
    ProtocolViolation,
    QuotaExceeded,
    RemoteError,
    ServerFault,
    StorageAway,
    Throttled,
    TlsRejected,
    TooLarge,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.remote.multistatus import parse_error
from cloudfs.remote.values import http_date_s, json_of, printable, whole_number

__all__ = ["NETWORK_ERRORS", "UNCONNECTED", "Failure", "error_of_exception", "error_of_reply"]

NETWORK_ERRORS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    h11.ProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    ssl.SSLError,
    OSError,
    UnicodeError,  # a host name that cannot be one
)
"""Everything that talking to a server can raise; all of it is translated here and nowhere else."""

_BY_CLASS: dict[tuple[int, str], type[RemoteError]] = {
    (400, "InvalidPath"): NameRefused,
    (500, "LockedException"): Locked,
    (503, "ServerMaintenanceMode"): Maintenance,
    # One storage inside the account is down; the account is not.
    (503, "ServiceUnavailable"): StorageAway,
    (503, "StorageNotAvailableException"): StorageAway,
}

_BY_METHOD: dict[tuple[int, str], type[RemoteError]] = {
    (404, "PUT"): ParentMissing,
    (404, "MKCOL"): ParentMissing,
    (405, "MKCOL"): AlreadyExists,
    (409, "COPY"): ParentMissing,
    (409, "MKCOL"): ParentMissing,
    (409, "MOVE"): ParentMissing,
    (409, "PUT"): ParentMissing,
    (412, "COPY"): AlreadyExists,
    (412, "MOVE"): AlreadyExists,
    # SOURCE: files_antivirus throws it from the write; in pieces that is the MOVE that puts them together.
    (415, "MOVE"): ContentRefused,
    (415, "POST"): ContentRefused,
    (415, "PUT"): ContentRefused,
}

_BY_STATUS: dict[int, type[RemoteError]] = {
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    405: Unsupported,
    410: NotFound,
    412: Changed,
    413: TooLarge,
    414: NameRefused,
    415: Unsupported,
    416: Changed,
    423: Locked,
    429: Throttled,
    501: Unsupported,
    503: Unavailable,
    507: QuotaExceeded,
}

_SENTENCES: dict[type[RemoteError], str] = {
    AlreadyExists: "it already exists on the server",
    Changed: "it was changed on the server",
    ContentRefused: "the server does not take this content",
    Forbidden: "the server does not allow it",
    Locked: "it is in use on the server",
    NameRefused: "the server does not accept this name",
    NotAuthenticated: "the server does not accept the user name and password",
    NotFound: "it does not exist on the server",
    ParentMissing: "its folder does not exist on the server",
    QuotaExceeded: "the account has no room for it",
    StorageAway: "the storage that it lies in is not available on the server",
    TooLarge: "it is larger than the server takes in one request",
    Maintenance: "the server is in maintenance",
    Throttled: "the server asks to come back later",
    Unavailable: "the server asks to come back later",
    Unsupported: "the server cannot do this",
}

_EXCEPTIONS: tuple[tuple[type[Exception], type[RemoteError], str], ...] = (
    (httpx.ConnectTimeout, Unreachable, "no connection within the time limit"),
    (httpx.PoolTimeout, Unreachable, "no connection was free within the time limit"),
    (httpx.TimeoutException, Unreachable, "no answer within the time limit"),
    (httpx.ConnectError, Unreachable, "no connection"),
    (httpx.NetworkError, Unreachable, "the connection broke"),
    (httpx.ProxyError, Unreachable, "the proxy refuses the connection"),
    (httpx.RemoteProtocolError, Unreachable, "the connection ended without an answer"),
    (httpx.UnsupportedProtocol, ProtocolViolation, "not an http or https address"),
    (httpx.InvalidURL, ProtocolViolation, "not a usable address"),
    (httpx.DecodingError, ProtocolViolation, "the reply cannot be decompressed"),
    (httpx.TooManyRedirects, ProtocolViolation, "the server redirects in circles"),
    (httpx.ProtocolError, ProtocolViolation, "the request cannot be put into HTTP"),
    (httpx.HTTPError, Unreachable, "the request failed"),
    (httpx.StreamError, Unreachable, "the connection was closed"),
)
"""First match wins; tested against every subclass of httpx's tree."""

UNCONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)
"""There was no connection yet, or no TLS on it: nothing of the request was sent."""

_IN_MAINTENANCE = "X-Nextcloud-Maintenance-Mode"
"""29.0.1 says so on OCS and pages, newer servers everywhere."""
_MAX_MESSAGE = 300
_MAX_CAUSES = 20


class Failure(msgspec.Struct, frozen=True):
    """A reply with a status that was not asked for."""

    method: str
    subject: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Meta(msgspec.Struct, frozen=True):
    message: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    meta: _Meta


class _Ocs(msgspec.Struct, frozen=True):
    ocs: _Answer


def error_of_reply(failure: Failure) -> RemoteError:
    """Return the error that a failed reply stands for, with the server's own words for people."""
    if failure.status < 400:
        return _unexpected_success(failure)
    exception, message = parse_error(failure.body)
    kind = (
        (Maintenance if failure.headers.get(_IN_MAINTENANCE, "").strip() == "1" else None)
        or _BY_CLASS.get((failure.status, exception))
        or _BY_METHOD.get((failure.status, failure.method))
        or _BY_STATUS.get(failure.status)
        or ServerFault
    )
    sentence = _SENTENCES.get(kind, f"the server answered {failure.status}")
    words = printable(message or _ocs_message(failure.body), _MAX_MESSAGE)
    return kind(
        f"{sentence} (it says: {words})" if words else sentence,
        subject=failure.subject,
        status=failure.status,
        retry_after_s=_retry_after_s(failure.headers),
    )


def _ocs_message(body: bytes) -> str:
    """Return what an answer of the OCS API says to people, as policies of shares and passwords do (protocol.md §10)."""
    try:
        return json_of(body, _Ocs).ocs.meta.message or ""
    except msgspec.DecodeError:
        return ""


def _unexpected_success(failure: Failure) -> RemoteError:
    """Describe a 2xx or 3xx that does not fit the request: a captive portal, a proxy's page, no WebDAV at all."""
    kind = failure.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    what = "a web page" if kind == "text/html" else f"status {failure.status}"
    return ProtocolViolation(
        f"{what} came instead of a WebDAV answer to {failure.method}",
        subject=failure.subject,
        status=failure.status,
    )


def is_dav_error(body: bytes) -> bool:
    """Tell whether an error body was written by a Sabre server itself and not by something in front of it."""
    return bool(parse_error(body)[0])


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After")
    seconds = whole_number(text)
    if seconds is None and text:
        # Both by the server's clock, so that ours does not matter.
        then, now = http_date_s(text), http_date_s(headers.get("Date"))
        seconds = then - now if then and now else None
    return None if seconds is None else float(min(max(seconds, 0), 3600))


def error_of_exception(error: Exception, subject: str, *, in_body: bool = False) -> RemoteError:
    """Return our error for one of `NETWORK_ERRORS`; the caller raises it `from` the original.

    `in_body`: the reply had begun. A body that then ends before its announced end is a ProtocolViolation, because
    a listing cut like that must not be believed; a connection that breaks is Unreachable in both cases.
    """
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TlsRejected(f"the certificate is not trusted: {cause.verify_message}", subject=subject)
    if any(isinstance(cause, (socket.gaierror, UnicodeError)) for cause in causes):
        return Unreachable("the name of the server is not known", subject=subject)
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Unreachable("no encrypted connection can be made", subject=subject)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Unreachable("the server refuses the connection", subject=subject)
    if in_body and any(isinstance(cause, httpx.RemoteProtocolError) for cause in causes):
        return ProtocolViolation("the reply was cut", subject=subject)
    for known, kind, sentence in _EXCEPTIONS:
        if isinstance(error, known):
            return kind(sentence, subject=subject)
    return Unreachable("the connection failed", subject=subject)


def _causes(error: BaseException) -> list[BaseException]:
    """List an error and all that led to it: trio gathers one error per address in a group."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting and len(found) < _MAX_CAUSES:
        cause = waiting.pop(0)
        if cause is None or cause in found:
            continue
        found.append(cause)
        if isinstance(cause, BaseExceptionGroup):
            waiting.extend(cause.exceptions)
        waiting.extend((cause.__cause__, cause.__context__))
    return found

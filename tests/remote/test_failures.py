"""What failed replies and exceptions mean: decided by status, method and class, never by a message."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import httpcore
import httpx
import pytest

from cloudfs import errors
from cloudfs.errors import RemoteError
from cloudfs.remote.failures import (
    _BY_CLASS,
    _BY_METHOD,
    _BY_STATUS,
    NETWORK_ERRORS,
    Failure,
    error_of_exception,
    error_of_reply,
)


def sabre(exception: str, message: str = "a message") -> bytes:
    return (
        '<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
        f"<s:exception>{exception}</s:exception><s:message>{message}</s:message></d:error>"
    ).encode()


def reply(
    status: int, exception: str = "", method: str = "PROPFIND", headers: dict[str, str] | None = None
) -> RemoteError:
    body = sabre(exception) if exception else b""
    return error_of_reply(Failure(method, "/a", status, httpx.Headers(headers or {}), body))


@pytest.mark.parametrize(
    ("status", "exception", "method", "kind"),
    [
        (400, "OCA\\DAV\\Connector\\Sabre\\Exception\\InvalidPath", "PUT", errors.NameRefused),
        (400, "Sabre\\DAV\\Exception\\BadRequest", "PUT", errors.ServerFault),
        (401, "Sabre\\DAV\\Exception\\NotAuthenticated", "GET", errors.NotAuthenticated),
        (401, "", "GET", errors.NotAuthenticated),
        (403, "Sabre\\DAV\\Exception\\Forbidden", "PUT", errors.Forbidden),
        (404, "Sabre\\DAV\\Exception\\NotFound", "GET", errors.NotFound),
        (404, "Sabre\\DAV\\Exception\\NotFound", "PUT", errors.ParentMissing),
        (405, "Sabre\\DAV\\Exception\\MethodNotAllowed", "MKCOL", errors.AlreadyExists),
        (405, "", "PROPFIND", errors.Unsupported),
        (409, "Sabre\\DAV\\Exception\\Conflict", "MKCOL", errors.ParentMissing),
        (409, "Sabre\\DAV\\Exception\\Conflict", "MOVE", errors.ParentMissing),
        (409, "", "PROPFIND", errors.ServerFault),
        (412, "Sabre\\DAV\\Exception\\PreconditionFailed", "GET", errors.Changed),
        (412, "Sabre\\DAV\\Exception\\PreconditionFailed", "MOVE", errors.AlreadyExists),
        (413, "", "PUT", errors.TooLarge),
        (415, "Sabre\\DAV\\Exception\\ReportNotSupported", "REPORT", errors.Unsupported),
        (415, "OCA\\DAV\\Connector\\Sabre\\Exception\\UnsupportedMediaType", "PUT", errors.ContentRefused),
        (415, "OCA\\DAV\\Connector\\Sabre\\Exception\\UnsupportedMediaType", "MOVE", errors.ContentRefused),
        (416, "Sabre\\DAV\\Exception\\RequestedRangeNotSatisfiable", "GET", errors.Changed),
        (423, "OCA\\DAV\\Connector\\Sabre\\Exception\\FileLocked", "PUT", errors.Locked),
        (429, "OCA\\DAV\\Connector\\Sabre\\Exception\\TooManyRequests", "GET", errors.Throttled),
        (500, "OCP\\Lock\\LockedException", "MOVE", errors.Locked),
        (500, "Error", "GET", errors.ServerFault),
        (501, "Sabre\\DAV\\Exception\\NotImplemented", "LOCK", errors.Unsupported),
        (502, "", "GET", errors.ServerFault),
        (503, "OCA\\DAV\\Exception\\ServerMaintenanceMode", "GET", errors.Maintenance),
        (503, "OCP\\Files\\StorageNotAvailableException", "GET", errors.StorageAway),
        (503, "Sabre\\DAV\\Exception\\ServiceUnavailable", "GET", errors.StorageAway),
        (503, "", "GET", errors.Unavailable),
        (507, "Sabre\\DAV\\Exception\\InsufficientStorage", "PUT", errors.QuotaExceeded),
        (418, "", "GET", errors.ServerFault),
    ],
)
def test_statuses(status: int, exception: str, method: str, kind: type[RemoteError]) -> None:
    error = reply(status, exception, method)
    assert type(error) is kind
    assert (error.status, error.subject) == (status, "/a")


def test_maintenance_is_told_by_a_header_too() -> None:
    headers = {"X-Nextcloud-Maintenance-Mode": "1", "Retry-After": "120"}
    error = reply(503, headers=headers)
    assert type(error) is errors.Maintenance
    assert error.retry_after_s == 120


def test_every_entry_of_the_tables_is_used() -> None:
    for (status, name), kind in _BY_CLASS.items():
        assert type(reply(status, f"Any\\{name}")) is kind
    for (status, method), kind in _BY_METHOD.items():
        assert type(reply(status, method=method)) is kind
    for status, kind in _BY_STATUS.items():
        assert type(reply(status, method="PROPPATCH")) is kind


@pytest.mark.parametrize(
    ("status", "temporary"), [(400, False), (403, False), (423, True), (500, True), (507, False)]
)
def test_temporary_is_what_may_pass(status: int, temporary: bool) -> None:
    assert reply(status).temporary is temporary


def test_people_read_the_servers_words() -> None:
    error = error_of_reply(Failure("PUT", "/a", 507, {}, sabre("X", "Insufficient space\n in /q2.bin \x7f")))
    assert str(error) == "/a: the account has no room for it (it says: Insufficient space in /q2.bin)"


def test_people_read_the_words_of_policies() -> None:
    """Those of shares and passwords come by OCS. SOURCE: protocol.md §10, measured with Nextcloud 29.0.1."""
    body = (
        b'{"ocs":{"meta":{"status":"failure","statuscode":403,"message":"Password is among the 1,000,000 most common'
        b' ones. Please make it unique."},"data":[]}}'
    )
    error = error_of_reply(Failure("POST", "shares", 403, {}, body))
    assert type(error) is errors.Forbidden
    assert str(error) == (
        "shares: the server does not allow it (it says: Password is among the 1,000,000 most common ones."
        " Please make it unique.)"
    )
    for other in (
        b"",
        b"{}",
        b'{"ocs":{"meta":{"message":7}}}',
        b'{"ocs":{"meta":{"message":null}}}',
        b"{" * 100_000,
    ):
        assert (
            str(error_of_reply(Failure("POST", "shares", 403, {}, other)))
            == "shares: the server does not allow it"
        )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "999999"}, 3600.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Sun, 22 Nov 2026 11:00:01 GMT", "Date": "Sun, 22 Nov 2026 10:59:01 GMT"}, 60.0),
        ({"Retry-After": "Sun, 22 Nov 2026 11:00:01 GMT"}, None),
    ],
)
def test_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    assert reply(503, headers=headers).retry_after_s == seconds


def test_a_web_page_is_no_answer() -> None:
    error = reply(200, headers={"Content-Type": "text/html; charset=utf-8"})
    assert type(error) is errors.ProtocolViolation
    assert "web page" in str(error)


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


HTTPX = [*subclasses(httpx.HTTPError), httpx.InvalidURL, *subclasses(httpx.StreamError)]


@pytest.mark.parametrize("kind", HTTPX, ids=lambda kind: kind.__name__)
def test_every_error_of_httpx_has_a_meaning(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "secret in a message")
    assert isinstance(error, NETWORK_ERRORS)
    ours = error_of_exception(error, "/a")
    assert isinstance(ours, errors.Unreachable | errors.ProtocolViolation)
    assert "secret" not in str(ours)


def test_every_error_of_httpcore_is_one_that_httpx_translates() -> None:
    for kind in (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.TimeoutException,
        httpcore.ProxyError,
    ):
        assert issubclass(kind, NETWORK_ERRORS) or kind is httpcore.ProxyError


def chained(outer: Exception, *causes: BaseException) -> Exception:
    current: BaseException = outer
    for cause in causes:
        current.__cause__ = cause
        current = cause
    return outer


def test_the_cause_decides() -> None:
    untrusted = ssl.SSLCertVerificationError(1, "self-signed")
    untrusted.verify_message = "self-signed certificate"
    connect = httpx.ConnectError("x")
    error = error_of_exception(chained(connect, OSError(), untrusted), "h")
    assert type(error) is errors.TlsRejected
    assert not error.temporary
    assert "self-signed certificate" in str(error)
    refused = OSError()
    refused.__cause__ = ExceptionGroup("", [ConnectionRefusedError(111, "refused")])
    for cause, words in [
        (socket.gaierror(-2, "x"), "name of the server"),
        (ssl.SSLError(1, "wrong version"), "encrypted"),
        (refused, "refuses"),
        (OSError(101, "unreachable"), "no connection"),
    ]:
        error = error_of_exception(chained(httpx.ConnectError("x"), cause), "h")
        assert type(error) is errors.Unreachable
        assert words in str(error)


def test_a_body_that_is_cut_is_not_just_a_lost_connection() -> None:
    cut = httpx.RemoteProtocolError("peer closed connection")
    assert type(error_of_exception(cut, "/a")) is errors.Unreachable
    assert type(error_of_exception(cut, "/a", in_body=True)) is errors.ProtocolViolation
    assert type(error_of_exception(httpx.ReadError("reset"), "/a", in_body=True)) is errors.Unreachable

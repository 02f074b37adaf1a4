"""Refusals, with the XML body SabreDAV gives them (protocol.md §13)."""

from __future__ import annotations

from xml.sax.saxutils import escape

SABRE = "Sabre\\DAV\\Exception\\"
NEXTCLOUD = "OCA\\DAV\\Connector\\Sabre\\Exception\\"

REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    206: "Partial Content",
    207: "Multi-Status",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Requested Range Not Satisfiable",
    423: "Locked",
    424: "Failed Dependency",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}

_EXCEPTIONS = {
    400: SABRE + "BadRequest",
    401: SABRE + "NotAuthenticated",
    403: SABRE + "Forbidden",
    404: SABRE + "NotFound",
    405: SABRE + "MethodNotAllowed",
    409: SABRE + "Conflict",
    412: SABRE + "PreconditionFailed",
    415: SABRE + "UnsupportedMediaType",
    416: SABRE + "RequestedRangeNotSatisfiable",
    423: NEXTCLOUD + "FileLocked",
    501: SABRE + "NotImplemented",
    507: SABRE + "InsufficientStorage",
}


class DavError(Exception):
    """A refused request: answered with ``status`` and SabreDAV's error body.

    ``exception`` defaults to the class SabreDAV raises for that status; ``extra`` is XML put after the message;
    ``headers`` are sent with the refusal (a 412 carries the current ETag).
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        exception: str | None = None,
        extra: str = "",
        namespaces: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.exception = exception or _EXCEPTIONS[status]
        self.extra = extra
        self.namespaces = namespaces
        self.headers = headers or {}

    def body(self) -> bytes:
        """The reply body, byte for byte as SabreDAV formats it."""
        message = f"<s:message>{escape(self.message)}</s:message>" if self.message else "<s:message/>"
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n'
            f'<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns"{self.namespaces}>\n'
            f"  <s:exception>{escape(self.exception)}</s:exception>\n"
            f"  {message}\n{self.extra}</d:error>\n"
        ).encode()


class FrontEndError(Exception):
    """A refusal by the web server in front of the DAV application: an HTML page, no XML (protocol.md §2.4)."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status

    def body(self) -> bytes:
        """nginx's page for this status."""
        title = f"{self.status} {REASONS[self.status]}"
        return (
            f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
            "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
        ).encode()


def not_implemented(method: str) -> DavError:
    """501 for a method nobody handles."""
    return DavError(
        501, f"There was no plugin in the system that was willing to handle this {method} method."
    )


def precondition_failed(message: str, header: str, etag: str | None = None) -> DavError:
    """412 that names the header it is about, with the resource's current ETag where SabreDAV sends it."""
    return DavError(
        412,
        message,
        extra=f"  <s:header>{header}</s:header>\n",
        headers={"ETag": etag} if etag is not None else None,
    )


def invalid_path(message: str) -> DavError:
    """400 for a name the server does not store (protocol.md §2.4)."""
    return DavError(
        400,
        message,
        exception=NEXTCLOUD + "InvalidPath",
        namespaces=' xmlns:o="http://owncloud.org/ns"',
        extra=f'  <o:retry xmlns:o="o:">false</o:retry>\n  <o:reason xmlns:o="o:">{escape(message)}</o:reason>\n',
    )


def insufficient_storage(path: str, required_bytes: int, available_bytes: int) -> DavError:
    """507 when the quota (or the disk) does not hold what is announced (protocol.md §6)."""
    return DavError(
        507, f"Insufficient space in {path}, {required_bytes} required, {available_bytes} available"
    )


def locked(path: str, holders: str, *, as_server_error: bool = False) -> DavError:
    """423, or the 500 that MOVE makes of the same lock (protocol.md §14)."""
    message = f'"{path}" is locked, existing lock on file: {holders}'
    if as_server_error:
        return DavError(500, message, exception="OCP\\Lock\\LockedException")
    return DavError(423, message)

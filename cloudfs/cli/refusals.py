"""What goes wrong on the way to a login, in sentences."""

from __future__ import annotations

from cloudfs.errors import (
    ExitCode,
    Forbidden,
    NotAuthenticated,
    NotFound,
    ProtocolViolation,
    RemoteError,
    TlsRejected,
    Unavailable,
    Unreachable,
    Unsupported,
    UserError,
)

__all__ = ["explain"]

_SENTENCES: tuple[tuple[type[RemoteError], str, str, ExitCode], ...] = (
    (
        TlsRejected,
        "There is no safe connection to {url}: {detail}.",
        "If it comes from your own certificate authority, name its file with --ca-file FILE.",
        ExitCode.UNTRUSTED_CERTIFICATE,
    ),
    (
        Unavailable,
        "{url} is in maintenance or overloaded: {detail}.",
        "Try again later.",
        ExitCode.UNREACHABLE,
    ),
    (
        Unreachable,
        "{url} cannot be reached: {detail}.",
        "Check the address and the network.",
        ExitCode.UNREACHABLE,
    ),
    (
        NotAuthenticated,
        "{url} does not accept this user name and password.",
        "Check both. Where a second factor is asked for, log in in a browser: `cloudfs login {url}`.",
        ExitCode.WRONG_PASSWORD,
    ),
    (
        Forbidden,
        "{url} does not let this user in: {detail}.",
        "Check the address and the user name.",
        ExitCode.NOT_WEBDAV,
    ),
    (
        NotFound,
        "There is no such folder: {url}.",
        "Check the path; for a Nextcloud its plain address is enough, like https://cloud.example.org.",
        ExitCode.NOT_WEBDAV,
    ),
    (
        ProtocolViolation,
        "{url} is no WebDAV server: {detail}.",
        "Use the address of a Nextcloud, or of a WebDAV folder as its provider tells it.",
        ExitCode.NOT_WEBDAV,
    ),
    (
        Unsupported,
        "{url} is no WebDAV server: {detail}.",
        "Use the address of a Nextcloud, or of a WebDAV folder as its provider tells it.",
        ExitCode.NOT_WEBDAV,
    ),
)


def explain(error: RemoteError, url: str) -> UserError:
    """Turn what went wrong on the way to a login into a sentence, a next step and an exit code."""
    for kind, sentence, hint, code in _SENTENCES:
        if isinstance(error, kind):
            detail = error.message
            return UserError(sentence.format(url=url, detail=detail), hint=hint.format(url=url), code=code)
    if not error.temporary:
        # As mod_dav's 400 for a file with a slash, and nginx's for a port that wants TLS: waiting would not help.
        return UserError(
            f"{url} refuses the request: {error.message}.",
            hint="Check the address: it has to be that of a Nextcloud, or of a WebDAV folder.",
            code=ExitCode.NOT_WEBDAV,
        )
    message = f"{url} answered with an error: {error.message}."
    return UserError(message, hint="Try again later.", code=ExitCode.UNREACHABLE)

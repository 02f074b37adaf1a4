"""The one tree of errors, and the one table that turns them into errno.

    CloudfsError
    ├── PosixError            an answer of the file system itself; carries its errno
    ├── UserError             a mistake a person can mend: one sentence, next step, fixed exit code
    ├── BaseLost              an edited file's base version is gone from the server before it was sent
    ├── LocalDamage           our own database, cache or staging is not what it must be
    ├── ChecksumMismatch      what the server sends does not fit its checksum, and differs each time
    └── RemoteError           the server, or the way to it
        ├── Unreachable       no connection: DNS, refused, reset, timed out (temporary)
        │   └── TlsRejected   the certificate is not trusted (not temporary)
        ├── NotAuthenticated  401
        ├── Forbidden         403
        ├── NotFound          404 of a healthy WebDAV server: the only proof of absence
        │   └── ParentMissing 404 or 409 while creating
        ├── AlreadyExists     405 on MKCOL, 412 with If-None-Match: * or Overwrite: F
        ├── Changed           412: the object is not the version that we named
        ├── ConditionRefused  412, though it is
        ├── Locked            423, and 500 with LockedException (temporary)
        ├── QuotaExceeded     507
        ├── NameRefused       400 InvalidPath and relatives
        ├── ContentRefused    415 to an upload: a virus scanner, or a rule of the server
        ├── TooLarge          413
        ├── Unsupported       405, 415, 501
        ├── ServerFault       other 4xx, 5xx (5xx is temporary)
        │   ├── StorageAway   503 of one storage inside the account (temporary)
        │   └── Unavailable   503 (temporary, may name a time to wait)
        │       ├── Maintenance 503 of a Nextcloud in maintenance, or that waits for an upgrade
        │       └── Throttled 429: to come earlier than told makes it worse
        └── ProtocolViolation an answer that cannot be believed: HTML, wrong length, bad XML, foreign href

Adapters translate the errors of httpx, the OS and SQLite at their boundary and keep the cause.
Nothing here is decided by the text of a message.
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum

__all__ = [
    "INTERRUPTED",
    "AlreadyExists",
    "BaseLost",
    "Changed",
    "ChecksumMismatch",
    "CloudfsError",
    "ConditionRefused",
    "ContentRefused",
    "ExitCode",
    "Forbidden",
    "LocalDamage",
    "Locked",
    "Maintenance",
    "NameRefused",
    "NotAuthenticated",
    "NotFound",
    "ParentMissing",
    "PosixError",
    "ProtocolViolation",
    "QuotaExceeded",
    "RemoteError",
    "ServerFault",
    "StorageAway",
    "Throttled",
    "TlsRejected",
    "TooLarge",
    "Unavailable",
    "Unreachable",
    "Unsupported",
    "UserError",
    "errno_of",
    "is_interrupt",
]


INTERRUPTED = 130
"""The exit code of what SIGINT has ended, as shells have it. No ExitCode: nothing here decides to end with it."""


class ExitCode(IntEnum):
    """Exit codes of the command line. INVARIANT: a number is never reused; README.md lists them."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    PENDING = 3
    """`sync --wait` gave up, or something under the path cannot go up."""
    NOT_MOUNTED = 4
    NO_ACCOUNT = 5
    NOT_DONE = 6
    """Things are not as the command expected: it changed nothing and says what it found."""
    UNWELL = 7
    """`doctor` found a problem."""
    WRONG_PASSWORD = 10
    UNREACHABLE = 11
    UNTRUSTED_CERTIFICATE = 12
    NOT_WEBDAV = 13
    MOUNT_POINT = 20
    ALREADY_MOUNTED = 21
    NO_FUSE = 22
    BAD_CONFIG = 23


class CloudfsError(Exception):
    """Base of everything cloudfs raises on purpose."""

    errno: int = errno.EIO
    temporary: bool = False


class PosixError(CloudfsError):
    """An expected answer of the file system: goes to the program with exactly this errno."""

    def __init__(self, code: int, subject: str = "") -> None:
        super().__init__(f"{os.strerror(code)}: {subject}" if subject else os.strerror(code))
        self.errno = code


class UserError(CloudfsError):
    """One clear sentence for a person: what happened, to what, and the next step."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.INTERNAL) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class LocalDamage(CloudfsError):
    """Local state contradicts itself; the bytes involved are kept and never guessed at."""


class ChecksumMismatch(CloudfsError):
    """No two fetches of a version gave the same bytes, and none those of its checksum: none of them is served."""


class BaseLost(CloudfsError):
    """The bytes that an edit left unwritten were those of a version that the server has no longer.

    What was written is kept; nothing is mixed with another version and nothing is invented for the rest.
    """

    errno = errno.ESTALE


class RemoteError(CloudfsError):
    """A request failed. `subject` is the remote path or host it was about."""

    unsent: bool = False
    """Certainly nothing of what was asked for reached the server; False: perhaps all of it did."""

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{subject}: {message}" if subject else message)
        self.message = message
        self.subject = subject
        self.status = status
        self.retry_after_s = retry_after_s


class Unreachable(RemoteError):
    """Nothing healthy answered. Says nothing about what exists on the server."""

    errno = errno.EHOSTUNREACH
    temporary = True


class TlsRejected(Unreachable):
    """The server's certificate is not trusted here."""

    temporary = False


class NotAuthenticated(RemoteError):
    """401: stop every request of the account and ask for a new login."""

    errno = errno.EACCES


class Forbidden(RemoteError):
    """403: the server does not allow it."""

    errno = errno.EACCES


class NotFound(RemoteError):
    """404 in a WebDAV reply: the object does not exist."""

    errno = errno.ENOENT


class ParentMissing(NotFound):
    """The folder to create something in does not exist on the server."""


class AlreadyExists(RemoteError):
    """A create-only request met an existing object."""

    errno = errno.EEXIST


class Changed(RemoteError):
    """The precondition named another version than the server has: nothing was done."""

    errno = errno.ESTALE


class ConditionRefused(RemoteError):
    """The server, or a proxy before it, says that a precondition fails which a look shows to hold: nothing was done."""


class Locked(RemoteError):
    """Somebody reads or writes the file at this moment."""

    errno = errno.EBUSY
    temporary = True


class QuotaExceeded(RemoteError):
    """The account's quota does not take the whole new size (checked in full even when overwriting)."""

    errno = errno.EDQUOT


class NameRefused(RemoteError):
    """The server does not accept this name."""

    errno = errno.EINVAL


class ContentRefused(RemoteError):
    """The server looked into the content and does not take it: a virus scanner, or a rule about kinds of files."""


class TooLarge(RemoteError):
    """The body is larger than a proxy or the server takes in one request."""

    errno = errno.EFBIG


class Unsupported(RemoteError):
    """The server does not know the method or feature."""

    errno = errno.EOPNOTSUPP


class ServerFault(RemoteError):
    """Any other failure that the server reported itself; 5xx is worth another try."""

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, subject=subject, status=status, retry_after_s=retry_after_s)
        self.temporary = self._may_pass()

    def _may_pass(self) -> bool:
        return self.status is None or self.status >= 500


class StorageAway(ServerFault):
    """One storage inside the account is down, or one of its files cannot be read; the account is not."""

    errno = errno.EHOSTDOWN


class Unavailable(ServerFault):
    """Maintenance, throttling or overload: the account is offline until the server answers again."""

    errno = errno.EAGAIN

    def _may_pass(self) -> bool:
        return True


class Maintenance(Unavailable):
    """The server says that it is in maintenance: so is everything on it."""


class Throttled(Unavailable):
    """429: too many requests, or failed logins from our address. Nothing is sent before the time that it names."""


class ProtocolViolation(RemoteError):
    """An answer that is no WebDAV answer, or contradicts itself. Nothing may be concluded from it."""

    temporary = True


def errno_of(error: BaseException) -> int | None:
    """Return the errno a program gets for an expected error, None for an unexpected one."""
    if isinstance(error, CloudfsError):
        return error.errno
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return error.errno
    return None


def is_interrupt(error: BaseException) -> bool:
    """Tell whether it is Ctrl-C, and nothing else; trio wraps that once for each nursery that it ended."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_interrupt, error.exceptions))
    return isinstance(error, KeyboardInterrupt)

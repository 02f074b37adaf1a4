"""The tree of errors: complete, drawn in its docstring, and each with an answer for programs."""

from __future__ import annotations

import errno
import inspect
import os
import re

import pytest

from cloudfs import errors
from cloudfs.errors import CloudfsError, ExitCode, PosixError, RemoteError, ServerFault, TlsRejected, errno_of


def below(kind: type[CloudfsError]) -> list[type[CloudfsError]]:
    """Return every class below one, of this module."""
    found = [cls for cls in kind.__subclasses__() if cls.__module__ == errors.__name__]
    return found + [deeper for cls in found for deeper in below(cls)]


def drawn() -> dict[str, str]:
    """Read the docstring's tree: class -> class that it is drawn below."""
    tree: dict[str, str] = {}
    trail: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:│   |    )*(?:[├└]── )?)([A-Z]\w+)", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        trail = [one for one in trail if one[0] < depth]
        tree[found[2]] = trail[-1][1] if trail else ""
        trail.append((depth, found[2]))
    return tree


def test_the_docstring_draws_exactly_the_classes_there_are() -> None:
    real = {cls.__name__: cls.__bases__[0].__name__ for cls in below(CloudfsError)}
    assert drawn() == {"CloudfsError": ""} | real


def test_every_error_is_exported() -> None:
    public = {
        name for name, it in vars(errors).items() if inspect.isclass(it) and it.__module__ == errors.__name__
    }
    assert set(errors.__all__) == public | {"INTERRUPTED", "errno_of", "is_interrupt"}


@pytest.mark.parametrize("kind", below(RemoteError))
def test_every_remote_error_has_an_errno_that_exists(kind: type[RemoteError]) -> None:
    error = kind("it failed", subject="/a", status=500)
    assert errno_of(error) in errno.errorcode
    assert str(error) == "/a: it failed"
    assert isinstance(error.temporary, bool)


ERRNOS = {
    "Unreachable": errno.EHOSTUNREACH,
    "TlsRejected": errno.EHOSTUNREACH,
    "NotAuthenticated": errno.EACCES,
    "Forbidden": errno.EACCES,
    "NotFound": errno.ENOENT,
    "ParentMissing": errno.ENOENT,
    "AlreadyExists": errno.EEXIST,
    "Changed": errno.ESTALE,
    "Locked": errno.EBUSY,
    "QuotaExceeded": errno.EDQUOT,
    "NameRefused": errno.EINVAL,
    "ConditionRefused": errno.EIO,
    "ContentRefused": errno.EIO,
    "StorageAway": errno.EHOSTDOWN,
    "Maintenance": errno.EAGAIN,
    "Throttled": errno.EAGAIN,
    "TooLarge": errno.EFBIG,
    "Unsupported": errno.EOPNOTSUPP,
    "ServerFault": errno.EIO,
    "Unavailable": errno.EAGAIN,
    "ProtocolViolation": errno.EIO,
}


def test_the_errno_of_every_remote_error_is_the_documented_one() -> None:
    assert {cls.__name__: cls.errno for cls in below(RemoteError)} == ERRNOS


@pytest.mark.parametrize("kind", [cls for cls in below(RemoteError) if cls.errno == errno.ENOENT])
def test_only_a_404_means_absence(kind: type[RemoteError]) -> None:
    """Promise 2: absence is never concluded from a time-out, a 5xx or a foreign page."""
    assert issubclass(kind, errors.NotFound)


@pytest.mark.parametrize(
    ("status", "temporary"), [(None, True), (500, True), (502, True), (504, True), (400, False), (409, False)]
)
def test_a_servers_own_failure_is_worth_another_try(status: int | None, temporary: bool) -> None:
    assert ServerFault("no", status=status).temporary == temporary


def test_throttling_is_temporary_though_its_status_is_a_4xx() -> None:
    assert errors.Unavailable("slow down", status=429).temporary


def test_an_untrusted_certificate_does_not_mend_itself() -> None:
    assert not TlsRejected("self-signed").temporary


def test_a_posix_error_carries_exactly_its_errno() -> None:
    error = PosixError(errno.ENOTEMPTY, "folder")
    assert errno_of(error) == errno.ENOTEMPTY
    assert str(error) == f"{os.strerror(errno.ENOTEMPTY)}: folder"
    assert str(PosixError(errno.EBADF)) == os.strerror(errno.EBADF)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_expected(code: int) -> None:
    assert errno_of(OSError(code, "full")) == code


@pytest.mark.parametrize("error", [OSError(errno.EIO, "io"), ValueError("bug"), KeyError("bug")])
def test_anything_else_is_unexpected(error: Exception) -> None:
    assert errno_of(error) is None


def test_exit_codes_are_never_shared() -> None:
    # An IntEnum silently turns a second name of one number into an alias.
    assert len(ExitCode.__members__) == len({int(code) for code in ExitCode})
    assert [name for name, code in ExitCode.__members__.items() if code.name != name] == []


def test_exit_codes_leave_room_for_signals() -> None:
    assert all(0 <= code < 64 for code in ExitCode)


def test_a_user_error_names_the_next_step() -> None:
    error = errors.UserError("it is not mounted", hint="mount it", code=ExitCode.NOT_MOUNTED)
    assert (str(error), error.hint, error.code) == ("it is not mounted", "mount it", ExitCode.NOT_MOUNTED)

"""Asks a running daemon; plain blocking sockets, so that commands start fast."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from cloudfs.control.address import short_address
from cloudfs.control.pinning import Keep, Pinned, Pins
from cloudfs.control.protocol import (
    VERSION,
    ConflictPair,
    Decide,
    Decided,
    LoggedIn,
    Progress,
    Reply,
    Request,
    Resolution,
    Resolve,
    Status,
    SyncOutcome,
    SyncWait,
    Unmount,
    Unmounted,
    decode_line,
    encode_line,
)
from cloudfs.errors import ExitCode, UserError

__all__ = ["Client"]

T = TypeVar("T")


def _ignore(_: Progress) -> None:
    """Take no notice."""


class Client:
    """A connection to one daemon. Every method raises UserError: the daemon's own, or that it is gone."""

    def __init__(self, folder: Path, name: str, *, timeout_s: float = 30.0) -> None:
        """Connect. `timeout_s` is the longest silence of the daemon that is borne."""
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout_s)
            with short_address(folder, name) as address:
                self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise _gone(error.strerror or "it does not answer") from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; what was asked and not answered is given up by the daemon."""
        self._lines.close()
        self._socket.close()

    def status(self) -> Status:
        """Ask how things are."""
        return self._ask("status", {}, Status)

    def sync_wait(
        self, path: str = "/", timeout_s: float | None = None, *, report: Callable[[Progress], None] = _ignore
    ) -> SyncOutcome:
        """Wait until everything below `path` (in the mount) is on the server."""
        return self._ask("sync_wait", SyncWait(path, timeout_s), SyncOutcome, report)

    def unmount(self, *, lazy: bool = False) -> Unmounted:
        """Have the daemon unmount and end."""
        return self._ask("unmount", Unmount(lazy), Unmounted)

    def conflicts(self) -> list[ConflictPair]:
        """Ask which conflicts there are."""
        return self._ask("conflicts", {}, list[ConflictPair])

    def resolve(self, path: str, decision: Resolution) -> None:
        """Have a conflict decided; `path` (in the mount) is either of its two files. May take long."""
        self._socket.settimeout(None)
        self._ask("resolve", Resolve(path, decision), dict[str, object])

    def decide_deletions(self, wanted: Decide) -> Decided:
        """Answer about deletions that wait. May take long."""
        self._socket.settimeout(None)
        return self._ask("deletions", wanted, Decided)

    def pin(self, wanted: Keep, *, report: Callable[[Progress], None] = _ignore) -> Pinned:
        """Say that a path is to be kept here, or not. May take long."""
        self._socket.settimeout(None)
        return self._ask("pin", wanted, Pinned, report)

    def pins(self) -> Pins:
        """Ask what was said about that."""
        return self._ask("pins", {}, Pins)

    def log_in(self) -> LoggedIn:
        """Have the daemon go on with the login that is in its secret file now."""
        return self._ask("log_in", {}, LoggedIn)

    def _ask(
        self, method: str, params: object, kind: type[T], report: Callable[[Progress], None] = _ignore
    ) -> T:
        self._last_id += 1
        request = Request(VERSION, self._last_id, method, msgspec.Raw(msgspec.json.encode(params)))
        try:
            self._socket.sendall(encode_line(request))
            while True:
                reply = self._read(self._last_id)
                if reply.progress is not None:
                    report(reply.progress)
                    continue
                if reply.error is not None:
                    raise reply.error.as_error()
                return decode_line(bytes(reply.result), kind)
        except OSError as error:
            raise _gone(error.strerror or "it does not answer") from error
        except msgspec.MsgspecError as error:
            raise _gone(f"its answer is not understood: {error}") from error

    def _read(self, request_id: int) -> Reply:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError(0, "it ended")
        reply = decode_line(line, Reply)
        if reply.id not in {request_id, 0}:
            raise ConnectionResetError(0, "it answered something else")
        return reply


def _gone(reason: str) -> UserError:
    return UserError(
        f"The daemon of this account cannot be asked: {reason}.",
        hint="Try again; if it stays so, look at its log and end the process.",
        code=ExitCode.NOT_MOUNTED,
    )

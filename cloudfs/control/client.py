"""Asks a running daemon; plain blocking sockets, so that commands start fast."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from cloudfs.control.address import short_address
from cloudfs.control.pinning import Keep, PinMoved, Pinned, Pins
from cloudfs.control.protocol import (
    OTHER_VERSION,
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
from cloudfs.control.records import (
    Attached,
    CacheInfo,
    Checked,
    Cleared,
    FileInfo,
    FileState,
    FirstAnswer,
    Nothing,
    PathOf,
    Paused,
    Reloaded,
    WaitFor,
    Watch,
)
from cloudfs.errors import ExitCode, UserError

__all__ = ["Client", "NoSocket", "Unanswered"]

T = TypeVar("T")
E = TypeVar("E")

PATIENCE_S = 30.0
MOMENT_S = 0.3
"""Who waits longer than that for the first word is told that he does."""


def _ignore(_: object) -> None:
    """Take no notice."""


class Unanswered(UserError):
    """The daemon says nothing, nothing that is understood, or is gone."""


class NoSocket(Unanswered):
    """Nobody serves it, as long as a daemon begins, and when it has ended."""


class Client:
    """A connection to one daemon. Every method raises UserError: the daemon's own, or that it is gone."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        pid: int = 0,
        timeout_s: float | None = None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Connect. `timeout_s` is the longest silence that is borne: a daemon at work says that it lives (`server`).

        `pid`: whose socket that is, for people; 0: not known. `waiting` is around each wait that is no moment any more.
        """
        self._pid = pid
        self._waiting = waiting
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(PATIENCE_S if timeout_s is None else timeout_s)
            with short_address(folder, name) as address:
                self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            kind = NoSocket if isinstance(error, FileNotFoundError | ConnectionRefusedError) else Unanswered
            raise self._gone(error.strerror or "it does not answer", kind) from error
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
        self._ask("resolve", Resolve(path, decision), dict[str, object])

    def decide_deletions(self, wanted: Decide) -> Decided:
        """Answer about deletions that wait. May take long."""
        return self._ask("deletions", wanted, Decided)

    def pin(self, wanted: Keep, heard: Callable[[PinMoved], None] = _ignore) -> Pinned:
        """Say that a path is to be kept here, or not. May take long."""
        return self._ask("pin", wanted, Pinned, events=PinMoved, heard=heard)

    def pins(self) -> Pins:
        """Ask what was said about that."""
        return self._ask("pins", Nothing(), Pins)

    def log_in(self) -> LoggedIn:
        """Have the daemon go on with the login that is in its secret file now."""
        return self._ask("log_in", {}, LoggedIn)

    def first_answer(self, timeout_s: float) -> FirstAnswer:
        """Ask how it stands with the server, and wait for so long at most for its first answer since the mount."""
        return self._ask("first_answer", WaitFor(timeout_s), FirstAnswer)

    def pause(self) -> Paused:
        """Have nothing sent, and nothing fetched ahead, until `resume`; also after the next start."""
        return self._ask("pause", Nothing(), Paused)

    def resume(self) -> Paused:
        """Have everything go on."""
        return self._ask("resume", Nothing(), Paused)

    def reload(self) -> Reloaded:
        """Have the account's file read again; UserError BAD_CONFIG where it is wrong, which changes nothing."""
        return self._ask("reload", Nothing(), Reloaded)

    def list_files(self, path: str) -> list[FileState]:
        """Ask for a folder's members, or a file itself, as far as they are known."""
        return self._ask("list", PathOf(path), list[FileState])

    def info(self, path: str) -> FileInfo:
        """Ask for everything that is known of a file or folder."""
        return self._ask("info", PathOf(path), FileInfo)

    def annotations(self, path: str) -> Attached:
        """Ask what people have attached to a file or folder on the server."""
        return self._ask("annotations", PathOf(path), Attached)

    def cache_info(self) -> CacheInfo:
        """Ask what the cache holds."""
        return self._ask("cache", Nothing(), CacheInfo)

    def clear_cache(self) -> Cleared:
        """Have everything dropped that the server has, too."""
        return self._ask("cache_clear", Nothing(), Cleared)

    def verify_cache(self, heard: Callable[[Checked], None]) -> Checked:
        """Have everything in the cache read and compared; takes as long as the disk does."""
        return self._ask("cache_verify", Nothing(), Checked, events=Checked, heard=heard)

    def watch(self, heard: Callable[[Status], None], every_s: float = 1.0) -> None:
        """Hear of the status whenever it changes; ends with the daemon (UserError), or by what `heard` raises."""
        self._ask("watch", Watch(every_s), dict[str, object], events=Status, heard=heard)

    def _ask(  # what may come in between has a kind of its own
        self,
        method: str,
        params: object,
        kind: type[T],
        report: Callable[[Progress], None] = _ignore,
        *,
        events: type[E] = object,  # type: ignore[assignment]  # of no kind, where nobody hears of any
        heard: Callable[[E], None] = _ignore,
    ) -> T:
        """Ask, and return the result; what `report` and `heard` raise comes as it is."""
        self._last_id += 1
        request = Request(VERSION, self._last_id, method, msgspec.Raw(msgspec.json.encode(params)))
        with self._talking():
            self._socket.sendall(encode_line(request))
            self._wait_for_a_word()
        while True:
            with self._talking():
                reply = self._read(self._last_id)
                event, about = bytes(reply.event), None
                if event not in {b"", b"null"}:
                    about = decode_line(event, events)
            if reply.progress is not None:
                report(reply.progress)
            elif about is not None:
                heard(about)
            elif not event:
                return self._result(reply, kind)

    def _wait_for_a_word(self) -> None:
        """Wait until the first line of an answer can be read; TimeoutError after as long a silence as is borne."""
        if select.select([self._socket], [], [], MOMENT_S)[0]:
            return
        left_s = max((self._socket.gettimeout() or PATIENCE_S) - MOMENT_S, 0)
        with self._waiting():
            if not select.select([self._socket], [], [], left_s)[0]:
                raise TimeoutError

    def _result(self, reply: Reply, kind: type[T]) -> T:
        if reply.error is not None:
            raise reply.error.as_error()
        with self._talking():
            return decode_line(bytes(reply.result), kind)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn what goes wrong into a sentence."""
        try:
            yield
        except OSError as error:
            raise self._gone(error.strerror or "it does not answer") from error
        except msgspec.MsgspecError as error:
            raise self._gone(f"its answer is not understood: {error}") from error

    def _read(self, request_id: int) -> Reply:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError(0, "it ended")
        reply = decode_line(line, Reply)
        if reply.v != VERSION:
            raise UserError(
                f"The daemon speaks version {reply.v} of the protocol, not {VERSION}.",
                hint=OTHER_VERSION,
                code=ExitCode.NOT_MOUNTED,
            )
        if reply.id not in {request_id, 0}:
            raise ConnectionResetError(0, "it answered something else")
        return reply

    def _gone(self, reason: str, kind: type[Unanswered] = Unanswered) -> Unanswered:
        process = f"the process {self._pid}" if self._pid else "its process"
        return kind(
            f"The daemon of this account cannot be asked: {reason}.",
            hint=f"Try again; if it stays so, look at its log (`cloudfs log`) and end {process}.",
            code=ExitCode.NOT_MOUNTED,
        )

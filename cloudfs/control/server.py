"""Serves the control socket: a few clients of the same user, each line checked before anything is done."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from cloudfs.control.address import short_address
from cloudfs.control.methods import Method, parameters
from cloudfs.control.protocol import (
    MAX_LINE_BYTES,
    OTHER_VERSION,
    VERSION,
    ConflictPair,
    Decide,
    Decided,
    Fault,
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
from cloudfs.errors import CloudfsError, ExitCode, UserError

__all__ = ["Handlers", "serve"]

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
FOLLOWING, MOST_FOLLOWERS = frozenset({"watch", "sync_wait"}), 64
"""What lasts as long as the client likes takes none of those places, and so keeps nobody from being answered."""
MOST_WAITING = 256
"""So many more may wait for a place, each with a descriptor; further ones are sent away at once."""
IDLE_S, HURRY_S = 60.0, 1.0
"""A client that asks nothing for so long is sent away: it holds one of the places; sooner while others wait for one."""
SEND_S = 10.0
_LOOK_S = 1.0
"""How often a client that will ask nothing more is looked at: whether it is gone altogether."""
ALIVE_S = 10.0
"""A client that waits hears of us as often as this: it gives up after 30 s of silence (`client`)."""

Report = Callable[[Progress], Awaitable[None]]


class Handlers(Protocol):
    """What the daemon does when asked. UserErrors reach the client as they are."""

    def status(self) -> Status:
        """Answer at once, from memory."""
        ...

    async def sync_wait(self, path: str, timeout_s: float | None, report: Report) -> SyncOutcome:
        """Wait until everything below `path` is on the server, telling of progress. May be cancelled."""
        ...

    async def unmount(self, *, lazy: bool) -> Unmounted:
        """Unmount, and have the daemon end soon after; UserError when programs use the mount."""
        ...

    def conflicts(self) -> list[ConflictPair]:
        """Answer at once, from the local database."""
        ...

    async def resolve(self, path: str, decision: Resolution) -> None:
        """Carry out a decision about a conflict; UserError when nothing was done. May be cancelled."""
        ...

    async def decide_deletions(self, wanted: Decide) -> Decided:
        """Carry out the answer about deletions that wait; UserError when none do. May be cancelled."""
        ...

    async def log_in(self) -> LoggedIn:
        """Read the secret file again and go on with what it says; UserError where it cannot be used."""
        ...

    @property
    def methods(self) -> Mapping[str, Method]:
        """Further requests, by name."""
        ...


async def serve(
    folder: Path,
    name: str,
    handlers: Handlers,
    *,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; `started` once clients can connect. The socket is gone afterwards.

    `folder` must be private, and the caller alone in using `name` there: what is found is an orphan.
    """
    listener = trio.SocketListener(_listen(folder, name))
    try:
        places = _Places()

        async def serve_client(stream: trio.SocketStream) -> None:
            await _serve_client(stream, handlers, places)

        await trio.serve_listeners(serve_client, [listener], task_status=task_status)
    finally:
        (folder / name).unlink(missing_ok=True)


def _listen(folder: Path, name: str) -> trio.socket.SocketType:
    (folder / name).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(folder, name) as address:
            listener.bind(address)
            os.chmod(address, 0o600)  # noqa: PTH101  # the short address; the folder is private anyway
        listener.listen(128)  # a full queue refuses clients instead of having them wait
        return trio.socket.from_stdlib_socket(listener)
    except BaseException:
        listener.close()
        raise


class _Places:
    """How many are served at once, and who of them asks nothing at the moment. A place belongs to the client's task."""

    def __init__(self) -> None:
        self._limit = trio.CapacityLimiter(MAX_CLIENTS)
        self._idle: set[trio.CancelScope] = set()
        self._followers = 0

    async def take(self) -> bool:
        """Have a place; wait for one. False where too many do."""
        if self._has_one():
            return True
        if self._limit.statistics().tasks_waiting >= MOST_WAITING:
            return False
        if not self._limit.available_tokens:
            for scope in self._idle:
                scope.deadline = min(scope.deadline, trio.current_time() + HURRY_S)
        await self._limit.acquire()
        return True

    def give_back(self) -> None:
        """Leave the place to others, if there is one."""
        if self._has_one():
            self._limit.release()

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Give the place back for what lasts; UserError where too many do that already."""
        if self._followers >= MOST_FOLLOWERS:
            raise UserError(
                f"{MOST_FOLLOWERS} programs follow this account, or wait for it, already.",
                hint="End one of them (`cloudfs status --watch`, `cloudfs sync --wait`).",
                code=ExitCode.NOT_DONE,
            )
        self._followers += 1
        self.give_back()
        try:
            yield
        finally:
            self._followers -= 1

    def _has_one(self) -> bool:
        return trio.lowlevel.current_task() in self._limit.statistics().borrowers

    @contextlib.contextmanager
    def idle(self) -> Iterator[trio.CancelScope]:
        """Give up what is done within after a while."""
        wanted = self._limit.statistics().tasks_waiting
        with trio.move_on_after(HURRY_S if wanted else IDLE_S) as scope:
            self._idle.add(scope)
            try:
                yield scope
            finally:
                self._idle.discard(scope)


async def _serve_client(stream: trio.SocketStream, handlers: Handlers, places: _Places) -> None:
    """Talk to one client; nothing it does may end the daemon."""
    try:
        async with stream:
            uid = _peer_uid(stream.socket)
            if uid != os.geteuid():
                log.warning("refused a control client of the user %d", uid)
            else:
                await _Conversation(stream, handlers, places).run()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        log.debug("a control client went away")
    except Exception:
        log.exception("a control client could not be served")
    finally:
        places.give_back()


def _peer_uid(client: trio.socket.SocketType) -> int:
    pid_uid_gid = struct.Struct("3i")
    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, pid_uid_gid.size)
    return int(pid_uid_gid.unpack(raw)[1])


def _is_gone(client: trio.socket.SocketType) -> bool:
    """Tell whether nobody is at the other end any more. SOURCE: poll(2): POLLHUP is told though nobody asks for it."""
    poller = select.poll()
    poller.register(client.fileno(), 0)
    return bool(poller.poll(0))


class _Conversation:
    """One client: its requests one after the other."""

    def __init__(self, stream: trio.SocketStream, handlers: Handlers, places: _Places) -> None:
        self._stream = stream
        self._handlers = handlers
        self._places = places
        self._buffer = bytearray()
        self._sending = trio.Lock()

    async def run(self) -> None:
        while await self._places.take():
            with self._places.idle() as idle:
                line = await self._read_line()
            if idle.cancelled_caught:
                return
            if line is None:
                return
            if len(line) > MAX_LINE_BYTES:
                await self._fail(0, f"A request may have {MAX_LINE_BYTES} bytes.")
                return
            await self._answer(line)

    async def _read_line(self) -> bytes | None:
        """Return the next line; None at the end; more than MAX_LINE_BYTES for one that is too long."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                return bytes(self._buffer)
            chunk = await self._stream.receive_some(16 * 1024)
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _answer(self, line: bytes) -> None:
        try:
            request = decode_line(line, Request)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            await self._fail(0, f"This is no request: {error}")
            return
        if request.v != VERSION:
            await self._fail(
                request.id,
                f"The daemon speaks version {VERSION} of the protocol, not {request.v}.",
                OTHER_VERSION,
            )
            return
        if _is_gone(self._stream.socket):
            raise trio.BrokenResourceError  # what was asked long ago, of a daemon that was stopped: given up since
        # Unmounting ends the daemon, but not before it has answered.
        with trio.CancelScope(shield=request.method == "unmount"):
            await self._send(await self._reply_to(request))

    async def _reply_to(self, request: Request) -> Reply:
        try:
            return Reply(VERSION, request.id, result=await self._unless_gone(request))
        except trio.BrokenResourceError:
            raise
        except UserError as error:
            fault = Fault.of(error)
        except CloudfsError as error:
            fault = Fault(int(ExitCode.INTERNAL), str(error))
        except Exception as error:
            if isinstance(error, ExceptionGroup) and error.split(trio.BrokenResourceError)[1] is None:
                raise trio.BrokenResourceError from error  # what was told beside the work found nobody who reads
            log.exception("a control request failed unexpectedly")
            fault = Fault(int(ExitCode.INTERNAL), "The daemon failed; its log tells more.")
        return Reply(VERSION, request.id, error=fault)

    async def _unless_gone(self, request: Request) -> msgspec.Raw:
        """Carry out a request, but give up when the client goes away: nobody waits for it any more."""
        result: msgspec.Raw | None = None
        error: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_end, nursery.cancel_scope)
            nursery.start_soon(self._stay_alive, request.id)
            try:
                result = msgspec.Raw(msgspec.json.encode(await self._carry_out(request)))
            except Exception as failure:  # noqa: BLE001  # carried out of the nursery, which would wrap it
                error = failure
            nursery.cancel_scope.cancel()
        if error is not None:
            raise error
        if result is None:
            raise trio.BrokenResourceError
        return result

    async def _watch_for_end(self, scope: trio.CancelScope) -> None:
        with contextlib.suppress(OSError):
            if await self._stream.socket.recv(1, socket.MSG_PEEK):
                return  # the next request, sent early: it waits its turn
            # It may only have said all that it will.
            while not _is_gone(self._stream.socket):  # noqa: ASYNC110  # the kernel's
                await trio.sleep(_LOOK_S)
        scope.cancel()

    async def _carry_out(self, request: Request) -> object:
        if request.method not in FOLLOWING:
            return await self._look_up(request)
        with self._places.following():
            return await self._look_up(request)

    async def _look_up(self, request: Request) -> object:
        match request.method:
            case "status":
                return self._handlers.status()
            case "sync_wait":
                wait = parameters(request.params, SyncWait, request.method)

                async def report(progress: Progress) -> None:
                    await self._send(Reply(VERSION, request.id, progress=progress))

                return await self._handlers.sync_wait(wait.path, wait.timeout_s, report)
            case "unmount":
                return await self._handlers.unmount(
                    lazy=parameters(request.params, Unmount, request.method).lazy
                )
            case "conflicts":
                return self._handlers.conflicts()
            case "resolve":
                wanted = parameters(request.params, Resolve, request.method)
                await self._handlers.resolve(wanted.path, wanted.decision)
                return {}
            case "log_in":
                return await self._handlers.log_in()
            case "deletions":
                return await self._handlers.decide_deletions(
                    parameters(request.params, Decide, request.method)
                )
        return await self._look_further(request)

    async def _look_further(self, request: Request) -> object:
        carry_out = self._handlers.methods.get(request.method)
        if carry_out is None:
            raise UserError(
                f"The daemon knows no method {request.method[:40]!r}.",
                hint=OTHER_VERSION,
                code=ExitCode.USAGE,
            )

        return await carry_out(request.params, partial(self._tell, request.id))

    async def _tell(self, request_id: int, event: object) -> None:
        raw = msgspec.Raw(msgspec.json.encode(event))
        await self._send(Reply(VERSION, request_id, event=raw))

    async def _stay_alive(self, request_id: int) -> None:
        while True:
            await trio.sleep(ALIVE_S)
            await self._tell(request_id, None)

    async def _fail(self, request_id: int, message: str, hint: str = "") -> None:
        await self._send(Reply(VERSION, request_id, error=Fault(int(ExitCode.USAGE), message, hint)))

    async def _send(self, reply: Reply) -> None:
        with trio.move_on_after(SEND_S) as patience:
            async with self._sending:
                await self._stream.send_all(encode_line(reply))
        if patience.cancelled_caught:
            raise trio.BrokenResourceError

"""The daemon of one account: its process, mount and control socket, around what `works` has put together.

    python -m cloudfs.daemon ACCOUNT MOUNTPOINT [--ready-fd N]

Without --ready-fd it runs in the foreground: logs to stderr, errors as sentences there. With it, it logs to
a file and tells the starting process through the descriptor N, in one JSON line, when the mount answers or
why there is none. Imports nothing of the command line, to stay small in memory.
"""

from __future__ import annotations

import argparse
import errno
import gc
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import metadata

import msgspec
import trio

from cloudfs import config, manager
from cloudfs import log as logs
from cloudfs.blocks.trouble import NoRoom
from cloudfs.composing import compose
from cloudfs.concurrency.supervise import supervise
from cloudfs.control import server
from cloudfs.control.instance import Hold, Holder, find_holder, hold
from cloudfs.control.methods import Method, Tell, beside, method
from cloudfs.control.protocol import (
    Blocked,
    ConflictPair,
    Decide,
    Decided,
    LoggedIn,
    Progress,
    Resolution,
    Status,
    SyncOutcome,
    Unmounted,
)
from cloudfs.control.records import Watch
from cloudfs.errors import INTERRUPTED, CloudfsError, ExitCode, UserError, is_interrupt
from cloudfs.fuse.announcing import Announcer
from cloudfs.fuse.announcing_operations import AnnouncingOperations
from cloudfs.fuse.killed import end_killed
from cloudfs.fuse.mount import Session
from cloudfs.fuse.mount_point import check_fuse, claimed, locate
from cloudfs.fuse.operations import KernelCaching, Operations
from cloudfs.metrics import exposition
from cloudfs.publishing import publish
from cloudfs.secrets.memory import close_memory, is_memory_closed
from cloudfs.vault.opening import open_account
from cloudfs.wiping import wipe
from cloudfs.works import Compose, Launch, Works

__all__ = ["Ready", "main"]

log = logging.getLogger("cloudfs.daemon")  # run as a program, __name__ is another

REPORT_S = 1.0
"""How often a waiting client hears of progress; also tells it that we live."""

MOST_SILENT_S = 10.0
"""It hears less often where the counting takes long, but long before it gives us up (`control.client`, 30 s)."""


EXTENSION_S = 60
"""systemd hears every two seconds that the start takes longer by so much, while a keyring is locked."""

CHANGING_S = 150
"""So long it may take from then on: files may be encrypted or decrypted first."""

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Of files that belong to somebody else, as after a `sudo cloudfs mount`, or lie on a disk that takes nothing."""


class Ready:
    """Tells the starting process, once, how it went."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def succeed(self, mount_point: str) -> None:
        """The mount answers. Raises UserError, and with that it goes, where nobody waits for it any more."""
        manager.notify(f"READY=1\nSTATUS=mounted at {mount_point}")
        if not self._tell({"ok": True, "pid": os.getpid(), "mount_point": mount_point}):
            raise UserError("Whoever wanted it mounted has gone before it was.")

    def fail(self, error: UserError) -> None:
        """There is no mount; in the foreground a person reads it."""
        if self._descriptor is None:
            for line in filter(None, (error.message, error.hint)):
                sys.stderr.write(f"{line}\n")
        self._tell({"ok": False, "code": int(error.code), "message": error.message, "hint": error.hint})

    def _tell(self, message: dict[str, object]) -> bool:
        """Tell it; False where nobody hears it any more, as after a terminal was closed."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                with os.fdopen(descriptor, "wb") as pipe:
                    pipe.write(msgspec.json.encode(message) + b"\n")
            except BrokenPipeError:
                return False
        return True


class _Handlers:
    """Answers of the control socket."""

    def __init__(
        self, launch: Launch, works: Works, session: Session, operations: Operations, stop: trio.Event
    ) -> None:
        self._launch = launch
        self._works = works
        self._session = session
        self._operations = operations
        self._stop = stop
        self._began = time.monotonic()

    @property
    def methods(self) -> Mapping[str, Method]:
        return {"watch": method(Watch, self._watch), **self._works.methods}

    async def _watch(self, wanted: Watch, tell: Tell) -> None:
        """Tell of the status whenever it has changed; for ever."""
        last: Status | None = None
        while True:
            began_s = trio.current_time()
            status = self.status()
            said = msgspec.structs.replace(status, uptime_s=0.0, requests={})
            took_s = trio.current_time() - began_s
            if said != last:
                await tell(status)
                last = said
            # As with progress: looking must not take the time that is needed for working.
            await trio.sleep(min(max(wanted.every_s, 20 * took_s), MOST_SILENT_S))

    def figures(self) -> str:
        """Return what Prometheus is told."""
        return exposition(self.status(), self._works.traffic)

    def sentence(self) -> str:
        """Say in a line how it is."""
        facts = self._works.facts()
        parts = [f"{self._session.mount_point}: {facts.state}"]
        parts += ["paused"] if facts.paused_since is not None else []
        parts += [f"{facts.pending} to send"] if facts.pending else []
        parts += [f"{len(facts.blocked)} blocked, see `cloudfs status`"] if facts.blocked else []
        return ", ".join(parts)

    def status(self) -> Status:
        facts, account = self._works.facts(), self._launch.account
        return Status(
            version=version(),
            pid=os.getpid(),
            account=self._launch.name,
            url=account.url,
            user=account.user,
            mount_point=self._session.mount_point,
            uptime_s=round(time.monotonic() - self._began, 1),
            memory_closed=is_memory_closed(),
            requests=dict(self._operations.statistics().by_name),
            **msgspec.structs.asdict(facts),
        )

    async def sync_wait(self, path: str, timeout_s: float | None, report: server.Report) -> SyncOutcome:
        blocked: list[Blocked] | None = None
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            blocked = await beside(
                partial(self._report_progress, path, report), partial(self._works.wait_synced, path)
            )
        left = await self._works.pending_below(path)
        if blocked is not None:
            return SyncOutcome(left, blocked)
        return SyncOutcome(left, self._works.facts().blocked, timed_out=True)

    async def _report_progress(self, path: str, report: server.Report) -> None:
        while True:
            began_s = trio.current_time()
            pending = await self._works.pending_below(path)
            took_s = trio.current_time() - began_s
            await report(Progress(pending, self._works.in_flight()))
            # A large backlog is to be sent, and not to be counted again and again.
            await trio.sleep(min(max(REPORT_S, 10 * took_s), MOST_SILENT_S))

    def conflicts(self) -> list[ConflictPair]:
        return self._works.conflicts()

    async def resolve(self, path: str, decision: Resolution) -> None:
        await self._works.resolve(path, decision)

    async def decide_deletions(self, wanted: Decide) -> Decided:
        return await self._works.decide_deletions(wanted)

    async def log_in(self) -> LoggedIn:
        return await self._works.log_in()

    async def unmount(self, *, lazy: bool) -> Unmounted:
        if not lazy:
            await self._session.unmount()
        self._stop.set()
        facts = self._works.facts()
        return Unmounted(facts.pending, facts.pending_bytes)


class Condemned:
    """Whether the account is to be wiped once it has ended."""

    def __init__(self) -> None:
        self.secret: str | None = None
        """The app password that the server refuses; None: it is not to be wiped."""

    async def heed(self, works: Works, stop: trio.Event) -> None:
        """Have it end when the server says so."""
        self.secret = await works.wait_for_wipe()
        stop.set()


async def serve(
    launch: Launch, place: str, ready: Ready, compose: Compose, note: Callable[[str], None]
) -> Condemned:
    """Mount and serve until a signal, an unmount or a failure; whatever it is, the mount is gone afterwards.

    `note` hears the number of the FUSE connection, and "" once that is no more.
    """
    notifier, caching, stop, condemned = Announcer(), KernelCaching(), trio.Event(), Condemned()
    async with compose(launch, notifier, caching) as works, trio.open_nursery() as helpers:
        helpers.start_soon(_heed_signals, stop, works.reload)
        if works.names is not None:
            notifier.attach(place, works.names)
        deadline_s = launch.account.settings.request_deadline_s
        operations = AnnouncingOperations(
            works.filesystem,
            notifier,
            caching=caching,
            deadline_s=deadline_s,
            xattrs=works.xattrs,
            readers=works.readers,
        )
        others = launch.account.settings.allow_other
        session = Session(operations, place, account=launch.name, notifier=notifier, allow_other=others)
        handlers = _Handlers(launch, works, session, operations, stop)
        socket_name = launch.folders.socket_name(launch.name)
        await helpers.start(server.serve, launch.folders.runtime, socket_name, handlers)
        async with trio.open_nursery() as mounting:
            mounting.start_soon(_cancel_after, stop, mounting.cancel_scope)
            await mounting.start(_run_then_stop, session, stop)
            note(session.connection)
            log.info("mounted %s at %s", launch.name, place)
            ready.succeed(place)
            helpers.start_soon(manager.report, handlers.sentence, session.answers)
            helpers.start_soon(condemned.heed, works, stop)
            if (where := launch.account.settings.metrics) is not None:
                publishing = partial(publish, config.published_at(where), handlers.figures)
                helpers.start_soon(partial(supervise, "figures", publishing, chance=random.Random()))  # noqa: S311  # jitter
        note("")
        manager.notify("STOPPING=1")
        helpers.cancel_scope.cancel()
    log.info("unmounted %s", launch.name)
    return condemned


async def _run_then_stop(session: Session, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    await session.run(task_status=task_status)
    stop.set()  # unmounted from outside


async def _cancel_after(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


async def _heed_signals(stop: trio.Event, reload: Callable[[], object]) -> None:
    """End; or, by SIGHUP, take over what the account's file says now. To a terminal's program that means its end."""
    of_terminal = _has_terminal()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP and not of_terminal:
                try:
                    reload()
                except (
                    UserError,
                    OSError,
                ) as error:  # a mistake in the file, or trouble with a disk, and no bug
                    log.error("%s Nothing was changed.", error)  # noqa: TRY400
                continue
            log.info("ending: %s", signal.Signals(number).name)
            stop.set()


def _has_terminal() -> bool:
    """Tell whether this belongs to somebody's terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def version() -> str:
    """Return the version of cloudfs."""
    try:
        return metadata.version("cloudfs")
    except metadata.PackageNotFoundError:
        return "0"


# --- the process


def main(argv: Sequence[str] | None = None, *, compose: Compose = compose) -> int:
    """Run the daemon; returns its exit code. Errors become one sentence, here or at the starting process."""
    parser = argparse.ArgumentParser(prog="python -m cloudfs.daemon")
    parser.add_argument("account")
    parser.add_argument("mount_point")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--metrics", default="")
    arguments = parser.parse_args(argv)
    ready = Ready(arguments.ready_fd)
    try:
        # `cloudfs mount --foreground` keeps Ctrl-C back until here.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _harden()
        _run(arguments, ready, compose)
    except BaseException as error:  # the starting process hears of every failure
        if is_interrupt(error):
            return INTERRUPTED
        if not isinstance(error, Exception):
            raise
        explained = _explain(error)
        ready.fail(explained)
        return int(explained.code)
    return 0


def _harden() -> None:
    """No other user, no core file and no debugger of the same user gets at the password in memory."""
    os.umask(0o077)
    close_memory()


def _run(arguments: argparse.Namespace, ready: Ready, compose: Compose) -> None:
    folders = config.Folders.from_environment()
    folders.create()
    name = config.pick_account(folders, arguments.account)
    account = config.load_account(folders, name)
    if arguments.metrics:
        settings = msgspec.structs.replace(account.settings, metrics=arguments.metrics)
        account = msgspec.structs.replace(account, settings=settings)
    state = folders.account_state(name)
    logs.set_up(
        file=None if arguments.ready_fd is None else state / "daemon.log",
        account=name,
        debug=arguments.debug,
    )
    check_fuse(allow_other=account.settings.allow_other)
    if (holder := find_holder(state)) is not None:
        end_killed(holder.pid, holder.mount_point, holder.connection)
    with hold(state, name) as held, ExitStack() as beginning:
        _note(held, locate(arguments.mount_point), folders)
        place = beginning.enter_context(claimed(arguments.mount_point))
        _note(held, place, folders)
        # Nobody waits for what runs in the foreground, as under systemd.
        waits = partial(_wait_aloud, held, place, folders) if arguments.ready_fd is None else None
        opened = open_account(folders, name, account, waits=waits)
        launch = Launch(name, account, folders, opened)
        os.chdir("/")  # hold no folder of the starting process busy
        gc.freeze()  # modules stay: looking through them for garbage held up the loop for 35 ms each time

        def note(connection: str) -> None:
            _note(held, place, folders, "", connection)
            beginning.close()  # what is mounted there keeps others away by itself

        condemned = trio.run(serve, launch, place, ready, compose, note)
        if condemned.secret is not None:
            wipe(folders, name, config.load_account(folders, name), condemned.secret, opened)


def _note(held: Hold, place: str, folders: config.Folders, waiting: str = "", connection: str = "") -> None:
    held.note(Holder(os.getpid(), place, str(folders.runtime), waiting, connection))


def _wait_aloud(held: Hold, place: str, folders: config.Folders, sentence: str) -> None:
    """Have others know that the start takes longer, and why; "": that is over."""
    _note(held, place, folders, sentence)
    if sentence:
        manager.extend_start(sentence, EXTENSION_S)
    else:
        manager.extend_start("the keyring has answered", CHANGING_S)


def _explain(error: BaseException) -> UserError:
    """Find the sentence for a person in what ended the daemon; bugs go to the log in full."""
    first: BaseException = error
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, UserError):
        return first
    if isinstance(first, NoRoom) or getattr(first, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        log.error("the daemon ended: %s", first)
        return UserError(
            f"The local disk is full: {first}.",
            hint="Free some space and mount again; what is not on the server yet is kept.",
            code=ExitCode.NOT_DONE,
        )
    if isinstance(first, OSError) and first.filename is not None and first.errno in _NOT_OURS:
        log.error("the daemon ended: %s", first)
        return UserError(
            f"{os.fsdecode(first.filename)} cannot be used: {first.strerror}.",
            hint="Look whose it is, and at the disk that it is on.",
            code=ExitCode.NOT_DONE,
        )
    log.critical("the daemon ended", exc_info=error)
    text = str(first) if isinstance(first, CloudfsError) else f"{type(first).__name__}: {first}"
    return UserError(f"The daemon ended: {text}.", hint="Its log tells more.", code=ExitCode.INTERNAL)


if __name__ == "__main__":
    sys.exit(main())

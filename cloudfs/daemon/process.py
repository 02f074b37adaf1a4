"""The daemon of one account: its process, from the command line to its exit code; `serving` is what it does meanwhile.

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
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import msgspec
import trio

from cloudfs import config, systemd
from cloudfs import log as logs
from cloudfs.account.composing import compose
from cloudfs.account.protocol import Compose, Launch
from cloudfs.blocks.trouble import NoRoom
from cloudfs.control.instance import Hold, Holder, find_holder, hold
from cloudfs.daemon.readiness import Ready
from cloudfs.daemon.serving import serve
from cloudfs.daemon.wiping import wipe
from cloudfs.errors import INTERRUPTED, CloudfsError, ExitCode, UserError, is_interrupt
from cloudfs.fuse.killed import end_killed
from cloudfs.fuse.mount_point import check_fuse, claimed, locate
from cloudfs.secrets.memory import close_memory
from cloudfs.vault.opening import open_account

__all__ = ["main"]

log = logging.getLogger("cloudfs.daemon")

_EXTENSION_S = 60
"""systemd hears every two seconds that the start takes longer by so much, while a keyring is locked."""

_CHANGING_S = 150
"""So long it may take from then on: files may be encrypted or decrypted first."""

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Of files that belong to somebody else, as after a `sudo cloudfs mount`, or lie on a disk that takes nothing."""


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
        systemd.extend_start(sentence, _EXTENSION_S)
    else:
        systemd.extend_start("the keyring has answered", _CHANGING_S)


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

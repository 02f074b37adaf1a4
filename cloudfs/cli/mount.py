"""`cloudfs mount`."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from cloudfs.cli.common import pick_known, reachable
from cloudfs.cli.output import print_json, waiting
from cloudfs.cli.states import first_answer, warn
from cloudfs.config import Folders, account_names, published_at
from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.mount_point import absolute, check

__all__ = ["mount_account", "start_daemon"]

START_S = 60.0
"""How long a daemon may take until its mount answers."""


class Told(msgspec.Struct, frozen=True):
    """What the daemon says through its pipe."""

    ok: bool
    pid: int = 0
    mount_point: str = ""
    code: int = 1
    message: str = ""
    hint: str = ""


class Mounted(msgspec.Struct, frozen=True):
    """What was mounted, as `--json` prints it."""

    account: str
    mount_point: str
    pid: int
    state: str
    """How it stands with the server, as in `cloudfs status`; "": it has not answered yet."""
    reason: str


def mount_account(
    account: str | None,
    mount_point: str,
    *,
    foreground: bool,
    debug: bool,
    metrics: str | None = None,
    as_json: bool = False,
) -> None:
    """Mount; with `foreground` this process becomes the daemon and never returns."""
    folders = Folders.from_environment()
    mount_point = reachable(folders, mount_point) if mount_point else ""
    _require_folder(folders, account, mount_point)
    name = pick_known(folders, account)
    options = ["--debug"] if debug else []
    options += [] if metrics is None else ["--metrics", _published(metrics)]
    place = check(mount_point)
    if foreground:
        sys.stdout.flush()
        # Kept back, and with it over the exec, until the daemon can end without a word.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        command = _command(name, place, *options)
        os.execv(command[0], command)  # noqa: S606  # no shell is wanted
    with waiting(f"mounting {name} …"):
        told = start_daemon(folders, name, place, *options)
    if as_json:
        answer = first_answer(folders, name)
        state, reason = (answer.state, answer.reason) if answer is not None and answer.known else ("", "")
        print_json(Mounted(name, told.mount_point, told.pid, state, reason))
        return
    print(f"Mounted {name} at {told.mount_point} (process {told.pid}).", flush=True)
    warn(folders, name)


def _require_folder(folders: Folders, account: str | None, mount_point: str) -> None:
    """Raise UserError where the only word is an account, which whoever has forgotten the folder has typed."""
    if account is None and mount_point in account_names(folders) and not os.path.lexists(mount_point):
        raise UserError(
            f"Where is {mount_point} to be mounted? There is no folder of this name here.",
            hint=f"Name an empty folder, too: `cloudfs mount {mount_point} ~/Cloud`.",
            code=ExitCode.USAGE,
        )


def _published(metrics: str) -> str:
    """Check where figures go, as the daemon has another working folder and nobody to tell."""
    try:
        return str(published_at(metrics if metrics.isdecimal() else str(absolute(metrics))))
    except ValueError as error:
        raise UserError(
            f"--metrics: {error}.", hint="Give a file, or a port from 1024 to 65535.", code=ExitCode.USAGE
        ) from error


def _command(account: str, mount_point: str, *options: str, module: str = "cloudfs.daemon") -> list[str]:
    # -P: a folder named cloudfs where the user happens to be must not become the program.
    return [sys.executable, "-P", "-m", module, account, mount_point, *options]


def start_daemon(
    folders: Folders, account: str, mount_point: str, *options: str, module: str = "cloudfs.daemon"
) -> Told:
    """Start the daemon in a session of its own, and return once its mount answers; raises its UserError."""
    folders.create()
    log = folders.account_state(account) / "daemon.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    # What libraries and the interpreter say before logging is set up goes into the same file.
    errors = os.open(log, flags, 0o600)
    ours, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            _command(account, mount_point, "--ready-fd", str(theirs), *options, module=module),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=(theirs,),
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(errors)
        os.close(theirs)
    try:
        told = _hear(ours, process, log)
        process.returncode = 0  # it outlives us: Popen must not miss its end
        return told
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        raise
    finally:
        os.close(ours)


def _hear(pipe: int, process: subprocess.Popen[bytes], log: Path) -> Told:
    if not select.select([pipe], [], [], START_S)[0]:
        process.send_signal(signal.SIGTERM)
        raise UserError(f"The mount did not answer within {START_S:g} s.", hint=f"{log} tells why.")
    line = os.read(pipe, 64 * 1024)
    if not line:
        raise UserError(f"The daemon ended without a word (code {process.wait()}).", hint=f"{log} tells why.")
    told = msgspec.json.decode(line, type=Told)
    if not told.ok:
        process.wait()
        raise UserError(told.message, hint=told.hint, code=ExitCode(told.code))
    return told

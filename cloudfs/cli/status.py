"""`cloudfs status`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import msgspec

from cloudfs.cli.common import connect, holder_of, not_mounted, pick, version
from cloudfs.cli.output import harmless, is_screen, print_json
from cloudfs.cli.screen import screen
from cloudfs.config import Folders, load_account
from cloudfs.control.protocol import Status

__all__ = ["show_status", "watch_status"]

_HOME_AND_CLEAR = "\033[H\033[J"

_WAITING = "waiting for the keyring"


class NotMounted(msgspec.Struct, frozen=True):
    """The same object for an account without a daemon; fields that both have mean the same."""

    version: str
    account: str
    url: str
    user: str
    pid: None = None
    mount_point: None = None
    state: str = "not-mounted"


def show_status(account: str | None, *, as_json: bool) -> None:
    """Print it; raises UserError NOT_MOUNTED where there is no daemon, after the JSON if that was wanted."""
    folders = Folders.from_environment()
    name = pick(folders, account)
    holder = holder_of(folders, name)
    if as_json and (holder is None or holder.waiting):
        print_json(_without_daemon(folders, name, waits=holder is not None))
    if holder is None:
        raise not_mounted(name)
    with connect(folders, name) as client:
        status = client.status()
    if as_json:
        print_json(status)
    else:
        _print(screen(harmless(status)))


def watch_status(account: str | None, *, as_json: bool) -> None:
    """Show it anew whenever it changes, until Ctrl-C or the end of the daemon (UserError NOT_MOUNTED).

    A terminal shows one screen; elsewhere one follows the other, and as JSON each takes one line.
    """
    folders = Folders.from_environment()
    name = pick(folders, account)
    moving = is_screen(sys.stdout) and not as_json

    def show(status: Status) -> None:
        if as_json:
            sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
        else:
            sys.stdout.write(_HOME_AND_CLEAR if moving else "")
            _print(screen(harmless(status)))
            sys.stdout.write("" if moving else "\n")
        sys.stdout.flush()

    with connect(folders, name) as client:
        client.watch(show)


def _without_daemon(folders: Folders, name: str, *, waits: bool) -> NotMounted:
    record, state = load_account(folders, name), _WAITING if waits else "not-mounted"
    return NotMounted(version(), name, record.url, record.user, state=state)


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        print(line)

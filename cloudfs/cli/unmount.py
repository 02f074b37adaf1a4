"""`cloudfs unmount`."""

from __future__ import annotations

import os
import time
from shlex import quote

import msgspec

from cloudfs.cli.common import connect, holder_of, in_units, not_mounted, pick, reachable
from cloudfs.cli.output import print_json
from cloudfs.cli.sync import drain
from cloudfs.config import Folders, account_names
from cloudfs.control.client import Client
from cloudfs.control.protocol import Unmounted
from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.killed import end_killed
from cloudfs.fuse.mount_point import dead_mounts, locate
from cloudfs.fuse.mounts import MountEntry, detach, mounts_at

__all__ = ["unmount_account"]

END_S = 30.0
"""How long a daemon may take to end after it has unmounted."""


class Gone(msgspec.Struct, frozen=True):
    """What was unmounted, as `--json` prints it."""

    account: str
    mount_point: str
    pending: int | None
    """Changes that go up after the next mount; null: its daemon was dead, nobody knows."""
    pending_bytes: int | None


def unmount_account(
    what: str | None, *, lazy: bool, wait: bool, timeout_s: float | None, as_json: bool = False
) -> None:
    """Unmount an account, named or by its mount point; says in one line what still has to be sent.

    With `wait` everything is sent first, or UserError PENDING says what was not; then, and after Ctrl-C, it stays
    mounted.
    """
    folders = Folders.from_environment()
    account = _account_of(folders, what)
    holder = holder_of(folders, account) if account else None
    if account is not None and holder is not None:
        end_killed(holder.pid, holder.mount_point, holder.connection)
        holder = holder_of(folders, account)
    if account is None or holder is None:
        _clear_dead(account, what, as_json=as_json)
        return
    with connect(folders, account) as client:
        if wait:
            _drain(client, timeout_s)
        left = client.unmount(lazy=lazy)
    _wait_for_end(folders, account)
    if as_json:
        print_json(Gone(account, holder.mount_point, left.pending, left.pending_bytes))
    else:
        print(f"Unmounted {account} from {holder.mount_point}{_remaining(left)}")


def _drain(client: Client, timeout_s: float | None) -> None:
    try:
        drain(client, timeout_s=timeout_s)
    except UserError as error:
        if error.code is not ExitCode.PENDING:
            raise
        hint = f"{error.hint}\nWithout --wait it is unmounted at once, and the rest goes up after the next mount."
        raise UserError(f"{error.message} It stays mounted.", hint=hint, code=ExitCode.PENDING) from error


def _account_of(folders: Folders, what: str | None) -> str | None:
    """Return the account that is meant; None for a folder that no daemon has mounted."""
    if what is None or what in account_names(folders):
        return pick(folders, what)
    place = locate(reachable(folders, what) if what else "")
    for name in account_names(folders):
        if (holder := holder_of(folders, name)) and holder.mount_point == place:
            return name  # without a look at it: it may hang
    if "/" in what or mounts_at(place) or os.path.isdir(what):  # noqa: PTH112  # Path's fails on a dead mount
        return None
    return pick(folders, what)  # a mistyped name: say which there are


def _clear_dead(account: str | None, what: str | None, *, as_json: bool) -> None:
    """There is no daemon: take away what a killed one left, if anything."""
    if account is not None:
        dead = [entry for entry in dead_mounts() if entry.account == account]
    else:
        dead = [entry for entry in dead_mounts() if entry.path == locate(what or "")]
    if not dead:
        raise not_mounted(account) if account else _no_mount(what or "")
    for entry in dead:
        _detach(entry)
    if as_json:
        print_json(Gone(dead[-1].account or "", dead[-1].path, None, None))
        return
    names = ", ".join(sorted({entry.account or "" for entry in dead}))
    print(f"Cleared the dead mount of {names}; what was not sent yet goes up after the next mount.")


def _detach(entry: MountEntry) -> None:
    if not detach(entry.path):
        raise UserError(
            f"The dead mount {entry.path} cannot be detached.",
            hint=f"Try `sudo umount -l {quote(entry.path)}`.",
            code=ExitCode.MOUNT_POINT,
        )


def _no_mount(what: str) -> UserError:
    return UserError(
        f"{what} is no mount of cloudfs.",
        hint="`cloudfs accounts` tells what is mounted where.",
        code=ExitCode.NOT_MOUNTED,
    )


def _wait_for_end(folders: Folders, account: str) -> None:
    deadline = time.monotonic() + END_S
    while (holder := holder_of(folders, account)) is not None:
        if time.monotonic() > deadline:
            raise UserError(
                f"{account} is unmounted, but its process {holder.pid} has not ended.",
                hint="Its log tells why; it still holds the account.",
            )
        time.sleep(0.02)


def _remaining(left: Unmounted) -> str:
    if not left.pending:
        return "; everything is on the server."
    size = f" ({in_units(left.pending_bytes)})" if left.pending_bytes else ""
    if left.pending == 1:
        return f". 1 change{size} is not on the server yet; it goes up after the next mount."
    return f". {left.pending:,} changes{size} are not on the server yet; they go up after the next mount."

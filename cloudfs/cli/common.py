"""What the commands share: which account is meant, and where its daemon is."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shlex import quote

from cloudfs.cli.output import waiting
from cloudfs.config import Folders, account_names, pick_account
from cloudfs.control.client import Client, NoSocket, Unanswered
from cloudfs.control.instance import Holder, find_holder
from cloudfs.errors import ExitCode, UserError
from cloudfs.fuse.mount_point import absolute, dead_mounts
from cloudfs.fuse.mounts import MountEntry, mounts_at
from cloudfs.paths import is_below
from cloudfs.sizes import in_units
from cloudfs.wiped import find_wiped

__all__ = [
    "account_at",
    "asking",
    "client_of",
    "connect",
    "first_mount",
    "holder_of",
    "in_units",
    "mount_point_of",
    "not_mounted",
    "pick",
    "pick_known",
    "reachable",
    "version",
    "which_mount",
]

_SETTLE_S = 5.0
"""So long a daemon that has no socket yet, or none any more, is waited for: to begin, or to end."""
_LOOK_S = 0.05

_MOST_LINKS = 40
"""SOURCE: path_resolution(7)."""


def version() -> str:
    """Return the version of cloudfs."""
    from importlib import metadata  # 30 ms, for one word

    try:
        return metadata.version("cloudfs")
    except metadata.PackageNotFoundError:
        return "0"


def holder_of(folders: Folders, account: str) -> Holder | None:
    """Return the process that has the account mounted, if any."""
    return find_holder(folders.state / account)


def connect(folders: Folders, account: str) -> Client:
    """Connect to the account's daemon; UserError NOT_MOUNTED without one."""
    holder = holder_of(folders, account)
    if holder is None:
        raise not_mounted(account)
    return client_of(folders, account, holder)


@contextmanager
def asking(what: str | None) -> Iterator[tuple[str, Client]]:
    """Give the account that a name, a mount point or a path in a mount means (None: the only one), and its daemon."""
    folders = Folders.from_environment()
    account = account_at(folders, what)
    with connect(folders, account) as client:
        yield account, client


def mount_point_of(account: str) -> str:
    """Return where an account is mounted, to be put before paths of the mount; "" where it no longer is."""
    holder = holder_of(Folders.from_environment(), account)
    return holder.mount_point.rstrip("/") if holder else ""


def client_of(folders: Folders, account: str, holder: Holder, *, timeout_s: float | None = None) -> Client:
    """Connect to a daemon that was found; `timeout_s` is the longest silence that is borne, None: the usual one.

    One that is just beginning or ending is waited for, but no mounted one that has lost its socket. Raises UserError
    NOT_MOUNTED.
    """
    until = time.monotonic() + (_SETTLE_S if timeout_s is None else min(timeout_s, _SETTLE_S))
    former: Holder | None = None
    found: Holder | None = holder
    while found is not None:
        if found.waiting:
            raise UserError(
                f"The account {account} is not mounted yet, it is {found.waiting}",
                hint="Unlock the keyring: it is mounted then.",
                code=ExitCode.NOT_MOUNTED,
            )
        try:
            return Client(
                Path(found.socket_folder),
                folders.socket_name(account),
                pid=found.pid,
                timeout_s=timeout_s,
                waiting=partial(waiting, f"waiting for the daemon of {account} …"),
            )
        except NoSocket as error:
            # Looked at twice, as at a beginning it may be its forerunner's note.
            if found.connection and found == former and mounts_at(found.mount_point):
                raise _deaf(account, found) from error
            if time.monotonic() > until:
                raise Unanswered(
                    f"The account {account} is just being mounted or unmounted, by the process {found.pid}.",
                    hint=f"Try again; if it stays so, look at its log (`cloudfs log {account}`).",
                    code=ExitCode.NOT_MOUNTED,
                ) from error
        time.sleep(_LOOK_S)
        former, found = found, holder_of(folders, account)
    raise not_mounted(account)


def _deaf(account: str, holder: Holder) -> Unanswered:
    where = f"mounted at {holder.mount_point}, but its control socket in {holder.socket_folder} is gone"
    return Unanswered(
        f"The account {account} is {where}.",
        hint=f"`fusermount3 -u {quote(holder.mount_point)}` ends it, and nothing is lost; then mount it again.",
        code=ExitCode.NOT_MOUNTED,
    )


def not_mounted(account: str) -> UserError:
    """Say that an account is not mounted, and of the mount that a killed daemon left."""
    left = [entry for entry in dead_mounts() if entry.account == account]
    if left:
        return _dead(left[-1])
    return UserError(
        f"The account {account} is not mounted.",
        hint=f"Mount it with `cloudfs mount {account} FOLDER`.",
        code=ExitCode.NOT_MOUNTED,
    )


def _dead(entry: MountEntry) -> UserError:
    return UserError(
        f"The mount of the account {entry.account} at {entry.path} is dead: its process is gone.",
        hint=f"Mount it again with `cloudfs mount {entry.account} {quote(entry.path)}`: nothing is lost, and"
        f" what was not sent yet goes up then. `cloudfs unmount {entry.account}` only takes the dead mount away.",
        code=ExitCode.NOT_MOUNTED,
    )


def resolved(path: str) -> str:
    """Return the absolute path without symbolic links; does not fail on what is missing or dead."""
    return os.path.realpath(absolute(path))


def which_mount(folders: Folders, path: str) -> tuple[str, str]:
    """Return the account that `path` is mounted from, and the path within the mount, beginning with /."""
    if not path:
        raise UserError(
            "The path is empty text.", hint="Name one; the current folder is `.`.", code=ExitCode.USAGE
        )
    holders = [(account, holder_of(folders, account)) for account in account_names(folders)]
    _require_answer(folders, path, holders)
    place = resolved(path)
    above = [(it.mount_point, account) for account, it in holders if it and is_below(place, it.mount_point)]
    if above:
        # One account may be mounted in another one's folder: the nearest is meant.
        mount_point, account = max(above, key=lambda found: len(found[0]))
        return account, "/" + place.removeprefix(mount_point).strip("/")
    left = [entry for entry in dead_mounts() if is_below(place, entry.path)]
    if left:
        raise _dead(left[-1])
    message = f"{path} is in no mounted account."
    if not account_names(folders):
        raise UserError(message, hint="Begin with `cloudfs login URL`.", code=ExitCode.NO_ACCOUNT)
    raise UserError(
        message, hint="`cloudfs accounts` tells what is mounted where.", code=ExitCode.NOT_MOUNTED
    )


def _require_answer(folders: Folders, path: str, holders: list[tuple[str, Holder | None]]) -> None:
    """Raise UserError where a daemon does not answer into whose mount a path leads.

    To look at what is in its mount would be to wait in the kernel, where nothing ends that.
    """
    places = {holder.mount_point: (account, holder) for account, holder in holders if holder is not None}
    while found := first_mount(path, places):
        account, holder = places.pop(found[0])
        with client_of(folders, account, holder) as client:
            client.status()


def reachable(folders: Folders, path: str) -> str:
    """Return a path that can be looked at for what is mounted there, which a daemon that hangs does not keep from it.

    A link to a mount point is that mount point. Raises UserError where the path leads into a mount whose daemon does
    not answer.
    """
    holders = [(account, holder_of(folders, account)) for account in account_names(folders)]
    found = first_mount(path, {holder.mount_point for _, holder in holders if holder is not None})
    if found is not None and not found[1]:
        return found[0]
    _require_answer(folders, path, holders)
    return path


def first_mount(path: str, mount_points: Collection[str]) -> tuple[str, bool] | None:
    """Return the first of these mount points that a path leads to, and whether it goes on from there.

    Follows links, and looks at nothing that is mounted there. None where it leads to none of them.
    """
    place, links, left = "/", 0, deque(str(absolute(path)).split("/"))
    while left:
        name = left.popleft()
        if name in {"", "."}:
            continue
        place = os.path.normpath(os.path.join(place, name))  # noqa: PTH118  # texts
        if place in mount_points:
            return place, any(it not in {"", "."} for it in left)
        try:
            target = os.readlink(place)  # noqa: PTH115  # a text
        except OSError:
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        left.extendleft(reversed(target.split("/")))
        place = "/" if target.startswith("/") else os.path.dirname(place)  # noqa: PTH120  # a text
    return None


def account_at(folders: Folders, what: str | None) -> str:
    """Return the account that a name, a mount point or any path in a mount means; None: the only one."""
    if what is None or what in account_names(folders):
        return pick(folders, what)
    try:
        return which_mount(folders, what)[0]
    except Unanswered:
        raise  # before anything is looked at, which may be in its mount
    except UserError as error:
        if error.code is ExitCode.NOT_MOUNTED and "/" not in what and not os.path.lexists(what):
            return pick(folders, what)  # a mistyped name: say which there are
        raise


def pick(folders: Folders, account: str | None) -> str:
    """Return the named account; without a name the only one, or the only one that is mounted."""
    if account is None:
        mounted = [name for name in account_names(folders) if holder_of(folders, name)]
        if len(mounted) == 1:
            return mounted[0]
    return pick_known(folders, account)


def pick_known(folders: Folders, account: str | None) -> str:
    """Return the named account, or the only one there is; UserError NO_ACCOUNT, also of one that was wiped."""
    try:
        return pick_account(folders, account)
    except UserError as error:
        wiped = find_wiped(folders)
        if error.code is not ExitCode.NO_ACCOUNT or not wiped or (account is None and account_names(folders)):
            raise
        name = next(iter(wiped)) if account is None else account
        if name not in wiped:
            raise
        hint = f"`cloudfs login {wiped[name].url} --account {name}` brings it back, where that is wanted."
        raise UserError(wiped[name].sentence(name), hint=hint, code=ExitCode.NO_ACCOUNT) from error

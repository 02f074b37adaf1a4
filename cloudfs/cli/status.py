"""`cloudfs status`."""

from __future__ import annotations

import datetime as dt
import sys
import time

import msgspec

from cloudfs.cli.common import connect, holder_of, in_units, not_mounted, pick, version
from cloudfs.cli.deletions import next_steps, sentence
from cloudfs.cli.pin import kept_lines
from cloudfs.config import Folders, load_account
from cloudfs.control.protocol import Status

__all__ = ["show_status"]

_CHANGES = {
    "push": "the server tells of changes by others as they happen",
    "polling": "the server is asked for changes by others",
    "on use": "changes by others show when a folder is used",
}


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
    if holder_of(folders, name) is None:
        if as_json:
            _print_json(_without_daemon(folders, name))
        raise not_mounted(name)
    with connect(folders, name) as client:
        status = client.status()
    if as_json:
        _print_json(status)
    else:
        _print(status)


def _without_daemon(folders: Folders, name: str) -> NotMounted:
    record = load_account(folders, name)
    return NotMounted(version(), name, record.url, record.user)


def _print_json(answer: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n")
    sys.stdout.flush()


_MEANING = {
    "needs-login": "log in again with `cloudfs login`; the mount then goes on by itself",
    "failing": "the server answers with nothing but errors; what is to be sent is kept and tried again and again",
    "maintenance": "what is to be sent is kept until the server takes it again",
    "throttled": "the server asks to be left alone for a while; what is to be sent is kept until then",
    "offline": "what is to be sent is kept until the server can be reached again",
}


def _when(unix_s: float) -> str:
    """Say a time as short as it is clear."""
    then, now = (dt.datetime.fromtimestamp(it).astimezone() for it in (unix_s, time.time()))
    return f"{then:%H:%M}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M}"


def _print(status: Status) -> None:
    since = "" if status.since is None else f" since {_when(status.since)}"
    reason = f" ({status.reason})" if status.reason else ""
    print(f"{status.account}: {status.user} at {status.url}")
    print(f"  mounted at  {status.mount_point} (process {status.pid})")
    print(f"  state       {status.state}{since}{reason}")
    if status.state in _MEANING:
        print(f"              {_MEANING[status.state]}")
    if status.wipe_asked:
        print(
            "  wipe        the server asks for a remote wipe of this device; nothing was removed. If it is lost or"
        )
        print(
            "              given away: `cloudfs unmount`, then `cloudfs logout --discard-changes --keep-remote`"
        )
    changes_since = time.strftime("%F %T", time.localtime(status.changes_since))
    print(f"  changes     {_CHANGES.get(status.changes, status.changes)} (since {changes_since})")
    size = f", {in_units(status.pending_bytes)}" if status.pending_bytes else ""
    print(f"  to send     {status.pending} ({status.in_flight} under way{size})")
    print(f"  conflicts   {status.conflicts}")
    print(f"  cache       {status.cache_bytes / 1e6:.1f} MB")
    for line in kept_lines(status.kept):
        print(line)
    for item in status.blocked:
        print(f"  blocked     {item.path}: {item.reason}")
        if item.next_step:
            print(f"              {item.next_step}")
    for damaged in status.damaged:
        state = (
            "readable, but not what"
            if damaged.readable
            else "not readable: each time something else comes, not what"
        )
        print(f"  checksum    {damaged.path}: {state} its checksum on the server says")
        print(f"              the server says {damaged.said}, what came has {damaged.came}")
        print(f"              {damaged.next_step}")
    for held in status.deletions:
        print(f"  waiting     {sentence(held)}")
        for line in next_steps(held):
            print(f"              {line}")

"""`cloudfs accounts`."""

from __future__ import annotations

import msgspec

from cloudfs.cli.common import client_of, holder_of
from cloudfs.cli.output import paint, print_json
from cloudfs.config import Folders, account_names, load_account
from cloudfs.errors import UserError
from cloudfs.wiped import find_wiped

__all__ = ["list_accounts"]

_PATIENCE_S = 2.0
"""One daemon that hangs must not keep the others from being shown."""


class AccountLine(msgspec.Struct, frozen=True, kw_only=True):
    """One account, as `--json` prints it."""

    name: str
    url: str = ""
    user: str = ""
    mount_point: str | None = None
    pid: int | None = None
    state: str = "not-mounted"
    """As in status; or unanswered: its daemon says nothing; or unusable: its file cannot be understood."""
    problem: str = ""


def list_accounts(*, as_json: bool) -> None:
    """Print every account there is, and how it is; none is no error."""
    folders = Folders.from_environment()
    lines = [_line(folders, name) for name in account_names(folders)]
    if as_json:
        print_json(lines)
        return
    width = max((len(line.name) for line in lines), default=0)
    for line in lines:
        print(f"{paint(line.name.ljust(width), 'bold')}  {_sentence(line)}")
    for name, wiped in find_wiped(folders).items():
        print(paint(wiped.sentence(name), "yellow"))
    if not lines:
        print("There is no account yet. Begin with `cloudfs login URL`.")


def _line(folders: Folders, name: str) -> AccountLine:
    try:
        record = load_account(folders, name)
    except UserError as error:
        return AccountLine(name=name, state="unusable", problem=error.message)
    holder = holder_of(folders, name)
    if holder is None:
        return AccountLine(name=name, url=record.url, user=record.user)
    state, problem = "unanswered", ""
    try:
        with client_of(folders, name, holder, timeout_s=_PATIENCE_S) as client:
            state = client.status().state
    except UserError as error:
        problem = error.message
    return AccountLine(
        name=name,
        url=record.url,
        user=record.user,
        mount_point=holder.mount_point,
        pid=holder.pid,
        state=state,
        problem=problem,
    )


def _sentence(line: AccountLine) -> str:
    if line.state == "unusable":
        return paint(line.problem, "red")
    where = "not mounted"
    if line.mount_point is not None:
        state = paint(line.problem or line.state, "green" if line.state == "online" else "yellow")
        where = f"{line.mount_point} ({state})"
    return f"{line.user} at {line.url}  {where}"

"""`cloudfs conflicts`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from cloudfs.cli.common import asking, connect, mount_point_of, which_mount
from cloudfs.cli.output import harmless, print_json
from cloudfs.config import Folders
from cloudfs.control.protocol import ConflictPair, Resolution
from cloudfs.errors import ExitCode, UserError

__all__ = ["decide", "list_conflicts"]

_DONE: dict[Resolution, str] = {
    "keep-mine": "your version is the file now, on the server too",
    "keep-theirs": "the server's version stays, your copy is removed",
    "keep-both": "both stay",
}


def list_conflicts(what: str | None, *, as_json: bool) -> None:
    """Print them, oldest first."""
    with asking(what) as (account, client):
        found = client.conflicts()
    if as_json:
        print_json(found)
        return
    root = mount_point_of(account)
    for pair in map(harmless, found):
        _print(pair, root)
    if not found:
        print("There are no conflicts.")
    else:
        print("Decide with `cloudfs conflicts keep-mine|keep-theirs|keep-both PATH`.")


def _print(pair: ConflictPair, root: str) -> None:
    print(f"{root}{pair.path}")
    print(f"  the server's  {_looks(pair.size, pair.modified)}")
    print(f"  yours         {_looks(pair.copy_size, pair.copy_modified)}  {pair.copy.rpartition('/')[2]}")


def _looks(size: int, modified: float) -> str:
    return f"{datetime.fromtimestamp(modified).astimezone():%Y-%m-%d %H:%M:%S}  {size:>12,} bytes"


class Done(msgspec.Struct, frozen=True):
    """A conflict that was decided, as `--json` prints it."""

    path: str
    decision: Resolution


def decide(decision: Resolution, paths: list[str], *, as_json: bool) -> None:
    """Carry out a decision for each path; goes on after one that failed, and ends with UserError NOT_DONE then."""
    folders = Folders.from_environment()
    done: list[Done] = []
    failed: list[UserError] = []
    for path in paths:
        try:
            account, inside = which_mount(folders, path)
            with connect(folders, account) as client:
                client.resolve(inside, decision)
        except UserError as error:
            failed.append(error)
            continue
        done.append(Done(path, decision))
        if not as_json:
            print(f"{harmless(path)}: {_DONE[decision]}.")
    if as_json:
        print_json(done)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(paths)} could not be done.",
            hint="\n".join(f"{error.message} {error.hint}" for error in failed),
            code=ExitCode.NOT_DONE,
        )

"""`cloudfs reload`."""

from __future__ import annotations

from cloudfs.cli.common import account_at, connect
from cloudfs.cli.output import print_json
from cloudfs.cli.screen import limit_lines
from cloudfs.config import Folders, load_account

__all__ = ["reload_account"]


def reload_account(what: str | None, *, as_json: bool) -> None:
    """Have the daemon take over the file, and print what has changed; UserError BAD_CONFIG where it is wrong."""
    folders = Folders.from_environment()
    name = account_at(folders, what)
    load_account(folders, name)  # a mistake in it is told of in any case
    with connect(folders, name) as client:
        reloaded = client.reload()
    if as_json:
        print_json(reloaded)
        return
    if reloaded.changed:
        print(f"{name}: changed {', '.join(reloaded.changed)}.")
    elif not reloaded.later:
        print(f"{name}: nothing has changed.")
    if reloaded.later:
        print(f"{name}: only the next mount will go by the new {', '.join(reloaded.later)}.")
    for line in limit_lines(reloaded.limits):
        print(line)

"""The commands that only look: their words and options. What they do is imported when one runs."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["add_to"]

JsonOption = Annotated[bool, typer.Option("--json", help="For programs: JSON.")]


def add_to(app: typer.Typer) -> None:
    """Have the command line know them."""
    app.command()(accounts)
    app.command("ls")(list_files)
    app.command()(info)
    app.command()(log)
    app.command()(reload)


def accounts(as_json: JsonOption = False) -> None:
    """List the accounts there are, where each is mounted and how it is doing."""
    from cloudfs.cli.accounts import list_accounts

    list_accounts(as_json=as_json)


def list_files(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="Files and folders in a mount.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List files with their state, and how much of each is on this machine."""
    from cloudfs.cli.files import list_files

    list_files(paths or ["."], as_json=as_json)


def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A file or folder in a mount.")],
    as_json: JsonOption = False,
) -> None:
    """Show everything that is known of a file or folder: state, versions, ids, why it is here."""
    from cloudfs.cli.files import show_info

    show_info(path, as_json=as_json)


def log(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[ACCOUNT|PATH]", help="Whose; needed only where there are several."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends it.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="NUMBER", min=0, help="So many of the last lines.")
    ] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: a JSON object in each line.")
    ] = False,
) -> None:
    """Show what a mount has to say: its log, wherever that is kept."""
    from cloudfs.cli.logs import show_log

    show_log(what, lines=lines, follow=follow, as_json=as_json)


def reload(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[ACCOUNT|PATH]", help="Whose; needed only where there are several."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have a mount go by what its account's file says now: limits of speed, what is kept here, the cache's size.

    What cannot change before the next mount is named. A file with a mistake changes nothing.
    """
    from cloudfs.cli.reload import reload_account

    reload_account(what, as_json=as_json)
